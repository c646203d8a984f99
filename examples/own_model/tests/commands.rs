//! The commands of the program for its own runs.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::{fs, path::Path, process::Command};

use burn::tensor::Device;
use quant_train::{Run, RunOptions};

const RECIPE: &str = own!(1, "", "");

/// Runs the program in a folder, and returns what it prints and what it tells.
fn own_model(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_own_model"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let [said, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.success(), said, stderr)
}

#[test]
fn a_program_with_its_own_network_evaluates_reports_and_writes_codes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("mine.toml"), RECIPE).unwrap();
    let says = |arguments: &[&str]| {
        let (good, said, stderr) = own_model(folder, arguments);
        assert!(good, "{arguments:?}: {stderr}");
        said
    };
    let trained = says(&["--recipe", "mine.toml"]);
    let run = "runs/own-001";
    let score = trained.lines().find_map(|line| line.strip_prefix("quantized:")).unwrap();
    assert!(says(&["eval", run]).starts_with(score.trim()), "{trained}");
    says(&["eval", run, "--phase", "full", "--best"]);
    fs::remove_file(folder.join("runs/own-001/report.html")).unwrap();
    assert!(says(&["report", run]).contains("report.html"));
    assert!(folder.join("runs/own-001/report.html").is_file());
    assert!(says(&["summary", run]).contains("blocks.1.depthwise"));
    let said = says(&["codes", run, "-o", "codes.safetensors"]);
    assert!(said.starts_with("6 weights, "), "{said}");
    assert!(folder.join("codes.safetensors").is_file());
    let (good, _, stderr) = own_model(folder, &["codes", run, "--phase", "full", "-o", "x"]);
    assert!(!good && stderr.contains("no quantized weights"), "{stderr}");

    // Programs that do not know the network name the one that does.
    let run = Run::resume(&folder.join(run), None, RunOptions::new(Device::flex())).unwrap();
    for error in [
        run.execute().unwrap_err().to_string(),
        run.report().unwrap_err().to_string(),
        run.trained_file("quantized", false).unwrap_err().to_string(),
    ] {
        assert!(error.contains("own_model trained this run"), "{error}");
        assert!(error.contains("own_model eval ") && error.contains("--resume"), "{error}");
    }
}
