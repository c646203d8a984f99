//! Configuration files of QTool become recipes.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{collections::BTreeMap, path::Path};

use quant_core::{Method, Role};
use quant_data::{LastBatch, Truncated};
use quant_train::{
    Recipe, TrainError,
    data::DataKind,
    loss::{DistillationKind, Reduction},
    optimizer::Optimizer,
    policy::Trigger,
    precision::PrecisionRecipe,
    qtool::{
        config::ShellConfig,
        import::{Import, import},
    },
    recipe::{KeywordModel, ModelRecipe},
    schedule::Schedule,
};

const CONFIG: &str = r#"
    dataset=imagenet
    root=$FASTDIR/imagenet
    model=resnet18
    case="dorefa 2/2"
    keyword="imagenet,origin,cbsa,fix,dorefa,pact,label-smooth"
    pretrained=weights/resnet18.pth
    train_batch=128   # per step
    val_batch=50
    epochs=90
    options=""
    options="$options --lr 0.01 --lr_policy sgdr_step --lr_custom_step 30,60 --eta_min 1e-6"
    options="$options --wd 1e-4 --custom_decay_list clip_val --custom_decay 0.001 --nesterov"
    options="$options --grad_clip 5"
    options="$options --fm_bit 2 --fm_enable --wt_bit 2 --wt_enable --stable 100 --fm_correlate 0.9"
    options="$options --iter-size 2 --warmup 10 --wakeup 20 --extra_epoch 3 --save_freq 5"
    options="$options --seed 7 --aa -j 4"
    options="$options --mixup_enable --distill_teacher t.safetensors --distill_loss_type hard"
    options="$options --policy my.policy --evaluate --device-ids 0 --nonsense 3"
"#;

fn read(text: &str) -> Result<Import, TrainError> {
    let outside = BTreeMap::from([("FASTDIR".to_owned(), "/data".to_owned())]);
    import(&ShellConfig::parse(text, &outside), |file| {
        assert_eq!(file, "my.policy");
        Ok("on epoch: 2\nby_index: all\nby_tag: wt\nlevel_num: 2\n".to_owned())
    })
}

#[test]
fn every_setting_finds_its_place() {
    let Import { recipe, data, evaluates, outcomes, warnings } = read(CONFIG).unwrap();
    assert_eq!(
        (recipe.name.as_str(), recipe.seed, data.as_deref()),
        ("dorefa-2-2", 7, Some("/data/imagenet"))
    );
    assert_eq!((recipe.data.kind, recipe.data.input_size), (DataKind::ImageFolder, 224));
    assert_eq!((recipe.data.workers, recipe.data.eval_batch_size), (4, 50));
    assert_eq!(recipe.data.train.as_ref().unwrap().0.len(), 4);
    let phase = &recipe.phases[0];
    assert_eq!((phase.epochs, phase.extra_epochs, phase.batch_size), (90, 3, 128));
    assert_eq!((phase.ramp_batches, phase.frozen_batches, phase.keep_every), (20, 10, Some(5)));
    let accumulate = phase.accumulate.unwrap();
    assert_eq!((accumulate.batches, accumulate.sum), (2, true));
    assert_eq!(
        (phase.learning_rate, phase.clip_norm, phase.label_smoothing),
        (0.01, Some(5.0), 0.1)
    );
    let Schedule::SgdrStep { steps, eta_min, restarts, .. } = &phase.schedule else { panic!() };
    assert_eq!((steps.as_slice(), *eta_min, *restarts), (&[30, 60][..], 1e-6, false));
    assert_eq!(phase.optimizer, Optimizer::Sgd { momentum: 0.9, nesterov: true });
    assert_eq!(phase.groups.exceptions[0].weight_decay, Some(0.001));
    assert_eq!(phase.mixing.unwrap().mixup, Some(0.7));
    let distillation = phase.distillation.as_ref().unwrap();
    assert_eq!((distillation.kind, distillation.weight), (DistillationKind::Hard, 0.1));
    assert_eq!(phase.init.as_deref(), Some("weights/resnet18.pth"));
    let quantization = phase.quantization.as_ref().unwrap();
    let method = |role| quantization.of(role).map(|quantizer| (quantizer.method, quantizer.bits));
    assert_eq!(method(Role::Activation), Some((Method::Pact, Some(2))));
    assert_eq!(method(Role::Weight), Some((Method::Dorefa, Some(2))));
    assert_eq!(method(Role::Output), None);
    let warm_up = quantization.warm_up.as_ref().unwrap();
    assert_eq!((warm_up.steps, warm_up.correlate), (100, 0.9));
    assert_eq!(phase.policies[0].at, Trigger::Epoch(2));
    // Every setting has an outcome, but for the one that is not known.
    let became =
        |setting: &str| outcomes.iter().find(|o| o.setting == setting).map(|o| o.became.as_str());
    assert_eq!(became("train_batch"), Some("phase.batch_size"));
    assert!(became("evaluate").unwrap().contains("quant eval") && evaluates);
    assert_eq!(became("workers"), Some("data.workers"));
    assert!(warnings.iter().any(|warning| warning.contains("nonsense")), "{warnings:?}");
    // What was written reads back.
    let again = Recipe::parse(&recipe.to_toml().unwrap(), Path::new("again.toml")).unwrap();
    assert_eq!(again, recipe);
}

