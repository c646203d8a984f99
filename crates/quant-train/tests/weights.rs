//! Weights from files: what a phase takes from them, and files that do not say what they are of.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use common::data;
use quant_data::dataset::shapes::ShapesConfig;
use quant_nn::StateDict;
use quant_train::{
    Recipe, Run, TrainError, WeightsFile,
    events::{Event, read_log},
    weights,
};

/// Two phases, to which tests add others.
const RECIPE: &str = concat!(
    tiny!(""),
    sgd_phase!("full_precision", 1, 0.005, "clip_norm = 1.0"),
    sgd_phase!("quantized", 1, 0.001, "clip_norm = 1.0"),
    two_bits!()
);

/// A phase that changes no weights and no statistics, with these quantizers.
fn still(name: &str, fields: &str, quantization: &str) -> String {
    format!(
        "[[phase]]\nname = '{name}'\nepochs = 1\nbatch_size = 8\nlearning_rate = 0.1\n\
         frozen_batches = 1000\nschedule = {{ policy = 'fix' }}\noptimizer = {{ kind = 'sgd' }}\n\
         frozen_statistics = ['']\n{fields}\n{quantization}\n"
    )
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("tiny.toml")).unwrap()
}

fn run(folder: &Path, data: &Path, text: &str) -> Run {
    Run::create(&folder.join("runs"), recipe(text), folder, data, common::alone()).unwrap()
}

fn entries(run: &Run, phase: &str) -> StateDict {
    let state = common::state(&run.network_file(phase, false));
    StateDict::from_entries(state.entries().map(|(name, e)| (name.to_owned(), e.clone())))
}

/// For a phase: quantizers that were calibrated, and those that kept their parameters.
fn calibrated(run: &Run, wanted: &str) -> (Vec<String>, Vec<String>) {
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    let of_phase = log.into_iter().find_map(|event| match event {
        Event::Calibrated { phase, quantizers, kept, untouched } if phase == wanted => {
            assert!(untouched.is_empty());
            Some((quantizers.into_iter().map(|info| info.layer).collect(), kept))
        }
        _ => None,
    });
    of_phase.unwrap()
}

#[test]
fn quantizers_that_were_trained_are_kept_and_others_calibrated() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let lsq = |bits: u32| {
        format!(
            "[phase.quantization]\nactivation = {{ method = 'lsq', bits = 2 }}\n\
             weight = {{ method = 'lsq', bits = {bits} }}"
        )
    };
    let always = lsq(2) + "\ncalibration = 'always'";
    let phases = [
        still("same", "", &lsq(2)),
        still("always", "", &always),
        still("more_levels", "", &lsq(4)),
    ];
    let run = run(folder.path(), &data, &(RECIPE.to_owned() + &phases.concat()));
    let summary = run.execute().unwrap();
    let score = |index: usize| summary.phases[index].last;

    // Equal quantizers go on exactly.
    assert_eq!(entries(&run, "same"), entries(&run, "quantized"));
    assert_eq!(score(2), score(1));
    let (found, kept) = calibrated(&run, "same");
    assert!(found.is_empty());
    let (first, none) = calibrated(&run, "quantized");
    assert!(none.is_empty(), "a full-precision network has no quantizers to keep");
    assert_eq!(kept, first);

    let (found, kept) = calibrated(&run, "always");
    assert_eq!((found, kept.len()), (first, 0));

    let (found, kept) = calibrated(&run, "more_levels");
    assert!(!found.is_empty() && found.iter().all(|name| name.ends_with("quant_weight")));
    assert!(!kept.is_empty() && kept.iter().all(|name| name.ends_with("quant_activation")));

    without_description(&run, folder.path(), &data);
}

