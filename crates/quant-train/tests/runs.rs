//! Whole runs on tiny data: results, exact resume, and what users get wrong.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{fs, path::Path};

use burn::{module::Module, tensor::Device};
use common::{TWO_PHASES, alone, data};
use quant_data::dataset::shapes::ShapesConfig;
use quant_train::{
    Recipe, Run, TrainError, WeightsFile,
    events::{Event, read_log},
};

fn recipe() -> Recipe {
    Recipe::parse(TWO_PHASES, Path::new("tiny.toml")).unwrap()
}

fn create(folder: &Path, data: &Path) -> Run {
    Run::create(&folder.join("runs"), recipe(), folder, data, alone()).unwrap()
}

#[test]
fn a_run_leaves_report_summary_log_and_networks() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &data(folder.path()));
    let summary = run.execute().unwrap();
    let (full, quantized) = (summary.full_precision.unwrap(), summary.quantized.unwrap());
    assert_eq!((full.images, quantized.images), (20, 20));
    assert!((0.0..=100.0).contains(&quantized.top1) && quantized.top1 <= quantized.top5);
    assert!(summary.size_bytes_packed * 2 < summary.size_bytes_float);

    let html = fs::read_to_string(run.folder().join("report.html")).unwrap();
    assert!(html.contains("layer1.0.conv1 weight, 4 levels") && html.contains("</html>"));
    let json = fs::read_to_string(run.folder().join("summary.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["quantized"]["top1"], quantized.top1);
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    let epochs = log.iter().filter(|event| matches!(event, Event::EpochFinished { .. })).count();
    assert_eq!(epochs, 3);
    let calibrated = log.iter().find_map(|event| match event {
        Event::Calibrated { quantizers, .. } => Some(quantizers),
        _ => None,
    });
    assert!(calibrated.unwrap().iter().all(|info| info.error_after < 0.5));
    for file in ["full_precision/best.safetensors", "quantized/last.safetensors"] {
        assert!(WeightsFile::new(run.folder().join(file)).read().is_ok(), "{file}");
    }
}

fn last_network(run: &Run) -> Vec<u8> {
    fs::read(run.folder().join("quantized/last.safetensors")).unwrap()
}

/// Makes a finished run look as if it had been stopped when a checkpoint had just been written.
fn cut_back(run: &Run, step: usize) {
    let phase = run.folder().join("quantized");
    fs::remove_file(phase.join("result.json")).unwrap();
    fs::remove_file(phase.join("last.safetensors")).unwrap();
    let kept = format!("step-{step:09}");
    for entry in fs::read_dir(phase.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with(&kept) {
            fs::remove_dir_all(path).unwrap();
        }
    }
    assert!(phase.join("checkpoints").join(kept).is_dir());
}

#[test]
fn resuming_in_the_middle_of_an_epoch_gives_the_same_bits() {
    let quantizers = [
        r#"activation = { method = "lsq", bits = 2 }
           weight = { method = "lsq", bits = 2 }"#,
        // Warm-up, proximal share and losses go on where they were.
        r#"activation = { method = "lsq-step", bits = 2, loss = { kind = "l2", factor = 0.1 } }
           weight = { method = "dorefa", bits = 2 }
           warm_up = { steps = 10, correlate = 0.9, roles = ["activation"] }
           proximal = { epochs = 4.0 }"#,
        // Parameters of other shapes, and values that follow the data.
        r#"activation = { method = "n2uq", bits = 2 }
           weight = { method = "lq-nets", bits = 2 }
           output = { method = "xnor", bits = 1, shift = true, granularity = "per-channel" }"#,
    ];
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    for (index, quantizers) in quantizers.into_iter().enumerate() {
        let mut text = TWO_PHASES.split("activation =").next().unwrap().to_owned() + quantizers;
        if index == 2 {
            let adam = "optimizer = { kind = \"adamw\" }";
            text = text.replace("optimizer = { kind = \"sgd\" }", adam);
        }
        let recipe = Recipe::parse(&text, Path::new("tiny.toml")).unwrap();
        let runs = folder.path().join(format!("runs-{index}"));
        let run = Run::create(&runs, recipe, folder.path(), &data, alone()).unwrap();
        let summary = run.execute().unwrap();
        let whole = last_network(&run);
        // 5 steps an epoch: the two newest checkpoints are those of steps 9 and 10; 9 is inside the
        // second epoch.
        cut_back(&run, 9);
        let resumed = Run::resume(run.folder(), None, alone()).unwrap();
        assert_eq!(resumed.execute().unwrap(), summary);
        assert!(last_network(&run) == whole, "{index}: the weights differ");
    }
}

/// Stopped after every single step and resumed, a run ends with the bits of an uninterrupted one.
#[test]
fn a_run_that_is_asked_to_stop_saves_first_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let whole = create(folder.path(), &data);
    let summary = whole.execute().unwrap();

    let asked = || {
        let options = alone();
        options.stop.ask();
        options
    };
    let run = Run::create(&folder.path().join("runs"), recipe(), folder.path(), &data, asked());
    let folder = run.unwrap().folder().to_owned();
    let mut steps = Vec::new();
    let resumed = loop {
        let run = Run::resume(&folder, None, asked()).unwrap();
        match run.execute() {
            Err(TrainError::Stopped { step, .. }) => steps.push(step),
            other => break other.unwrap(),
        }
    };
    // 5 steps in full precision and 10 quantized.
    assert_eq!(steps, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(resumed.quantized, summary.quantized);
    assert!(resumed == summary, "the summaries differ");
    let last = fs::read(folder.join("quantized/last.safetensors")).unwrap();
    assert!(last == last_network(&whole), "the weights differ");
}

#[test]
fn training_aids_that_cannot_be_are_named() {
    for (aid, field) in [
        ("proximal = { epochs = 0.0 }", "proximal.epochs"),
        ("proximal = { start = 1.5, epochs = 3.0 }", "proximal.start"),
        ("warm_up = { steps = 5, correlate = -1.0 }", "warm_up.correlate"),
    ] {
        let error =
            Recipe::parse(&format!("{TWO_PHASES}\n{aid}"), Path::new("tiny.toml")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(field) && text.contains("quantized"), "{text}");
    }
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &data(folder.path()));
    run.execute().unwrap();
    let whole = last_network(&run);
    let phase = run.folder().join("quantized");
    fs::remove_file(phase.join("result.json")).unwrap();
    let newest = phase.join("checkpoints/step-000000010/network.bpk");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    Run::resume(run.folder(), None, alone()).unwrap().execute().unwrap();
    assert!(last_network(&run) == whole, "the weights differ");
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    let warned = log.iter().any(
        |event| matches!(event, Event::Warning { message } if message.contains("step-000000010")),
    );
    assert!(warned);
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &data(folder.path()));
    run.execute().unwrap();
    cut_back(&run, 10);
    let path = run.folder().join("recipe.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("learning_rate = 0.01", "learning_rate = 0.02")).unwrap();
    let error = Run::resume(run.folder(), None, alone()).unwrap().execute().unwrap_err();
    assert!(matches!(&error, TrainError::OtherRecipe { .. }), "{error}");
}