#[test]
fn a_full_precision_configuration_has_no_quantizers() {
    let text = "dataset=cifar10\nmodel=resnet20\nkeyword=\"cifar10,origin,cbsa,fix\"\n\
                options=\"--lr 0.1\"";
    let recipe = read(text).unwrap().recipe;
    assert!(recipe.phases[0].quantization.is_none());
    assert_eq!((recipe.data.kind, recipe.data.input_size), (DataKind::Cifar10, 32));
    assert_eq!((recipe.phases[0].epochs, recipe.phases[0].batch_size, recipe.seed), (40, 256, 2));
}

#[test]
fn what_cannot_be_is_named() {
    for (from, to, part) in [
        ("dataset=imagenet", "dataset=mnist", "mnist"),
        ("--lr 0.01", "--lr fast", "lr"),
        ("--seed 7", "--seed seven", "--seed"),
        ("model=resnet18", "model=resnet19", "resnet19"),
        ("origin,cbsa", "origin,cbsx", "cbsx"),
        ("--aa", "--mean 1,2", "--mean"),
        ("--aa", "--seed", "--seed"),
        ("--fm_correlate 0.9", "--fm_correlate x", "fm_correlate"),
        ("--distill_loss_type hard", "--distill_loss_type loud", "loud"),
        ("--aa", "--opt_level O7", "O7"),
    ] {
        assert!(CONFIG.contains(from));
        let text = CONFIG.replace(from, to);
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{to}: {error}");
    }
}

/// A small configuration with more keywords and options.
fn small(words: &str, options: &str) -> Import {
    let text = format!(
        "dataset=cifar100\nmodel=resnet20\nkeyword='cifar100,origin,cbsa,{words}'\n\
         train_batch=128\noptions=\"{options}\"\n"
    );
    read(&text).unwrap_or_else(|error| panic!("{words}, {options}: {error}"))
}

/// What is written reads back, and makes a network.
fn check(import: &Import) {
    let recipe = Recipe::parse(&import.recipe.to_toml().unwrap(), Path::new("x.toml")).unwrap();
    recipe.network(&recipe.phases[0], 100).unwrap().validate().unwrap();
}

#[test]
fn words_that_qtool_passes_over_are_left_out_with_a_warning() {
    let import = small("debug,save,raw,mean,fix_poling,bacs,fix,fix", "");
    let ModelRecipe::Keywords(model) = &import.recipe.model else { panic!("no keywords") };
    assert_eq!(model.keywords.as_deref(), Some("cifar100,origin,cbsa,fix"));
    for part in [
        "\"debug\" is not one",
        "\"save\" is not one",
        "\"raw\" is not one",
        "\"mean\" is not one",
        "did you mean fix_pooling?",
        "QTool takes \"cbsa\" as order",
    ] {
        assert!(import.warnings.iter().any(|w| w.contains(part)), "{part}: {:?}", import.warnings);
    }
    check(&import);
    // A recipe that someone writes is not to have them.
    let mut recipe = import.recipe.clone();
    let keywords = Some("cifar100,cbsa,fix_poling".into());
    recipe.model = ModelRecipe::Keywords(KeywordModel { keywords, ..model.clone() });
    let error = recipe.validate().unwrap_err().to_string();
    assert!(error.contains("fix_poling") && error.contains("fix_pooling"), "{error}");
}

#[test]
fn a_word_without_effect_on_the_network_is_a_warning() {
    let import = small("bias,react,f1x1", "");
    for word in ["bias", "react"] {
        let named = |warning: &String| warning.contains(&format!("keyword {word}: no effect"));
        assert!(import.warnings.iter().any(named), "{word}: {:?}", import.warnings);
    }
    check(&import);
}

#[test]
fn options_of_another_method_never_refuse() {
    let odd = [
        "--fm_adaptive var-mean --wt_adaptive mean-var",
        "--fm_adaptive var --wt_adaptive var",
        "--fm_grad_type STE --wt_grad_type Triangle",
        "--fm_grad_type STE-scale --wt_grad_type STE-scale",
        "--fm_custom channel --wt_half_range",
        "--fm_quant_group 3 --wt_quant_group -7 --fm_scale .75 --fm_separator .3",
        "--fm_grad_scale none --wt_grad_scale None --ot_bit 4 --ot_grad_type x",
    ];
    for method in [
        "dorefa",
        "pact",
        "dorefa,lsq",
        "dorefa,fm_non-uniform,wt_lsq",
        "dorefa,wt_bin",
        "lq",
        "lq,wt_gamma,closed_form",
        "xnor",
        "xnor,gamma,custom-update",
    ] {
        for options in odd {
            let enabled = format!("--fm_enable --fm_bit 2 --wt_enable --wt_bit 2 {options}");
            let import = small(method, &enabled);
            assert!(import.recipe.phases[0].quantization.is_some());
            check(&import);
        }
    }
    let import = small("dorefa", "--wt_enable --wt_bit 2 --wt_grad_type STE --fm_bit 2");
    let became = |setting: &str| {
        import.outcomes.iter().find(|outcome| outcome.setting == setting).unwrap().became.clone()
    };
    assert!(became("wt_grad_type").starts_with("no effect"), "{}", became("wt_grad_type"));
    assert!(became("fm_bit").starts_with("no effect"), "{}", became("fm_bit"));
    assert_eq!(became("wt_bit"), "phase.quantization");
    assert_eq!(import.warnings.len(), 2, "{:?}", import.warnings);
}