/// Files of other programs do not say what network they are of.
fn without_description(run: &Run, folder: &Path, data: &Path) {
    let strip = |phase: &str| {
        let path = folder.join(format!("{phase}.foreign.safetensors"));
        fs::write(&path, entries(run, phase).to_bytes().unwrap()).unwrap();
        WeightsFile::new(path)
    };
    let recipe = recipe(RECIPE);
    let evaluate =
        |file: &WeightsFile, phase| Run::evaluate(file, &recipe, phase, data, &common::alone());
    let summary = run.execute().unwrap();
    for (index, phase) in ["full_precision", "quantized"].into_iter().enumerate() {
        let found = evaluate(&strip(phase), None).unwrap();
        assert_eq!(
            (found.phase.as_deref(), found.score),
            (Some(phase), summary.phases[index].last)
        );
    }
    // Evaluation needs no training data.
    let alone = folder.join("alone");
    fs::create_dir(&alone).unwrap();
    fs::rename(data.join("val"), alone.join("val")).unwrap();
    let described = WeightsFile::new(run.network_file("quantized", false));
    let found = Run::evaluate(&described, &recipe, None, &alone, &common::alone()).unwrap();
    assert_eq!(found.score, summary.phases[1].last);
    fs::remove_dir_all(alone.join("val/disc")).unwrap();
    let error = Run::evaluate(&described, &recipe, None, &alone, &common::alone()).unwrap_err();
    assert!(matches!(error, TrainError::OtherClasses { .. }), "{error}");
    assert!(error.to_string().contains("the network has 10 classes, the data 9"), "{error}");
    fs::rename(alone.join("val"), data.join("val")).unwrap();
    let full_precision = strip("full_precision");
    let error = evaluate(&full_precision, Some("quantized")).unwrap_err().to_string();
    assert!(error.contains("full_precision.foreign") && error.contains("--phase"), "{error}");
    let error = evaluate(&full_precision, Some("nothing")).unwrap_err().to_string();
    assert!(error.contains("its phases are full_precision, quantized"), "{error}");
    let error = weights::read_network(&full_precision, &[], &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("--recipe"), "{error}");
}

/// A file with the weights of the recipe's full-precision network for another number of classes.
fn of_classes(folder: &Path, classes: usize) -> PathBuf {
    let recipe = recipe(RECIPE);
    let config = recipe.network(&recipe.phases[0], classes).unwrap();
    let path = folder.join(format!("{classes}.safetensors"));
    let network = config.init(&Device::flex()).unwrap();
    fs::write(&path, StateDict::of(&network).to_bytes().unwrap()).unwrap();
    path
}

#[test]
fn a_classifier_of_other_classes_starts_fresh_where_the_recipe_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let path = of_classes(folder.path(), 7);
    let head = RECIPE.split("[[phase]]").next().unwrap();
    let start = |fields: &str| {
        let fields = format!("init = '{}'\n{fields}", path.display());
        let recipe = recipe(&(head.to_owned() + &still("tuned", &fields, "")));
        Run::create(&folder.path().join("runs"), recipe, folder.path(), &data, common::alone())
    };
    let error = start("").err().unwrap();
    assert!(matches!(error, TrainError::Weights { .. }), "{error}");
    let text = error.to_string();
    for part in ["7.safetensors", "fc.weight", "--set phase.tuned.fresh_classifier=true"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }

    let run = start("fresh_classifier = true").unwrap();
    run.execute().unwrap();
    let (theirs, ours) = (common::state(&path), entries(&run, "tuned"));
    for (name, entry) in ours.entries() {
        let same = theirs.get(name) == Some(entry);
        assert_eq!(same, !name.starts_with("fc."), "{name}");
    }
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    for name in ["fc.weight", "fc.bias"] {
        let is_warned = log
            .iter()
            .any(|event| matches!(event, Event::Warning { message } if message.starts_with(name)));
        assert!(is_warned, "{name}");
    }
}

#[test]
fn a_missing_file_of_weights_is_named_before_a_run_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let head = RECIPE.split("[[phase]]").next().unwrap();
    let text = head.to_owned() + &still("tuned", "init = 'absent.pth'", "");
    let runs = folder.path().join("runs");
    let error =
        Run::create(&runs, recipe(&text), folder.path(), &data, common::alone()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("phase \"tuned\": init") && text.contains("absent.pth"), "{text}");
    assert!(!runs.exists());
}

