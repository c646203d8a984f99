//! What the loop can do beyond plain training: accumulation, mixing, distillation, averages,
//! policies.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::{fs, path::Path};

use burn::tensor::Device;
use common::{Desk, alone};
use quant_nn::{QuantizedModule, StateDict};
use quant_train::{
    Recipe, Run, TrainError, WeightsFile,
    events::{Event, read_log},
    weights,
};

const DATA: &str = tiny!("train = [{ resize = { size = 32 } }, { center-crop = { size = 32 } }]");

const FULL: &str = sgd_phase!("full_precision", 1, 0.05, "");

const QUANTIZED: &str = sgd_phase!("quantized", 2, 0.01, "");

const LSQ: &str = r#"
    [phase.quantization]
    activation = { method = "lsq", bits = 4 }
    weight = { method = "lsq", bits = 4 }
"#;

fn create(desk: &Desk, text: &str) -> Result<Run, TrainError> {
    desk.create(Recipe::parse(text, Path::new("tiny.toml")).unwrap())
}

fn run(desk: &Desk, text: &str) -> Run {
    create(desk, text).unwrap()
}

/// The message with which a run is refused before anything is trained.
fn refusal(desk: &Desk, text: &str) -> String {
    create(desk, text).err().unwrap().to_string()
}

fn state(run: &Run, file: &str) -> StateDict {
    common::state(&run.folder().join(file))
}

fn learning_rates(run: &Run) -> Vec<f64> {
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    log.into_iter()
        .filter_map(|event| match event {
            Event::Progress { learning_rate, .. } => Some(learning_rate),
            _ => None,
        })
        .collect()
}

#[test]
fn everything_together_resumes_after_every_step_with_the_same_bits() {
    let desk = Desk::new();
    let text = [
        DATA,
        FULL,
        QUANTIZED,
        "precision = { compute = 'f16', growth_steps = 2 }\nextra_epochs = 1
         accumulate = { batches = 2 }\nramp_batches = 3\nfrozen_batches = 2
         mixing = { mixup = 0.7, cutmix = 1.0 }\naverage = 0.9\nfrozen_statistics = ['bn1']
         keep_every = 2\ndistillation = { teacher = 'full_precision' }",
        LSQ,
        "warm_up = { steps = 3 }\nproximal = { epochs = 2.0 }
        [[phase.policy]]\nat = 'start'\nlayers = [0]\nrole = 'activation'
        change = { enabled = false }
        [[phase.policy]]\nat = { epoch = 1 }\nlayers = [0]\nchange = { enabled = true }
        [[phase.policy]]\nat = { batch = 3 }\nrole = 'weight'\nchange = { levels_by = -12 }
        [[phase.policy]]\nat = { batch = 8 }\nchange = { bits = 2, granularity = 'per-channel' }
        [[phase.policy]]\nat = { batch = 1 }\nrole = 'activation'
        change = { loss = { kind = 'l2', factor = 0.1 } }",
    ]
    .join("\n");
    let whole = run(&desk, &text);
    let summary = whole.execute().unwrap();
    let log = read_log(&whole.folder().join("log.jsonl")).unwrap();
    let applied: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::PolicyApplied { policy, step, .. } => Some((*policy, *step)),
            _ => None,
        })
        .collect();
    // 5 batches an epoch are 3 steps; the policy of batch 3 stands before the step of batches 2 and
    // 3.
    assert_eq!(applied, [(4, 0), (2, 1), (1, 3), (3, 4)]);
    let kept = whole.folder().join("quantized/epoch-0002.safetensors");
    let kept = WeightsFile::new(kept);
    let network = weights::read_network(&kept, &[], &Device::flex()).unwrap().network;
    for (_, _, quantizer) in network.quantizers() {
        assert!(quantizer.is_enabled());
        assert_eq!(quantizer.config().levels.count(), 4);
        assert!(quantizer.groups() > 1);
    }

    let asked = || {
        let options = alone();
        options.stop.ask();
        options
    };
    let recipe = Recipe::parse(&text, Path::new("tiny.toml")).unwrap();
    let runs = desk.folder.path().join("runs");
    let run = Run::create(&runs, recipe, desk.folder.path(), &desk.data, asked()).unwrap();
    let mut stops = 0;
    let resumed = loop {
        match Run::resume(run.folder(), None, asked()).unwrap().execute() {
            Err(TrainError::Stopped { .. }) => stops += 1,
            other => break other.unwrap(),
        }
    };
    assert_eq!(stops, 5 + 9);
    assert_eq!(resumed.quantized, summary.quantized);
    assert!(resumed == summary, "the summaries differ");
    for file in ["last", "best", "epoch-0002"] {
        let file = format!("quantized/{file}.safetensors");
        let read = |run: &Run| fs::read(run.folder().join(&file)).unwrap();
        assert!(read(&run) == read(&whole), "{file} differs");
    }
}

