//! What the commands of the `quant` program say, as their users type them. Nothing is downloaded.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    fs, io,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

const RECIPE: &str = r#"
    name = "tiny"
    [data]
    kind = "fake"
    input_size = 32
    fake = { train = 16, val = 8, classes = 10 }
    [model]
    depth = "resnet18"
    stem = "imagenet"
    width_alpha = 0.04
    [[phase]]
    name = "only"
    epochs = 1
    batch_size = 8
    learning_rate = 0.005
    schedule = { policy = "fix" }
    optimizer = { kind = "sgd" }
"#;

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), RECIPE).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command.stdin(Stdio::null());
        command
    }

    fn quant(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

/// A pipe whose reader has gone, as behind `| head -1`.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_has_gone_ends_every_command_quietly() {
    let desk = Desk::new();
    for arguments in [
        &["recipe", "list"][..],
        &["recipe", "show", "tiny.toml"],
        &["recipe", "check", "tiny.toml"],
        &["explain", "cifar10,cbas"],
        &["summary", "cifar10,cbas"],
        &["guide"],
        &["completion", "bash"],
        &["--help"],
        &["train", "--help"],
        &["train", "tiny.toml"],
        &["eval", "runs/tiny-001"],
        &["report", "runs/tiny-001"],
    ] {
        let output = desk.command(arguments).stdout(closed()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert!(!error.contains("panicked") && !error.contains("error"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_run_whose_messages_nobody_reads_goes_on_to_its_end() {
    let desk = Desk::new();
    let status = |arguments: &[&str]| {
        desk.command(arguments).stdout(closed()).stderr(closed()).status().unwrap().code()
    };
    assert_eq!(status(&["train", "tiny.toml"]), Some(0));
    assert!(desk.path("runs/tiny-001/summary.json").is_file());
    // A message that cannot be told changes no exit code.
    assert_eq!(status(&["train", "absent.toml"]), Some(1));
    assert_eq!(status(&["train"]), Some(2));
}

/// What is lost is an error: this is no reader that has seen enough.
#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let desk = Desk::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = desk.command(&["recipe", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: output: "));
}