#[test]
fn a_teacher_that_does_not_say_its_network_has_the_recipes_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let teacher = of_classes(folder.path(), 10);
    let head = RECIPE.split("[[phase]]").next().unwrap();
    let fields = format!("distillation = {{ teacher = '{}' }}", teacher.display());
    let quantizers = "[phase.quantization]\nweight = { method = 'lsq', bits = 2 }";
    run(folder.path(), &data, &(head.to_owned() + &still("taught", &fields, quantizers)))
        .execute()
        .unwrap();
}

#[test]
fn a_score_over_fewer_images_says_so_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let config = ShapesConfig { side: 16, train_per_class: 2, val_per_class: 11, seed: 1 };
    let data = config.render(folder.path()).unwrap();
    // The last of the last class: it is alone in its batch, which has no other image.
    let classes = fs::read_dir(data.join("val")).unwrap();
    let last =
        classes.map(|class| class.unwrap().file_name().into_string().unwrap()).max().unwrap();
    let broken = format!("{last}/00010.jpg");
    fs::write(data.join("val").join(&broken), b"not an image").unwrap();
    let (text, _) = RECIPE.rsplit_once("[[phase]]").unwrap();
    let text = text.replace("input_size = 32", "input_size = 32\neval_batch_size = 109");
    let run = run(folder.path(), &data, &text);
    let summary = run.execute().unwrap();
    let score = summary.full_precision.unwrap();
    assert_eq!((score.images, score.skipped), (109, 1));
    let file = |name: &str| fs::read_to_string(run.folder().join(name)).unwrap();
    assert!(file("summary.json").contains("\"skipped\": 1"));
    assert!(file("report.html").contains("on 109 images, 1 skipped"));
    assert!(file("log.jsonl").contains(&broken));
    let weights = WeightsFile::new(run.network_file("full_precision", false));
    let found = Run::evaluate(&weights, run.recipe(), None, &data, &common::alone()).unwrap();
    assert_eq!(found.score, score);
    assert!(found.skipped[0].contains(&broken), "{:?}", found.skipped);
}

#[test]
fn weights_and_teachers_of_other_classes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let full = RECIPE.split("[[phase]]\n    name = \"quantized\"").next().unwrap();
    let first = run(folder.path(), &data, full);
    first.execute().unwrap();
    let file = first.network_file("full_precision", false);
    // One of the classes has another name now, and so another place in the order of the classes.
    for part in ["train", "val"] {
        fs::rename(data.join(part).join("ring"), data.join(part).join("a_ring")).unwrap();
    }
    let from = |field: String| full.replace("epochs = 1", &format!("epochs = 1\n    {field}"));
    let warned = |text: &str| {
        let run = run(folder.path(), &data, text);
        run.execute().unwrap();
        let log = read_log(&run.folder().join("log.jsonl")).unwrap();
        let expected = "its network was trained on other classes";
        log.iter().any(|event| {
            matches!(event, Event::Warning { message } if message.contains(expected)
            && message.contains("class 0: \"a_ring\", expected"))
        })
    };
    let init = format!("init = '{}'", file.display());
    assert!(warned(&from(init.clone())));
    assert!(!warned(&from(format!("{init}\n    fresh_classifier = true"))));

    let teacher = from(format!("distillation = {{ teacher = '{}' }}", file.display()));
    let runs = folder.path().join("runs");
    let create =
        |data: &Path| Run::create(&runs, recipe(&teacher), folder.path(), data, common::alone());
    let error = create(&data).err().unwrap().to_string();
    assert!(error.contains("distillation.teacher was trained on other classes"), "{error}");
    assert!(error.contains("class 0: \"a_ring\", expected"), "{error}");
    // Own names again, and the teacher is accepted.
    for part in ["train", "val"] {
        fs::rename(data.join(part).join("a_ring"), data.join(part).join("ring")).unwrap();
    }
    create(&data).unwrap();
}
