//! The trainer supports a program's own network in the same way as the networks of `quant-nn`.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use burn::{module::Module, tensor::Device};
use own_model::Net;
use quant_core::{Levels, Role};
use quant_infer::model::Op;
use quant_nn::QuantizedModule;
use quant_train::{
    Build, Recipe, Run, RunOptions, Summary, TrainError, WeightsFile,
    events::{Event, read_log},
    group::Threads,
};

const RECIPE: &str = own!(
    2,
    r#"
    checkpoint_steps = 2
    average = 0.9
    distillation = { teacher = "full", kind = "soft" }
    [[phase.policy]]
    at = { epoch = 1 }
    role = "weight"
    change = { bits = 3 }
    "#,
    r#"warm_up = { steps = 2, roles = ["activation"] }"#
);

fn recipe(changes: &[&str]) -> Recipe {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    Recipe::parse_with(RECIPE, Path::new("own.toml"), &changes).unwrap()
}

fn options() -> RunOptions {
    RunOptions { workers: Some(1), ..RunOptions::new(Device::flex()) }
}

fn create(folder: &Path, changes: &[&str]) -> Run {
    Run::create(folder, recipe(changes), folder, folder, options()).unwrap()
}

fn train(run: &Run) -> Result<Summary, TrainError> {
    run.execute_own_packed(Net::new, Net::lower)
}

fn last(run: &Path) -> PathBuf {
    run.join("quantized/last.safetensors")
}

#[test]
fn a_run_leaves_what_every_run_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &[]);
    let summary = train(&run).unwrap();
    assert!(summary.full_precision.is_some() && summary.quantized.is_some());
    assert!(summary.size_bytes_packed < summary.size_bytes_float);
    let report = fs::read_to_string(run.folder().join("report.html")).unwrap();
    assert!(report.contains("blocks.1.depthwise"));

    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    let calibrated = log.iter().find_map(|event| match event {
        Event::Calibrated { quantizers, .. } => Some(quantizers.clone()),
        _ => None,
    });
    let names: Vec<String> = calibrated.unwrap().into_iter().map(|info| info.layer).collect();
    assert_eq!(names.len(), 12, "two activations and two weights of three blocks: {names:?}");
    assert!(names.contains(&"blocks.2.between".to_owned()), "{names:?}");
    assert!(names.contains(&"blocks.0.pointwise.weight.quant_weight".to_owned()), "{names:?}");
    let layers = log.iter().find_map(|event| match event {
        Event::PolicyApplied { layers, .. } => Some(layers.len()),
        _ => None,
    });
    assert_eq!(layers, Some(6));
    assert!(log.iter().any(|event| matches!(event, Event::QuantizerHealth { quantizers, .. }
        if quantizers.len() == 12)));
    assert!(run.report_own(Net::new).is_ok());
    // Of a stock layer nothing tells the size of its output: not 0.
    assert!(report.contains("<td>?</td>") && !report.contains("0x0"), "{report}");
    // Nor is it known whose input a quantizer quantizes.
    assert!(report.contains("<td>?/3</td>") && !report.contains("<td>32/3</td>"), "{report}");
    assert!(report.contains(" → "), "calibration errors of layers");

    let (packed, served) = (summary.packed.unwrap(), summary.served.unwrap());
    assert_eq!(packed.score, served);
    assert_eq!(packed.score.images, 12);
    let file = fs::read(run.folder().join("packed.qnet")).unwrap();
    assert_eq!(packed.bytes, file.len() as u64);
    let model = quant_infer::model::Model::from_bytes(&file).unwrap();
    assert_eq!(model.classes.len(), 3);
    // Convolutions whose input and weight are quantized compute in integers.
    let integers = model.nodes.iter().filter(|node| match &node.op {
        Op::Conv(conv) => conv.quantizer.as_ref().is_some_and(|found| found.terms.is_some()),
        _ => false,
    });
    let names: Vec<&str> = integers.map(|node| node.name.as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names.contains(&"blocks.0.depthwise") && names.contains(&"blocks.2.pointwise"));
    let (codes, others) = log
        .iter()
        .find_map(|event| match event {
            Event::Packed { codes, other_codes, .. } => Some((*codes, *other_codes)),
            _ => None,
        })
        .unwrap();
    // Twelve images of 8x8 pixels behind the stem, and four times fewer positions in each block.
    let positions = |side: u64, channels: u64| 12 * side * side * channels;
    assert_eq!(codes, 2 * (positions(8, 16) + positions(4, 32) + positions(2, 64)));
    assert!(others * 100 <= codes, "{others} of {codes}");

    let last = run.evaluate_own(Net::new, None, false, |_| {}).unwrap();
    assert_eq!(last, summary.phases[1].last);
    let full = run.evaluate_own(Net::new, Some("full"), false, |_| {}).unwrap();
    assert_eq!(full, summary.phases[0].last);
    let error = run.evaluate_own(Net::new, Some("fall"), false, |_| {}).unwrap_err().to_string();
    assert!(error.contains("full, quantized"), "{error}");
}

