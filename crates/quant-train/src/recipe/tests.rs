//! Recipes and changes that are refused, and the messages of their errors.

use quant_core::Granularity;
use quant_nn::{FirstLast, FirstLastQuantizers};

use super::*;

const RECIPE: &str = r#"
    name = "test"
    [data]
    kind = "cifar10"
    input_size = 32
    [model]
    depth = "resnet20"
    stem = "cifar"
    width_alpha = 0.25
    [[phase]]
    name = "quantized"
    epochs = 2
    batch_size = 8
    learning_rate = 0.1
    schedule = { policy = "custom_step", steps = [1] }
    optimizer = { kind = "sgd", nesterov = true }
    [phase.quantization]
    activation = { method = "lsq", bits = 2 }
    weight = { method = "lsq", bits = 2, granularity = "per-channel" }
"#;

fn parse(text: &str) -> Result<Recipe, TrainError> {
    Recipe::parse(text, Path::new("test.toml"))
}

fn refusal(from: &str, to: &str) -> String {
    assert!(RECIPE.contains(from));
    parse(&RECIPE.replace(from, to)).unwrap_err().to_string()
}

#[test]
fn a_recipe_that_is_written_out_reads_back() {
    let recipe = parse(RECIPE).unwrap();
    assert_eq!(parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
}

fn first_last(text: &str) -> FirstLast {
    let recipe = parse(&RECIPE.replace("activation =", &format!("{text}\nactivation =")));
    let recipe = recipe.unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(parse(&recipe.to_toml().unwrap()).unwrap(), recipe, "{text}");
    recipe.phases[0].quantization.as_ref().unwrap().first_last
}

#[test]
fn the_first_and_the_last_layer_are_described_by_a_truth_value_or_a_table() {
    assert_eq!(first_last(""), FirstLast::FullPrecision);
    assert_eq!(first_last("first_last = false"), FirstLast::FullPrecision);
    assert_eq!(first_last("first_last = true"), FirstLast::LikeOthers);
    let eight = FirstLastQuantizers::new(8);
    assert_eq!(first_last("first_last = { bits = 8 }"), FirstLast::Own(eight));
    let whole = FirstLastQuantizers { bits: 4, granularity: Granularity::PerTensor };
    let said = "first_last = { bits = 4, granularity = 'per-tensor' }";
    assert_eq!(first_last(said), FirstLast::Own(whole));
    let changed = changed(&["phase.quantization.first_last.bits=5"]).unwrap();
    let quantization = changed.phases[0].quantization.as_ref().unwrap();
    assert_eq!(quantization.first_last, FirstLast::Own(FirstLastQuantizers::new(5)));
}

#[test]
fn what_the_first_and_the_last_layer_cannot_be_names_the_field() {
    for (given, part) in [
        ("8", "first_last = 8: expected true, false or a table such as { bits = 8 }"),
        ("'yes'", "expected true, false or a table such as { bits = 8 }"),
        ("{ bits = 1 }", "first_last.bits = 1: expected a whole number from 2 to 8"),
        ("{ bits = 9 }", "first_last.bits = 9: expected a whole number from 2 to 8"),
        ("{ granularity = 'per-tensor' }", "missing field `bits`"),
        ("{ bits = 8, granularty = 'per-tensor' }", "did you mean `granularity`?"),
        ("{ bits = 8, granularity = 'per-chanel' }", "did you mean"),
    ] {
        let change = format!("phase.quantization.first_last={given}");
        let text = changed(&[&change]).unwrap_err().to_string();
        assert!(text.contains(part), "{given}: {text}");
        let text = refusal("activation =", &format!("first_last = {given}\nactivation ="));
        assert!(text.contains(part), "{given}: {text}");
    }
}

#[test]
fn changes_reach_every_field() {
    let recipe = changed(&[
        "seed=7",
        "phase.learning_rate=0.5",
        "phase.quantized.quantization.weight.bits=4",
        "data.workers = 3",
        "name=other",
        "phase.schedule={ policy = 'fix' }",
    ])
    .unwrap();
    assert_eq!((recipe.seed, recipe.data.workers, recipe.name.as_str()), (7, 3, "other"));
    let phase = &recipe.phases[0];
    assert_eq!(
        (phase.learning_rate, &phase.schedule),
        (0.5, &crate::optimize::schedule::Schedule::Fix)
    );
    assert_eq!(phase.quantization.as_ref().unwrap().weight.as_ref().unwrap().bits, Some(4));
}

fn changed(changes: &[&str]) -> Result<Recipe, TrainError> {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    Recipe::parse_with(RECIPE, Path::new("test.toml"), &changes)
}

/// The user has not seen the file that a change would make, so the message does not show its lines.
#[test]
fn a_change_that_cannot_be_is_named_as_it_was_typed() {
    for (change, part) in [
        ("seed", "expected field=value"),
        ("name.x=1", "name has no fields: it takes text"),
        ("phase.epocs=3", "phase has no field `epocs`; did you mean `epochs`?"),
        ("phase.quantized.epocs=3", "phase.quantized has no field `epocs`; did you mean `epochs`?"),
        ("sead=1", "a recipe has no field `sead`; did you mean `seed`?"),
        ("data.fakes=1", "data has no field `fakes`; did you mean `fake`?"),
        (
            "phase.full.x=1",
            "no phase has the name `full`, and phases have no field of that name; the phases are \
             quantized",
        ),
        ("phase.quantised.epochs=1", "did you mean `quantized`?"),
        ("phase.quantized=1", "phase.quantized is a phase: name one of its fields"),
        ("phase.epochs=x", "phase.epochs = \"x\": expected a whole number from 1 to 1,000,000"),
        ("phase.epochs=18446744073709551615", "expected a whole number from 1 to 1,000,000"),
        ("phase.batch_size=1e12", "expected a whole number from 1 to 65,536"),
        ("data.input_size=nan", "data.input_size = nan: expected a whole number"),
        ("phase.last_batch=keeep", "expected \"drop\" or \"keep\""),
        ("phase.schedule.policy=cosine", "\"sgdr_step\" or \"cos\"; did you mean \"cos\"?"),
        ("phase.schedule=sgdr", "phase.schedule = \"sgdr\": expected a table"),
        ("phase.quantized.average={}", "found a table, expected a number"),
        ("phase.quantization.weight.bits=0", "expected a whole number from 1 to 8"),
        (
            "phase.quantization.weight.levels=4",
            "phase.quantized.quantization.weight: set either bits or levels, not both",
        ),
        (
            "phase.quantization.weight.method=ttq",
            "phase.quantized.quantization.weight: levels = 4 is not possible with the method ttq",
        ),
        ("phase.optimizer.kind=adam", "in `phase.optimizer`"),
    ] {
        let text = changed(&[change]).unwrap_err().to_string();
        assert!(text.starts_with(&format!("--set {change}: ")), "{change}: {text}");
        assert!(text.contains(part), "{change}: {text}");
        for rust in ["TOML parse error", "usize", "Some(", " | ", "recipe: ", "\n"] {
            assert!(!text.contains(rust), "{change}: {text}");
        }
    }
}

#[test]
fn of_several_changes_the_wrong_one_is_named() {
    let text = changed(&["seed=2", "phase.epochs=0", "name=x"]).unwrap_err().to_string();
    assert!(text.starts_with("--set phase.epochs=0: "), "{text}");
    // Each of these changes is valid alone.
    let pair = ["phase.schedule.policy=fix_step", "phase.schedule.steps=[1]"];
    let text = changed(&pair).unwrap_err().to_string();
    assert!(text.contains("phase.schedule"), "{text}");
    // These changes are valid only together.
    let set = ["phase.schedule={ policy = 'fix_step', every = 1, factor = 0.5 }", "seed=3"];
    assert_eq!(changed(&set).unwrap().seed, 3);
    let set = ["phase.init_key=ema", "phase.init=x.pth"];
    assert!(changed(&set).is_ok());
}

#[test]
fn a_misspelt_field_is_refused_with_the_nearest_one() {
    let text = refusal("epochs = 2", "ephocs = 2");
    assert!(text.contains("did you mean `epochs`?") && text.contains("test.toml"), "{text}");
}

#[test]
fn a_misspelt_choice_is_refused_with_the_nearest_one() {
    let text = refusal("method = \"lsq\", bits = 2 }", "method = \"lsg\", bits = 2 }");
    assert!(text.contains("did you mean `lsq`?"), "{text}");
}

#[test]
fn numbers_out_of_range_name_their_field_and_its_bounds() {
    let whole = "a whole number from 1 to 1,000,000";
    for (from, to, field, takes) in [
        ("epochs = 2", "epochs = 0", "phase.quantized.epochs", whole),
        ("epochs = 2", "epochs = 9223372036854775807", "phase.quantized.epochs", whole),
        ("batch_size = 8", "batch_size = 1e12", "phase.quantized.batch_size", "1 to 65,536"),
        ("learning_rate = 0.1", "learning_rate = -0.1", "learning_rate", "a number above 0"),
        ("learning_rate = 0.1", "learning_rate = inf", "learning_rate", "a number above 0"),
        ("width_alpha = 0.25", "width_alpha = 1e9", "model.width_alpha", "up to 16"),
        ("input_size = 32", "input_size = 1000000", "data.input_size", "1 to 4096"),
        ("bits = 2 }", "bits = 9 }", "quantization.activation.bits", "1 to 8"),
        ("bits = 2 }", "levels = 1 }", "quantization.activation.levels", "2 to 256"),
        ("steps = [1]", "steps = [-1]", "phase.quantized.schedule.steps", "0 to 1,000,000"),
        ("nesterov = true", "momentum = 1.0", "phase.quantized.optimizer.momentum", "below 1"),
    ] {
        let text = refusal(from, to);
        assert!(text.starts_with("recipe: ") && text.contains(field), "{to}: {text}");
        assert!(text.contains(takes), "{to}: {text}");
    }
    for (field, more) in [
        ("data.workers", "workers = 1000000"),
        ("data.prefetch", "prefetch = 1000000000000"),
        ("data.prefetch", "prefetch = 0"),
        ("data.eval_batch_size", "eval_batch_size = 4294967296"),
        (
            "data.train.padded-crop.padding",
            "train = [{ padded-crop = { size = 32, padding = 99999999 } }]",
        ),
        ("data.eval.resize.size", "eval = [{ resize = { size = 4294967296 } }]"),
        ("data.std", "std = [0.1, 0.0, 0.1]"),
    ] {
        let text = refusal("input_size = 32", &format!("input_size = 32\n{more}"));
        assert!(text.contains(field) && text.contains("expected"), "{more}: {text}");
    }
    for (field, more) in [
        ("accumulate.batches", "accumulate = { batches = 1000000000000 }"),
        ("extra_epochs", "extra_epochs = 9000000000000000000"),
        ("average", "average = 1.0"),
        ("focal.gamma", "focal = { gamma = -1.0 }"),
        ("mixing.mixup", "mixing = { mixup = 0.0 }"),
        ("groups.weight_decay", "groups = { weight_decay = nan }"),
        ("checkpoint_steps", "checkpoint_steps = 0"),
        ("precision.growth_steps", "precision = { compute = 'f16', growth_steps = 0 }"),
    ] {
        let text = refusal("epochs = 2", &format!("epochs = 2\n{more}"));
        assert!(text.contains(&format!("phase.quantized.{field}")), "{more}: {text}");
    }
    for (field, more) in [
        ("calibration_batches", "calibration_batches = 1000000000000"),
        ("scale_batch_size", "scale_batch_size = 0"),
        ("warm_up.steps", "warm_up = { steps = 1000000000000 }"),
        ("proximal.epochs", "proximal = { epochs = 0 }"),
        ("calibration.percentile", "calibration = { percentile = 101 }"),
    ] {
        let text = refusal("activation =", &format!("{more}\nactivation ="));
        let field = format!("phase.quantized.quantization.{field}");
        assert!(text.contains(&field), "{more}: {text}");
    }
}

/// Whole numbers of TOML are below 2^63.
#[test]
fn a_number_that_toml_does_not_have_names_its_field_and_bounds_too() {
    for number in ["18446744073709551615", "9223372036854775808", "99999999999999999999999999"] {
        let text = refusal("epochs = 2", &format!("epochs = {number}"));
        let expected = "expected a whole number from 1 to 1,000,000";
        assert_eq!(text, format!("recipe: phase.quantized.epochs = {number}: {expected}"));
    }
    let text = refusal("name = \"test\"", "name = \"test\"\nseed = 18446744073709551615");
    assert!(text.contains("seed = 18446744073709551615") && text.contains("line"), "{text}");
}

#[test]
fn a_batch_that_is_too_large_as_a_whole_is_refused() {
    let large = RECIPE.replace("batch_size = 8", "batch_size = 65536");
    assert!(parse(&large).is_ok());
    let text = parse(&large.replace("input_size = 32", "input_size = 2048")).unwrap_err();
    let text = text.to_string();
    // 2^31 / (3·2^22), rounded down.
    assert!(text.contains("phase.quantized.batch_size = 65536"), "{text}");
    assert!(text.contains("at most 170 images of 2048 pixels"), "{text}");
}

#[test]
fn a_phase_with_the_name_of_a_runs_file_is_refused() {
    for name in [
        "recipe.toml",
        "run.json",
        "log.jsonl",
        "tensorboard",
        "TensorBoard",
        "summary.json",
        "report.html",
        "Report.HTML",
        "packed.qnet",
        "lock",
    ] {
        let text = refusal("name = \"quantized\"", &format!("name = \"{name}\""));
        assert!(text.contains(&format!("phase.{name}.name")), "{name}: {text}");
        assert!(text.contains("every run has"), "{name}: {text}");
    }
    assert!(refusal("name = \"test\"", "name = \"../up\"").contains("name = ../up"));
    let second = RECIPE.find("[[phase]]").map(|at| RECIPE[at..].replace("quantized", "Quantized"));
    let text = parse(&format!("{RECIPE}{}", second.unwrap())).unwrap_err().to_string();
    assert!(text.contains("a name that no other phase has"), "{text}");
}

#[test]
fn a_quantizer_with_bits_and_levels_or_neither_is_refused_in_words() {
    let text = refusal("bits = 2 }", "bits = 2, levels = 4 }");
    let field = "recipe: phase.quantized.quantization.activation: ";
    assert_eq!(text, format!("{field}set either bits or levels, not both"));
    let text = refusal("\"lsq\", bits = 2 }", "\"lsq\" }");
    assert_eq!(text, format!("{field}set either bits or levels"));
}

fn with_policy(policy: &str) -> Result<Recipe, TrainError> {
    parse(&format!("{RECIPE}\n[[phase.policy]]\nat = {{ epoch = 1 }}\n{policy}"))
}

#[test]
fn a_policy_with_names_and_options_reads_back() {
    let policy = "layers = [0, 'layer*.conv1']\nrole = 'weight'\n\
                  change = { method = 'ttq', levels = 3, ternary_threshold = 0.1 }";
    let recipe = with_policy(policy).unwrap();
    assert_eq!(parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
    let layers = recipe.phases[0].policies[0].layers.as_ref().map(Vec::len);
    assert_eq!(layers, Some(2));
}

#[test]
fn a_policy_that_cannot_be_is_refused_with_its_field() {
    for (policy, parts) in [
        ("change = { ternary_threshold = 1.5 }", &["ternary_threshold = 1.5", "below 1"][..]),
        ("change = { closed_from = true }", &["closed_from", "did you mean `closed_form`?"]),
        (
            "change = { method = 'ttq', closed_form = true }",
            &["policy.change", "of the method fatnn"],
        ),
        ("change = {}", &["phase.quantized.policy.change: it is empty"]),
        (
            "layers = []\nchange = { bits = 2 }",
            &["phase.quantized.policy.layers: the list is empty"],
        ),
        ("layers = [true]\nchange = { bits = 2 }", &["the index or the name of a layer"]),
        ("layers = [-1]\nchange = { bits = 2 }", &["policy.layers = -1", "from 0"]),
    ] {
        let error = with_policy(policy).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