/// 40 images are three batches of 12 and one of 4.
#[test]
fn a_kept_last_batch_is_trained_on_and_resumes_with_the_same_bits() {
    let desk = Desk::new();
    let kept = FULL.replace("batch_size = 8", "batch_size = 12\nlast_batch = 'keep'");
    let text = [DATA, &kept.replace("epochs = 1", "epochs = 2"), "checkpoint_steps = 1"].join("\n");
    let whole = run(&desk, &text);
    whole.execute().unwrap();
    let (mut steps, mut right) = (Vec::new(), Vec::new());
    for event in read_log(&whole.folder().join("log.jsonl")).unwrap() {
        match event {
            Event::Progress { step, batch, batches, .. } => steps.push((step, batch, batches)),
            Event::EpochFinished { train_top1, .. } => right.push(train_top1 * 40.0 / 100.0),
            _ => {}
        }
    }
    let expected: Vec<_> = (1..=8).map(|step| (step, (step - 1) % 4 + 1, 4)).collect();
    assert_eq!(steps, expected);
    // A share of all 40 images, not a mean over batches.
    assert!(right.iter().all(|right| (right - right.round()).abs() < 1e-9), "{right:?}");

    let recipe = Recipe::parse(&text, Path::new("tiny.toml")).unwrap();
    let runs = desk.folder.path().join("runs");
    let asked = || {
        let options = alone();
        options.stop.ask();
        options
    };
    let run = Run::create(&runs, recipe, desk.folder.path(), &desk.data, asked()).unwrap();
    let mut stops = 0;
    loop {
        match Run::resume(run.folder(), None, asked()).unwrap().execute() {
            Err(TrainError::Stopped { .. }) => stops += 1,
            other => break drop(other.unwrap()),
        }
    }
    assert_eq!(stops, 8);
    let last = |run: &Run| fs::read(run.folder().join("full_precision/last.safetensors")).unwrap();
    assert!(last(&run) == last(&whole), "the weights differ");
}