#[test]
fn a_run_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &[]);
    train(&run).unwrap();
    let whole = fs::read(last(run.folder())).unwrap();
    // The files are as if the run had been killed between the last two checkpoints.
    for name in ["result.json", "last.safetensors"] {
        fs::remove_file(run.folder().join("quantized").join(name)).unwrap();
    }
    let checkpoints = run.folder().join("quantized/checkpoints");
    let mut steps: Vec<_> =
        fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    fs::remove_dir_all(steps.pop().unwrap()).unwrap();
    let resumed = Run::resume(run.folder(), None, options()).unwrap();
    train(&resumed).unwrap();
    assert!(fs::read(last(run.folder())).unwrap() == whole);
}

#[test]
fn two_devices_train_one_network() {
    let folder = tempfile::tempdir().unwrap();
    let results: Vec<PathBuf> = thread::scope(|scope| {
        let threads = Threads::new(2, Duration::from_secs(60));
        let running: Vec<_> = threads
            .into_iter()
            .map(|group| {
                let folder = folder.path();
                scope.spawn(move || {
                    let options = RunOptions { group: Arc::new(group), ..options() };
                    let run = Run::create(folder, recipe(&[]), folder, folder, options).unwrap();
                    train(&run).unwrap();
                    run.folder().to_owned()
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results[0], results[1]);
    assert!(last(&results[0]).is_file());
}

#[test]
fn a_network_file_says_which_quantizers_were_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &[]);
    train(&run).unwrap();
    let state = WeightsFile::new(last(run.folder())).read().unwrap();
    let (config, enabled) = state.quantizer("blocks.0.depthwise", Role::Weight).unwrap();
    assert_eq!((config.levels, enabled), (Levels::from_bits(3).unwrap(), true));
    // The recipe builds the network with weights of four bits, but the saved state has three.
    let device = Device::flex();
    let quantization = run.recipe().phases[1].quantization.as_ref().unwrap().typed().unwrap();
    let build = Build { quantization, classes: 3, input_size: 16, device: &device };
    let mut net = Net::new(&build).unwrap().valid();
    state.restore_quantizers(&mut net).unwrap();
    let (net, report) = state.load_into(net);
    report.require(false).unwrap();
    let weights = net.quantized_weights();
    assert!(weights.iter().all(|(_, weight)| weight.codes().into_iter().all(|code| code < 8)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &[]);
    let error = run.execute().unwrap_err().to_string();
    assert!(error.contains("model.own"), "{error}");
    assert!(!run.folder().exists(), "a run that fails before it trains leaves no folder");
    // What does not fit in the second phase is found before the first.
    let policy = "{ at = { batch = 1 }, layers = ['blocks.9'], change = { bits = 2 } }";
    let run = create(folder.path(), &[&format!("phase.quantized.policy=[{policy}]")]);
    let error = train(&run).unwrap_err().to_string();
    assert!(error.contains("blocks.9"), "{error}");
    assert!(!run.folder().exists());
    let refused = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        Recipe::parse_with(RECIPE, Path::new("own.toml"), &changes).unwrap_err().to_string()
    };
    let error = refused(&["model.depth='resnet18'"]);
    assert!(error.contains("`own` alone"), "{error}");
    let statistics = ["phase.full.frozen_statistics=['norm']"];
    let error = train(&create(folder.path(), &statistics)).unwrap_err().to_string();
    assert!(error.contains("frozen_statistics"), "{error}");
    let failing = create(folder.path(), &[]);
    let error = failing.execute_own(|_| -> Result<Net, _> { Err("no such layer".into()) });
    assert!(error.unwrap_err().to_string().contains("no such layer"));
}

#[test]
fn a_network_that_cannot_be_lowered_is_a_warning_and_the_run_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let run = create(folder.path(), &[]);
    let summary = run.execute_own_packed(Net::new, |_: &Net, lowering| {
        lowering.push("scores", Op::GlobalPool, [7]);
        Ok(())
    });
    assert_eq!(summary.unwrap().packed, None);
    assert!(!run.folder().join("packed.qnet").exists());
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    assert!(log.iter().any(|event| matches!(event, Event::Warning { message }
        if message.contains("scores: it is node 1 and reads node 7"))));
}