#[test]
fn weights_of_another_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let run = create(folder.path(), &data);
    run.execute().unwrap();
    let wider = TWO_PHASES.replace("width_alpha = 0.04", "width_alpha = 0.08");
    let mut other = Recipe::parse(&wider, Path::new("wider.toml")).unwrap();
    other.phases.truncate(1);
    let weights = run.folder().join("full_precision/last.safetensors");
    other.phases[0].init = Some(weights.display().to_string());
    let runs = folder.path().join("runs");
    let error = Run::create(&runs, other, folder.path(), &data, alone()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("another shape") && text.contains("conv1.weight"), "{text}");
}

#[test]
fn broken_images_are_named_in_the_log_and_too_many_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = ShapesConfig { side: 16, train_per_class: 11, val_per_class: 1, seed: 1 };
    let data = config.render(folder.path()).unwrap();
    let mut recipe = recipe();
    recipe.phases.truncate(1);
    let run = |recipe: Recipe| {
        let runs = folder.path().join("runs");
        Run::create(&runs, recipe, folder.path(), &data, alone()).unwrap()
    };
    let damage = |names: &[&str]| {
        names.iter().for_each(|name| fs::write(data.join("train").join(name), b"not one").unwrap());
    };
    // A handful of 110 images, then one more.
    let handful = ["disc/00003.jpg", "ring/00001.jpg", "ring/00002.jpg", "ring/00003.jpg"];
    damage(&handful);
    damage(&["star/00000.jpg"]);
    let first = run(recipe.clone());
    first.execute().unwrap();
    let log = read_log(&first.folder().join("log.jsonl")).unwrap();
    let named = log.iter().any(|event| {
        matches!(event, Event::ImageSkipped { reason } if reason.contains("disc/00003.jpg"))
    });
    assert!(named);
    damage(&["star/00001.jpg"]);
    // An epoch has 13 full batches of 8 images.
    let text = run(recipe.clone()).execute().unwrap_err().to_string();
    assert!(text.contains("of 104 images") && text.contains("data.max_broken = 0.01"), "{text}");
    let broken = [&handful[..], &["star/00000.jpg", "star/00001.jpg"]].concat();
    let named = broken.iter().filter(|name| text.contains(**name)).count();
    assert_eq!(named, 5, "{text}");
    recipe.data.max_broken = 0.06;
    run(recipe.clone()).execute().unwrap();
    recipe.data.max_broken = 0.0;
    let text = run(recipe).execute().unwrap_err().to_string();
    assert!(text.contains("more than the 0"), "{text}");
}

