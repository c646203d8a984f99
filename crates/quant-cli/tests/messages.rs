//! What the program says about mistakes that a new user makes: what is wrong, where, and what would
//! work.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::fs;

use common::Desk;

const RECIPE: &str = concat!(
    tiny!(
        "kind = 'fake', fake = { train = 16, val = 8, classes = 2 }",
        "depth = 'resnet20', stem = 'cifar', width_alpha = 0.1"
    ),
    r#"
    [[phase]]
    name = "float"
    epochs = 1
    batch_size = 8
    learning_rate = 0.005
    [[phase]]
    name = "low"
    epochs = 2
    batch_size = 8
    learning_rate = 0.005
    quantization.activation = { method = "lsq", bits = 2 }
    quantization.weight = { method = "lsq", bits = 2 }
"#
);

fn error_of(desk: &Desk, arguments: &[&str]) -> String {
    let error = desk.fails(arguments);
    assert!(error.contains("error: "), "{arguments:?}: {error}");
    error
}

/// What is said on standard error by a command that succeeds.
fn stderr(desk: &Desk, arguments: &[&str]) -> String {
    let output = desk.quant(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    stderr
}

#[test]
fn fields_without_effect_are_errors_or_warnings_before_and_at_the_start() {
    let desk = Desk::new(RECIPE);
    let frozen = "phase.float.frozen_statistics=['nope']";
    for command in [&["recipe", "check"][..], &["train"]] {
        let error = error_of(&desk, &[command, &["tiny.toml", "--set", frozen]].concat());
        assert!(error.contains("phase.float.frozen_statistics: \"nope\" is part of no"), "{error}");
        assert!(error.contains("the names are bn1, "), "{error}");
    }
    assert!(!desk.path("runs").exists());
    let idle = [
        "--set",
        "phase.low.groups.exceptions=[{ name_contains = 'nope', weight_decay = 0.0 }]",
        "--set",
        "phase.float.frozen_batches=2",
        "--set",
        "phase.low.quantization.warm_up={ steps = 5 }",
    ];
    let checked = desk.says(&[&["recipe", "check", "tiny.toml"][..], &idle].concat());
    let trained = stderr(&desk, &[&["train", "tiny.toml"][..], &idle].concat());
    for part in [
        "phase.low.groups.exceptions[0]: no parameter has a name that contains \"nope\"",
        "phase.float.frozen_batches = 2: the phase has 2 batches, so that no weight changes in it",
        "phase.low.quantization.warm_up.steps = 5: the phase has 4 batches",
    ] {
        assert!(checked.contains(part), "{part}: {checked}");
        assert!(trained.contains(part), "{part}: {trained}");
    }
    assert!(!desk.says(&["recipe", "check", "tiny.toml"]).contains("warning"));
    // Data that the program makes need no folder.
    for arguments in [
        &["train", "tiny.toml", "--data", "."][..],
        &["resume", "runs/tiny-001", "--data", "."],
        &["eval", "runs/tiny-001", "--data", "."],
        &["queue", "tiny.toml", "--data", "."],
        &["eval", "runs/tiny-001/packed.qnet", "--recipe", "tiny.toml", "--data", "."],
    ] {
        let error = error_of(&desk, arguments);
        assert!(error.contains("--data"), "{arguments:?}: {error}");
    }
}

#[test]
fn numbers_that_would_only_let_training_diverge_are_refused() {
    let desk = Desk::new(RECIPE);
    for (change, part) in [
        ("data.std=[1e-9, 1.0, 1.0]", "data.std"),
        ("data.mean=[100.0, 0.0, 0.0]", "data.mean"),
        ("phase.float.groups.weight_decay=1e6", "phase.float.groups.weight_decay"),
    ] {
        let error = error_of(&desk, &["recipe", "check", "tiny.toml", "--set", change]);
        assert!(error.contains(part) && error.contains("expected"), "{error}");
    }
    // Where training diverges after all, the message names more than the learning rate.
    let wild = ["train", "tiny.toml", "--set", "phase.float.learning_rate=1e30"];
    let error = error_of(&desk, &wild);
    assert!(error.contains("weight_decay") && error.contains("data.std"), "{error}");
}

#[test]
fn quantized_activations_with_tiny_batches_are_warned_of() {
    let desk = Desk::new(RECIPE);
    let tiny = |depth: &str, size: &str, batch: &str| {
        let model = format!("model={{ depth = '{depth}', stem = 'imagenet', width_alpha = 0.05 }}");
        let size = format!("data.input_size={size}");
        let batch = format!("phase.batch_size={batch}");
        let sets = ["--set", &model, "--set", &size, "--set", &batch];
        desk.says(&[&["recipe", "check", "tiny.toml"][..], &sets].concat())
    };
    // Five strides of two leave 2x2 positions of 64 pixels, and 4x4 of 128.
    let said = tiny("resnet18", "64", "1");
    assert!(said.contains("phase.low.batch_size = 1: a batch norm behind layer4"), "{said}");
    assert!(said.contains("trained on 4 values") && said.contains("at least 4 images"), "{said}");
    assert!(!said.contains("phase.float.batch_size"), "{said}");
    assert!(!tiny("resnet18", "64", "4").contains("warning"));
    assert!(!tiny("resnet18", "128", "1").contains("warning"));
}

#[test]
fn a_wide_resnet20_is_pointed_out() {
    let desk = Desk::new(RECIPE);
    let wide = ["recipe", "check", "tiny.toml", "--set", "model.width_alpha=1"];
    let note = "this ResNet-20 has 64, 128 and 256 channels";
    assert!(desk.says(&wide).contains(note));
    assert!(desk.says(&["summary", "--model", "resnet20", "cifar10,cbas"]).contains(note));
    let usual = ["recipe", "check", "tiny.toml", "--set", "model.width_alpha=0.25"];
    assert!(!desk.says(&usual).contains("this ResNet-20"));
}

#[test]
fn networks_of_a_run_that_are_missing_or_damaged_are_named_with_what_works() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let best = desk.path("runs/tiny-001/low/best.safetensors");
    let last = desk.path("runs/tiny-001/low/last.safetensors");
    let bytes = fs::read(&best).unwrap();
    let run = "runs/tiny-001";
    fs::remove_file(&best).unwrap();
    let error = error_of(&desk, &["eval", run, "--best"]);
    assert!(error.contains("low/best.safetensors: there is no such file"), "{error}");
    assert!(error.contains("without --best, the last network of phase low is used"), "{error}");
    let mut damaged = bytes.clone();
    let end = damaged.len() - 1;
    damaged[end] ^= 1;
    fs::write(&best, damaged).unwrap();
    for arguments in [
        &["eval", run, "--best"][..],
        &["eval", run, "--best", "--served"],
        &["pack", run, "--best", "-o", "x.qnet"],
    ] {
        let error = error_of(&desk, arguments);
        assert!(error.contains("best.safetensors: ") && error.contains("checksum"), "{error}");
        assert!(error.contains("without --best"), "{error}");
    }
    fs::remove_file(&best).unwrap();
    fs::create_dir(&best).unwrap();
    let error = error_of(&desk, &["eval", run, "--best"]);
    assert!(error.contains("it is a folder"), "{error}");
    fs::remove_dir(&best).unwrap();
    fs::write(&best, bytes).unwrap();
    // A phase that is not finished has a best network already, and no last one.
    fs::remove_file(&last).unwrap();
    for command in ["eval", "report", "summary"] {
        let error = error_of(&desk, &[command, run]);
        assert!(error.contains("low/last.safetensors: there is no such file"), "{error}");
        assert!(error.contains("quant resume runs/tiny-001"), "{command}: {error}");
    }
    let error = error_of(&desk, &["eval", run, "--phase", "nope"]);
    assert!(error.contains("its phases are float, low"), "{error}");
}

