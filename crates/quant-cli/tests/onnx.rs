//! Checks the way of networks to ONNX files and back: `quant export`, and `quant pack` of a file.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::fs;

use common::Desk;
use quant_infer::{Image, Network};

const RECIPE: &str = concat!(
    tiny!(
        "kind = 'rendered', rendered = { side = 48, train_per_class = 4, val_per_class = 2 }",
        "depth = 'resnet20', stem = 'cifar', width_alpha = 0.25"
    ),
    r#"
    [[phase]]
    name = "low"
    epochs = 1
    batch_size = 16
    learning_rate = 0.01
    quantization.activation = { method = "lsq", bits = 2 }
    quantization.weight = { method = "lsq", bits = 4, granularity = "per-channel" }
"#
);

#[test]
fn a_trained_network_leaves_in_three_formats_and_comes_back() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let run = "runs/tiny-001";
    let packed = "runs/tiny-001/packed.qnet";
    let said = desk.says(&["export", run, "--format", "qonnx", "-o", "run.onnx"]);
    assert!(said.contains("conv1 computes in floats: neither its input nor its weight"), "{said}");
    assert!(said.contains("quantizers have the network's thresholds to the bit"), "{said}");
    assert!(said.contains("written: run.onnx, "), "{said}");
    desk.says(&["export", packed, "--format", "qonnx", "-o", "file.onnx"]);
    let read = |name: &str| fs::read(desk.path(name)).unwrap();
    assert_eq!(read("run.onnx"), read("file.onnx"));

    desk.says(&["pack", "file.onnx", "-o", "again.qnet"]);
    let bytes: Vec<u8> = (0..3 * 32 * 32).map(|at| (at * 31 % 256) as u8).collect();
    let scores = |name: &str| {
        let network = Network::from_bytes(&read(name)).unwrap();
        network.run(&Image::planar(&bytes, [32, 32])).unwrap()
    };
    assert_eq!(scores("again.qnet"), scores(packed));
    let first = Network::from_bytes(&read(packed)).unwrap();
    let again = Network::from_bytes(&read("again.qnet")).unwrap();
    assert_eq!(again.classes(), first.classes());
    assert_eq!(again.input(), first.input());

    for format in ["onnx-int8", "onnx-compact"] {
        let name = format!("{format}.onnx");
        desk.says(&["export", packed, "--format", format, "-o", &name]);
        assert!(read(&name).len() < read("file.onnx").len());
    }
}

#[test]
fn what_cannot_be_exported_or_read_is_said_in_one_sentence() {
    let desk = Desk::new(RECIPE);
    let fails = |arguments: &[&str], reason: &str| {
        let said = desk.fails(arguments);
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    };
    fs::write(desk.path("text.onnx"), "a text").unwrap();
    fs::write(desk.path("net.qnet"), "a text").unwrap();
    let out = ["-o", "out"];
    let with = |first: &[&'static str]| [first, &out].concat();
    fails(&with(&["pack", "text.onnx"]), "text.onnx: the ONNX file is no ONNX file, or damaged");
    fails(&with(&["pack", "none.onnx"]), "none.onnx: ");
    fails(&with(&["pack", "text.onnx", "--best"]), "an ONNX file takes no option but");
    fails(&with(&["pack", "text.onnx", "--std", "0"]), "--std takes numbers above 0");
    fails(&with(&["pack", "tiny.toml", "--mean", "0.5"]), "--mean, --std and --size are for ONNX");
    fails(&with(&["export", "net.qnet", "--format", "qonnx"]), "net.qnet");
    fails(&with(&["export", "net.qnet", "--best", "--format", "qonnx"]), "takes no option but");
    fails(&with(&["export", "tiny.toml", "--format", "qonnx"]), "expected a run folder");
    assert!(!desk.path("out").exists());
}