#[test]
fn the_defaults_are_those_of_qtools_parsers() {
    let phase = |options: &str| small("fix", options).recipe.phases.remove(0);
    assert_eq!(phase("").schedule, Schedule::Decay { factor: 0.98 });
    assert_eq!(phase("").learning_rate, 0.01);
    // The level is O0.
    assert_eq!(phase("--fp16").precision, None);
    assert_eq!(phase("--opt_level O1").precision, None);
    assert_eq!(phase("--fp16 --opt_level O1").precision, Some(PrecisionRecipe::F16));
    let warned = small("fix", "--fp16").warnings;
    assert!(warned.len() == 1 && warned[0].contains("O0"), "{warned:?}");
}

#[test]
fn none_names_no_file_in_any_capitals() {
    for none in ["none", "None", "NONE"] {
        let import = small(
            "fix,dorefa",
            &format!(
                "--pretrained {none} --distill_teacher {none} --policy {none} --wt_adaptive {none} \
                      --wt_enable --wt_bit 2"
            ),
        );
        let phase = &import.recipe.phases[0];
        assert_eq!((&phase.init, &phase.distillation), (&None, &None));
        assert!(phase.policies.is_empty() && import.warnings.is_empty(), "{:?}", import.warnings);
    }
}

#[test]
fn imported_recipes_load_data_as_qtool_does() {
    let recipe = small("fix", "").recipe;
    assert_eq!(recipe.phases[0].last_batch, LastBatch::Keep);
    // CIFAR's images are no files that could be cut off.
    assert_eq!(recipe.data.truncated, Truncated::Refuse);
    let folder = read("dataset=imagenet\nmodel=resnet18\nkeyword='imagenet,origin,cbas,fix'\n")
        .unwrap()
        .recipe;
    assert_eq!(folder.data.truncated, Truncated::Accept);
}

#[test]
fn losses_of_a_teacher_are_qtools() {
    let of = |kind: &str| {
        let options = format!("--distill_teacher t.pth --distill_loss_temperature 3 {kind}");
        let recipe = small("fix", &options).recipe.phases.remove(0).distillation.unwrap();
        // With the best class as the label there are no soft targets.
        let temperature = if recipe.kind == DistillationKind::Hard { 4.0 } else { 3.0 };
        assert_eq!((recipe.weight, recipe.temperature), (0.1, temperature));
        (recipe.kind, recipe.reduction)
    };
    let soft = (DistillationKind::Soft, Reduction::Mean);
    assert_eq!([of(""), of("--distill_loss_type soft")], [soft, soft]);
    let mean = Reduction::BatchMean;
    assert_eq!(of("--distill_loss_type soft-b"), (DistillationKind::SoftCrossEntropy, mean));
    assert_eq!(of("--distill_loss_type hard"), (DistillationKind::Hard, mean));
}

/// CIFAR's 50,000 images are 391 batches of 128, the last incomplete.
#[test]
fn epochs_of_warm_up_are_counted_in_batches() {
    let options = "--stable_epoch 2 --warmup_epoch 1 --wakeup_epoch 3 --wt_enable --wt_bit 2";
    let phase = small("fix,dorefa", options).recipe.phases.remove(0);
    assert_eq!((phase.frozen_batches, phase.ramp_batches), (391, 3 * 391));
    assert_eq!(phase.quantization.unwrap().warm_up.unwrap().steps, 2 * 391);
}

#[test]
fn a_variable_acts_through_the_options_alone() {
    let text = "dataset=cifar10\nmodel=resnet20\nkeyword=cifar10,cbsa\nlr=0.5\nwd=0.3\n\
                options=\"--wd $wd\"\n";
    let import = read(text).unwrap();
    let phase = &import.recipe.phases[0];
    assert_eq!((phase.learning_rate, phase.groups.weight_decay), (0.01, 0.3));
    let lr = import.outcomes.iter().find(|outcome| outcome.setting == "lr").unwrap();
    assert!(lr.became.starts_with("no effect"), "{}", lr.became);
}

#[test]
fn the_guide_names_every_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/training.md");
    let guide = std::fs::read_to_string(path).unwrap();
    for (option, became) in quant_train::qtool::OPTIONS {
        assert!(guide.contains(&format!("| `--{option}` | {became} |\n")), "--{option}");
    }
}
