//! Files and folders in a run's folder that the run did not make, or did not get to remove.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Desk, TWO_PHASES, alone};
use quant_train::{Recipe, Run, TrainError};

/// A run whose last phase has lost its result, so that it continues from its last checkpoint.
fn unfinished(desk: &Desk) -> PathBuf {
    let recipe = Recipe::parse(TWO_PHASES, Path::new("tiny.toml")).unwrap();
    let run = desk.create(recipe).unwrap();
    run.execute().unwrap();
    for name in ["result.json", "last.safetensors"] {
        fs::remove_file(run.folder().join("quantized").join(name)).unwrap();
    }
    run.folder().to_owned()
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("quantized/checkpoints")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn checkpoints_that_a_killed_process_did_not_get_to_remove_are_removed() {
    let desk = Desk::new();
    let run = unfinished(&desk);
    let before = checkpoints(&run);
    assert_eq!(before.len(), 2);
    // An older one, half of whose files are gone, and a file and a link with such names.
    let old = run.join("quantized/checkpoints/step-000000001");
    fs::create_dir(&old).unwrap();
    fs::copy(before[0].join("model.safetensors"), old.join("model.safetensors")).unwrap();
    fs::write(run.join("quantized/checkpoints/step-000000002"), "a file").unwrap();
    symlink("nothing", run.join("quantized/checkpoints/step-000000099")).unwrap();
    Run::resume(&run, None, alone()).unwrap().execute().unwrap();
    assert_eq!(checkpoints(&run), before);
}

#[test]
fn nothing_waits_for_the_writer_of_a_pipe() {
    let desk = Desk::new();
    let run = unfinished(&desk);
    let copy = |name: &str, replaced: &str| {
        let copy = desk.runs().join(name);
        let made = Command::new("cp").arg("-r").arg(&run).arg(&copy).status().unwrap();
        assert!(made.success());
        let path = copy.join(replaced);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        pipe(&path);
        copy
    };
    let header = Run::resume(&copy("header", "run.json"), None, alone()).err().unwrap();
    assert!(header.to_string().contains("a pipe"), "{header}");
    for name in ["log.jsonl", "quantized/result.json"] {
        let folder = copy(&name.replace('/', "-"), name);
        let error = Run::resume(&folder, None, alone()).unwrap().execute().unwrap_err();
        assert!(error.to_string().contains("a pipe"), "{name}: {error}");
        assert_eq!(error.resumes_with(), None, "resuming would end with the same error: {error}");
    }
    // Of the checkpoints, the one before it is used.
    let newest = checkpoints(&run).pop().unwrap();
    let of_run = newest.strip_prefix(&run).unwrap().join("progress.json");
    let folder = copy("checkpoint", of_run.to_str().unwrap());
    Run::resume(&folder, None, alone()).unwrap().execute().unwrap();
}

#[test]
fn only_files_are_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refused = |path: &Path, reason: &str| {
        let error = quant_train::files::write(path, b"new").unwrap_err();
        assert!(matches!(error, TrainError::Io { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    pipe(&at("pipe"));
    refused(&at("pipe"), "a pipe");
    symlink(at("pipe"), at("link to pipe")).unwrap();
    refused(&at("link to pipe"), "a pipe");
    symlink(at("nothing"), at("link to nothing")).unwrap();
    refused(&at("link to nothing"), "a link that leads to no file");
    fs::create_dir(at("folder")).unwrap();
    refused(&at("folder"), "it is a folder");
    // What a link leads to is written, and the link stays.
    fs::write(at("file"), "old").unwrap();
    symlink(at("file"), at("link")).unwrap();
    quant_train::files::write(&at("link"), b"new").unwrap();
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(fs::read(at("file")).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6, "no temporary file is left");
}
