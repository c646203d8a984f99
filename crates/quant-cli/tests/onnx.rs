//! Checks the way of networks to ONNX files and back: `quant export`, and `quant pack` of a file.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::fs;

use common::Desk;
use quant_infer::{
    Image, Network,
    model::{Conv, Input, Model, Node, Op, Weight},
};

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
fn an_exported_network_can_be_trained_further() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let packed = "runs/tiny-001/packed.qnet";
    let read = |name: &str| fs::read(desk.path(name)).unwrap();
    let bytes: Vec<u8> = (0..3 * 32 * 32).map(|at| (at * 31 % 256) as u8).collect();
    let scores = |name: &str| {
        let network = Network::from_bytes(&read(name)).unwrap();
        network.run(&Image::planar(&bytes, [32, 32])).unwrap()
    };
    desk.says(&["export", packed, "--format", "qonnx", "-o", "net.onnx"]);
    let last = |said: String| said.trim_end().lines().next_back().unwrap_or_default().to_owned();
    let usual = last(desk.says(&["eval", "runs/tiny-001"]));
    // The pictures of the run, as a folder of anybody's.
    let cache = fs::read_dir(desk.path("cache/quant-train")).unwrap();
    let mut folders = cache.map(|entry| entry.unwrap().path());
    let pictures = folders.find(|path| path.join("val").is_dir()).unwrap();
    let data = ["--data", pictures.to_str().unwrap()];
    let of_file = last(desk.says(&[&["eval", packed], &data[..]].concat()));
    fs::create_dir(desk.path("beside")).unwrap();
    for (from, to, recipe) in
        [("net.onnx", "a.safetensors", "back.toml"), (packed, "b.safetensors", "beside/back.toml")]
    {
        let said = desk.says(&["import", from, "-o", to, "--recipe", recipe]);
        assert!(said.contains("a ResNet20 with the stem for small images, 16 channels"), "{said}");
        assert!(said.contains("20 x activation: lsq with 4 levels"), "{said}");
        assert!(said.contains("20 x weight: lsq with 16 levels"), "{said}");
        assert!(said.contains("mean = [0.485, 0.456, 0.406]"), "{said}");
        assert!(said.contains(" 0 of 835584 codes differ from the file's, 4 best"), "{said}");
        // Packed again, it has the same scores, and it is evaluated as the run is.
        desk.says(&["pack", to, "--recipe", "tiny.toml", "-o", "again.qnet"]);
        assert_eq!(scores("again.qnet"), scores(packed), "{from}");
        assert_eq!(last(desk.says(&["eval", to, "--recipe", "tiny.toml"])), usual);
        assert!(desk.says(&["summary", to]).contains("layer3.2.conv2"));
        // The recipe that was written fits the weights.
        let checked = desk.says(&["recipe", "check", recipe]);
        assert!(!checked.contains("warning"), "{checked}");
        // With it, the network is evaluated as the file is.
        let evaluated = desk.says(&[&["eval", to, "--recipe", recipe], &data[..]].concat());
        assert_eq!(last(evaluated), of_file);
        // Training goes on with the weights.
        let init = format!("phase.low.init={to}");
        desk.says(&["train", "tiny.toml", "--set", &init, "--set", "model.norm=static"]);
    }
}

#[test]
fn a_network_of_another_structure_is_not_imported() {
    let desk = Desk::new(RECIPE);
    let conv = Conv {
        in_channels: 3,
        out_channels: 4,
        kernel: [5, 5],
        stride: [3, 3],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
        quantizer: None,
        pads_codes: false,
        weight: Weight::Float(vec![0.1; 4 * 3 * 25]),
        bias: None,
    };
    let node = |name: &str, op: Op, inputs: &[usize]| Node {
        name: name.to_owned(),
        op,
        inputs: inputs.to_vec(),
    };
    let model = Model {
        name: "other".to_owned(),
        producer: String::new(),
        classes: Vec::new(),
        input: Input {
            size: [32, 32],
            shorter_side: None,
            scale: vec![1.0; 3],
            shift: vec![0.0; 3],
        },
        nodes: vec![
            node("image", Op::Input, &[]),
            node("first", Op::Conv(Box::new(conv)), &[0]),
            node("pool", Op::GlobalPool, &[1]),
        ],
    };
    model.save(desk.path("other.qnet")).unwrap();
    let said = desk.fails(&["import", "other.qnet", "-o", "out.safetensors"]);
    assert!(said.contains("first is a 5x5 convolution of 3 to 4 channels"), "{said}");
    assert!(!said.contains("`quant pack`"), "it is packed already: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    let said = desk.fails(&["import", "other.qnet", "-o", "out.pth"]);
    assert!(said.contains("choose a name that ends in .safetensors"), "{said}");
    let said = desk.fails(&["import", "other.qnet", "--mean", "0", "-o", "out.safetensors"]);
    assert!(said.contains("--mean, --std and --size are for ONNX files"), "{said}");
    assert!(!desk.path("out.safetensors").exists());
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
    fails(&with(&["pack", "text.onnx"]), "text.onnx: the ONNX file is damaged, or is a file of");
    fails(&with(&["pack", "none.onnx"]), "none.onnx: ");
    fs::write(desk.path("empty.onnx"), "").unwrap();
    fails(&with(&["pack", "empty.onnx"]), "the ONNX file is empty");
    fails(&["run", "text.onnx", "a.png"], "`quant pack text.onnx -o text.qnet` makes a packed");
    fails(&["eval", "text.onnx"], "`quant pack text.onnx -o text.qnet` makes a packed");
    fails(&with(&["pack", "text.onnx", "--best"]), "an ONNX file takes no option but");
    fails(&with(&["pack", "text.onnx", "--std", "0"]), "--std takes numbers above 0");
    fails(&with(&["pack", "tiny.toml", "--mean", "0.5"]), "--mean, --std and --size are for ONNX");
    fails(&with(&["export", "net.qnet", "--format", "qonnx"]), "net.qnet");
    fails(&with(&["export", "net.qnet", "--best", "--format", "qonnx"]), "takes no option but");
    fails(&with(&["export", "tiny.toml", "--format", "qonnx"]), "expected a run folder");
    let out = ["-o", "out.safetensors"];
    fails(
        &[&["import", "text.onnx"], &out[..]].concat(),
        "is damaged, or is a file of another kind",
    );
    fails(&[&["import", "net.qnet"], &out[..]].concat(), "net.qnet");
    assert!(!desk.path("out").exists());
}