#[test]
fn a_folder_that_is_no_run_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let error = Run::resume(folder.path(), None, alone()).err().unwrap();
    assert!(error.to_string().contains("recipe.toml"), "{error}");
}

#[test]
fn data_is_looked_at_before_a_run_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let error = Run::create(&runs, recipe(), folder.path(), folder.path(), alone()).err().unwrap();
    assert!(error.to_string().contains("train"), "{error}");
    assert!(!runs.exists());
}

#[test]
fn a_write_that_fails_leaves_the_checkpoint_before_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &data(folder.path()));
    run.execute().unwrap();
    cut_back(&run, 10);
    // A file where the next phase's folder is to be: as unwritable as a full disk, for root too.
    let best = run.folder().join("quantized/last.safetensors");
    fs::create_dir(&best).unwrap();
    let error = Run::resume(run.folder(), None, alone()).unwrap().execute().unwrap_err();
    assert!(error.to_string().contains("last.safetensors"), "{error}");
    assert!(run.folder().join("quantized/checkpoints/step-000000010/network.bpk").is_file());
    fs::remove_dir(&best).unwrap();
    Run::resume(run.folder(), None, alone()).unwrap().execute().unwrap();
}

#[test]
fn a_snapshot_of_a_network_does_not_share_its_running_statistics() {
    let device = Device::flex().autodiff();
    let config = recipe().network(&recipe().phases[0], 10).unwrap();
    let network = config.init(&device).unwrap();
    let snapshot = quant_nn::StateDict::of(&network.valid());
    network.forward(burn::tensor::Tensor::ones([2, 3, 32, 32], &device));
    assert_ne!(quant_nn::StateDict::of(&network), snapshot);
}

/// The running statistics of fresh batch norms fit nothing: with them, the activations of a deep
/// network without skips would shrink from layer to layer, and clipping values with them.
#[test]
fn a_phase_from_random_weights_calibrates_on_normalised_activations() {
    let text = r#"
        name = "random"
        data = { kind = "fake", input_size = 32, fake = { train = 32, val = 8, classes = 4 } }
        model = { architecture = "mobilenet-v1", width_alpha = 0.125 }
        [[phase]]
        name = "quantized"
        epochs = 1
        batch_size = 16
        learning_rate = 0.001
        [phase.quantization]
        activation = { method = "lsq", bits = 4 }
        weight = { method = "lsq", bits = 4, granularity = "per-channel" }
    "#;
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::parse(text, Path::new("random.toml")).unwrap();
    let path = folder.path();
    let run = Run::create(&path.join("runs"), recipe, path, path, alone()).unwrap();
    run.execute().unwrap();
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    let calibrated = log.into_iter().find_map(|event| match event {
        Event::Calibrated { quantizers, .. } => Some(quantizers),
        _ => None,
    });
    let activations = calibrated.unwrap().into_iter().filter(|info| {
        // A batch of 16 images of noise has one position in the last layers.
        info.layer.contains("activation") && info.elements > 10_000
    });
    let clips: Vec<f32> = activations.map(|info| info.after[0]).collect();
    assert!(clips.len() > 8, "{clips:?}");
    // The positive half of a normal distribution ends at about 3.
    assert!(clips.iter().all(|clip| (1.0..6.0).contains(clip)), "{clips:?}");
}