/// Batches of 24 and 16 images, accumulated, are one of 40.
#[test]
fn accumulated_batches_count_by_their_images() {
    let desk = Desk::new();
    let train = |batch_size: usize, more: &str| {
        let size = format!("batch_size = {batch_size}\nlast_batch = 'keep'");
        let full = FULL.replace("batch_size = 8", &size);
        let fixed = "frozen_statistics = ['bn', 'downsample']\nclip_norm = 1.0\n";
        let run = run(&desk, &[DATA, &full, fixed, more].join("\n"));
        run.execute().unwrap();
        state(&run, "full_precision/last.safetensors")
    };
    let (one, two) = (train(40, ""), train(24, "accumulate = { batches = 2 }"));
    for (name, entry) in one.entries() {
        let other = &two.get(name).unwrap().values;
        let apart = entry.values.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn gradients_of_two_batches_are_those_of_one_of_both() {
    let desk = Desk::new();
    // Batch norms in evaluation: else each batch is normalised by itself.
    let train = |batch_size: usize, more: &str| {
        let size = format!("batch_size = {batch_size}");
        let full = FULL.replace("batch_size = 8", &size);
        let fixed = "frozen_statistics = ['bn', 'downsample']\nclip_norm = 1.0\n";
        let run = run(&desk, &[DATA, &full, fixed, more].join("\n"));
        run.execute().unwrap();
        state(&run, "full_precision/last.safetensors")
    };
    let one = train(20, "");
    let two = train(10, "accumulate = { batches = 2 }");
    let sum = train(10, "accumulate = { batches = 2, sum = true }");
    let distance = |other: &StateDict| {
        let entries = one.entries().map(|(name, entry)| {
            let other = other.get(name).unwrap().values.iter();
            let apart = entry.values.iter().zip(other).map(|(a, b)| (a - b).abs());
            apart.fold(0.0, f32::max)
        });
        entries.fold(0.0, f32::max)
    };
    assert!(distance(&two) < 1e-5, "{}", distance(&two));
    assert!(distance(&sum) > 0.0);
}

#[test]
fn frozen_batches_move_statistics_but_no_weight() {
    let desk = Desk::new();
    let run = run(&desk, &[DATA, FULL, "frozen_batches = 5"].join("\n"));
    run.execute().unwrap();
    let state = state(&run, "full_precision/last.safetensors");
    let of = |name: &str| state.get(name).unwrap().values.clone();
    assert!(of("layer1.0.bn1.weight").iter().all(|x| *x == 1.0));
    assert!(of("layer1.0.bn1.running_mean").iter().any(|x| *x != 0.0));
}

#[test]
fn frozen_statistics_stay() {
    let desk = Desk::new();
    let run = run(&desk, &[DATA, FULL, "frozen_statistics = ['layer1']"].join("\n"));
    run.execute().unwrap();
    let state = state(&run, "full_precision/last.safetensors");
    let moved = |name: &str| state.get(name).unwrap().values.iter().any(|x| *x != 0.0);
    assert!(!moved("layer1.0.bn1.running_mean") && moved("layer2.0.bn1.running_mean"));
}

#[test]
fn the_ramp_shows_in_the_log() {
    let desk = Desk::new();
    let run = run(&desk, &[DATA, FULL, "ramp_batches = 10\ncheckpoint_steps = 1"].join("\n"));
    run.execute().unwrap();
    let rates = learning_rates(&run);
    assert!(rates.iter().zip(1..).all(|(rate, i)| (rate - 0.005 * f64::from(i)).abs() < 1e-12));
    assert_eq!(rates.len(), 5);
}

#[test]
fn a_teacher_is_a_phase_a_file_or_an_error() {
    let desk = Desk::new();
    let teacher = run(&desk, &[DATA, FULL].join("\n"));
    teacher.execute().unwrap();
    let file = teacher.folder().join("full_precision/last.safetensors");
    for kind in ["soft", "soft-cross-entropy", "hard", "feature"] {
        let distillation = format!(
            "distillation = {{ teacher = '{}', kind = '{kind}', weight = 1.0 }}",
            file.display()
        );
        let run = run(&desk, &[DATA, FULL, &distillation].join("\n"));
        run.execute().unwrap();
        let [taught, alone] =
            [&run, &teacher].map(|run| state(run, "full_precision/last.safetensors"));
        assert_ne!(taught, alone, "{kind}");
    }
    let error = refusal(&desk, &[DATA, FULL, "distillation = { teacher = 'nobody' }"].join("\n"));
    assert!(error.contains("nobody"), "{error}");
}

#[test]
fn a_policy_that_does_not_fit_is_an_error_with_the_layer() {
    let desk = Desk::new();
    let policy =
        "[[phase.policy]]\nat = { batch = 2 }\nchange = { granularity = { groups = 999 } }";
    let error = refusal(&desk, &[DATA, FULL, QUANTIZED, LSQ, policy].join("\n"));
    assert!(error.contains("layer1.0.conv1") && error.contains("999"), "{error}");
    // Layers that are not there, and a role without quantizers.
    for select in ["layers = [99]", "role = 'output'"] {
        let policy = format!("[[phase.policy]]\nat = 'start'\n{select}\nchange = {{ bits = 2 }}");
        let error = refusal(&desk, &[DATA, FULL, QUANTIZED, LSQ, &policy].join("\n"));
        assert!(
            error.contains("policy for the") && error.contains("19 quantized layers"),
            "{error}"
        );
    }
}

#[test]
fn sixteen_bits_train_nearly_as_thirty_two_and_overflows_are_skipped() {
    let desk = Desk::new();
    let train = |more: &str| {
        // Small steps: larger ones part two networks by their own rounding.
        let full = FULL.replace("0.05", "0.005");
        let run = run(&desk, &[DATA, &full, "clip_norm = 1.0", more].join("\n"));
        run.execute().unwrap();
        state(&run, "full_precision/last.safetensors")
    };
    let plain = train("");
    for compute in ["f16", "bf16"] {
        let half = train(&format!("precision = {{ compute = '{compute}' }}"));
        let (mut apart, mut moved) = (0.0, 0.0);
        for (name, entry) in plain.entries().filter(|(name, _)| name.ends_with("conv1.weight")) {
            for (a, b) in entry.values.iter().zip(&half.get(name).unwrap().values) {
                apart += f64::from(a - b).powi(2);
                moved += f64::from(*a).powi(2);
            }
        }
        assert!(apart > 0.0 && apart < 0.01 * moved, "{compute}: {apart} of {moved}");
    }
    // A scale at which every gradient overflows is halved, step by step, and no weight changes.
    let scale = "precision = { compute = 'f16', loss_scale = 1e30 }";
    let run = run(&desk, &[DATA, FULL, scale].join("\n"));
    run.execute().unwrap();
    let log = read_log(&run.folder().join("log.jsonl")).unwrap();
    let last = log.iter().find_map(|event| match event {
        Event::EpochFinished { loss_scale, .. } => *loss_scale,
        _ => None,
    });
    let last = last.unwrap();
    assert_eq!((last.skipped, last.scale), (5, 1e30 / 32.0));
    let frozen = state(&run, "full_precision/last.safetensors");
    assert!(frozen.get("layer1.0.bn1.weight").unwrap().values.iter().all(|x| *x == 1.0));
}
