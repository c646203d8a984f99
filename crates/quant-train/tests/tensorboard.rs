//! A resumed run draws no step twice in TensorBoard.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::{Desk, TWO_PHASES, alone};
use quant_train::{Recipe, Run};

/// An event, as far as the test needs it.
#[derive(Debug)]
struct Event {
    step: u64,
    /// Whether it says that a program began to write at this step.
    starts: bool,
    /// The names of the curves of which it has a value.
    curves: Vec<String>,
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Reads `tensorflow.Event`: field 2 is the step, 5 a summary with values, 7 a session log, whose
/// status START is the bytes 08 01.
fn event(mut bytes: &[u8]) -> Event {
    let mut event = Event { step: 0, starts: false, curves: Vec::new() };
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => {
                let value = varint(&mut bytes);
                if key >> 3 == 2 {
                    event.step = value;
                }
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            kind => panic!("no wire type {kind} in these files"),
        };
        let (value, rest) = bytes.split_at(value);
        bytes = rest;
        event.starts |= key >> 3 == 7 && value == [8, 1];
        if key >> 3 == 5 {
            event.curves = curves(value);
        }
    }
    event
}

/// Returns the names of the values of a summary. The values are its field 1, and the name is field
/// 1 of a value and comes first.
fn curves(mut summary: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while !summary.is_empty() {
        assert_eq!(varint(&mut summary), 0x0a);
        let length = varint(&mut summary) as usize;
        let (mut value, rest) = summary.split_at(length);
        summary = rest;
        assert_eq!(varint(&mut value), 0x0a);
        let length = varint(&mut value) as usize;
        names.push(String::from_utf8(value[..length].to_vec()).unwrap());
    }
    names
}

/// Returns the files of a folder in the order in which TensorBoard reads them, that of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Returns the points that TensorBoard draws, each with its step and curve: where a file starts at
/// a step, the events of earlier files from this step on are dropped.
fn drawn(folder: &Path) -> Vec<(u64, String)> {
    let mut points: Vec<(u64, String)> = Vec::new();
    for file in files(folder) {
        let bytes = fs::read(file).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let event = event(&rest[12..12 + length]);
            rest = &rest[16 + length..];
            if event.starts {
                points.retain(|(step, _)| *step < event.step);
            }
            // A resumed run does not know the codes before its first epoch, so the rate at which
            // they flipped is missing there.
            let curves = event.curves.into_iter().filter(|curve| !curve.starts_with("flip_rate/"));
            points.extend(curves.map(|curve| (event.step, curve)));
        }
    }
    points
}

#[test]
fn a_resumed_run_draws_each_step_once() {
    let desk = Desk::new();
    let recipe = Recipe::parse(TWO_PHASES, Path::new("tiny.toml")).unwrap();
    let run = desk.create(recipe).unwrap();
    run.execute().unwrap();
    let boards = ["tensorboard/quantized", "tensorboard/quantized/epochs"]
        .map(|board| run.folder().join(board));
    let before: Vec<Vec<(u64, String)>> = boards.iter().map(|board| drawn(board)).collect();
    // The folder is as if the run had been killed before its last checkpoint.
    let phase = run.folder().join("quantized");
    for name in ["result.json", "last.safetensors"] {
        fs::remove_file(phase.join(name)).unwrap();
    }
    let mut checkpoints: Vec<PathBuf> = fs::read_dir(phase.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    checkpoints.sort();
    assert_eq!(checkpoints.len(), 2);
    fs::remove_dir_all(checkpoints.pop().unwrap()).unwrap();
    Run::resume(run.folder(), None, alone()).unwrap().execute().unwrap();
    for (board, before) in boards.iter().zip(before) {
        assert_eq!(files(board).len(), 2, "{}", board.display());
        let after = drawn(board);
        assert_eq!(after, before, "{}", board.display());
        let different: BTreeSet<&(u64, String)> = after.iter().collect();
        assert_eq!(different.len(), after.len(), "a point is drawn twice: {after:?}");
        assert!(after.len() > 1, "{after:?}");
    }
}