#[test]
fn commands_for_another_kind_of_file_say_which_command_it_is() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let net = "runs/tiny-001/packed.qnet";
    for (arguments, part) in [
        (&["summary", net][..], "it is a packed network: `quant inspect` describes it"),
        (&["codes", net, "-o", "x"], "its weights are codes already"),
        (&["pack", net, "-o", "x.qnet"], "it is packed already"),
        (&["eval", net], "a folder val inside has one folder of pictures for each class"),
        (&["resume", "nowhere"], "nowhere: not a run folder that can be used: there is no such"),
        (&["data", "check", "nowhere"], "nowhere: there is no such folder of data"),
        (&["pack", "runs/tiny-001", "-o", "absent/x.qnet"], "absent: there is no such folder"),
        (&["codes", "runs/tiny-001", "-o", "absent/x"], "absent: there is no such folder"),
        (&["convert", "runs/tiny-001/low/last.safetensors", "absent/x.safetensors"], "absent: "),
    ] {
        let error = error_of(&desk, arguments);
        assert!(error.contains(part), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
    }
    assert!(!desk.path("absent").exists());
    let folder = ["--set", "data={ kind = 'image-folder', input_size = 32 }"];
    let nowhere = [&["train", "tiny.toml", "--data", "nowhere"][..], &folder].concat();
    assert!(error_of(&desk, &nowhere).contains("nowhere: there is no such folder of data"));
    for command in ["pack", "codes"] {
        let output = desk.quant(&[command, "runs/tiny-001"]);
        let usage = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{usage}");
        assert!(!usage.contains("KEYWORDS"), "{usage}");
    }
    assert_eq!(desk.quant(&["run", net, "x.png", "--top", "0"]).status.code(), Some(2));
    let after = stderr(&desk, &["eval", "runs/tiny-001", "--after", "4194304"]);
    assert!(after.contains("there is no process 4194304"), "{after}");
}

#[test]
fn resuming_is_advised_only_where_it_helps() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let advice = "to continue";
    let run = "runs/tiny-001";
    let held = fs::File::create(desk.path("runs/tiny-001/lock")).unwrap();
    held.lock().unwrap();
    let error = error_of(&desk, &["resume", run]);
    assert!(error.contains("in use") && !error.contains(advice), "{error}");
    drop(held);
    let error = error_of(&desk, &["resume", run, "--devices", "2"]);
    assert!(error.contains("--accept-changes") && !error.contains(advice), "{error}");
    let error = error_of(&desk, &["resume", run, "--set", "seed=2"]);
    assert!(!error.contains(advice), "{error}");
    // With another learning rate, a run that diverged may come further.
    let wild = ["train", "tiny.toml", "--set", "phase.low.learning_rate=1e30"];
    let error = error_of(&desk, &wild);
    let how = "quant resume runs/tiny-002 --set phase.low.learning_rate=";
    assert!(error.contains(advice) && error.contains(how), "{error}");
    // Devices that do not get a batch each are named beside the batch size.
    let error = error_of(&desk, &["train", "tiny.toml", "--devices", "9"]);
    assert!(error.contains("each of 9 devices"), "{error}");
}
