//! The overview of a network says what is in its file.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod models;

use models::{levels, random, resnet::resnet20};
use quant_infer::{
    inspect::{Arithmetic, Overview, Reason, Row, Width},
    model::{Conv, Dynamic, Model, Op, Weight},
};

fn row(overview: &Overview, name: &str) -> Row {
    overview.rows.iter().find(|row| row.name == name).unwrap().clone()
}

#[test]
fn rows_say_what_a_layer_takes_and_computes() {
    let (model, _) = resnet20(1, 4, 16);
    let overview = Overview::of_model(&model).unwrap();
    let stem = row(&overview, "conv1");
    assert_eq!(stem.operation, "convolution 3x3");
    assert_eq!(stem.shape, [16, 32, 32]);
    assert_eq!((stem.weight, stem.activation), (Some(Width::Float), Some(Width::Float)));
    assert_eq!(stem.multiply_accumulates, 16 * 32 * 32 * 27);
    assert_eq!(stem.arithmetic, Some(Arithmetic::Floats(Reason::NotQuantized)));
    assert!((4 * 16 * 27..4 * 16 * 27 + 50).contains(&stem.bytes), "{} bytes", stem.bytes);

    let conv = row(&overview, "layer2.0.conv1");
    assert_eq!(conv.operation, "convolution 3x3, stride 2");
    assert_eq!((conv.weight, conv.activation), (Some(Width::Levels(4)), Some(Width::Levels(16))));
    assert_eq!(conv.multiply_accumulates, 32 * 16 * 16 * 16 * 9);
    assert_eq!(conv.arithmetic, Some(Arithmetic::Integers));

    let relu = row(&overview, "layer2.0.relu1");
    assert_eq!((relu.weight, relu.activation, relu.arithmetic), (None, None, None));
    assert_eq!(row(&overview, "fc").operation, "linear");
    // He et al. count 41 million products; 1 x 1 shortcuts are added here.
    let [integers, floats] = overview.multiply_accumulates();
    assert_eq!(floats, 16 * 32 * 32 * 27 + 640);
    assert_eq!(integers + floats, 40_551_040 + 2 * 16 * 32 * 16 * 16);
}

#[test]
fn floats_have_a_reason() {
    let (model, _) = resnet20(1, 4, 4);
    let reason = |change: &dyn Fn(&mut quant_infer::model::Conv)| {
        let mut model = model.clone();
        let node = model.nodes.iter_mut().find(|node| node.name == "layer1.0.conv1").unwrap();
        let Op::Conv(conv) = &mut node.op else { panic!() };
        change(conv);
        row(&Overview::of_model(&model).unwrap(), "layer1.0.conv1").arithmetic.unwrap()
    };
    let floats = Arithmetic::Floats;
    assert_eq!(reason(&|_| {}), Arithmetic::Integers);
    assert_eq!(reason(&|conv| conv.quantizer = None), floats(Reason::InputNotQuantized));
    assert_eq!(
        reason(&|conv| conv.weight = Weight::Float(vec![0.0; 16 * 16 * 9])),
        floats(Reason::WeightNotQuantized)
    );
    assert_eq!(
        reason(&|conv| conv.quantizer.as_mut().unwrap().terms = None),
        floats(Reason::InputHasNoTerms)
    );
    assert_eq!(
        reason(&|conv| {
            let Weight::Codes(codes) = &mut conv.weight else { panic!() };
            codes.terms = None;
        }),
        floats(Reason::WeightHasNoTerms)
    );
    // Lowering keeps the integers of neither where one of them has none.
    let neither = |conv: &mut Conv| {
        conv.quantizer.as_mut().unwrap().terms = None;
        let Weight::Codes(codes) = &mut conv.weight else { panic!() };
        codes.terms = None;
    };
    assert_eq!(reason(&neither), floats(Reason::NeitherHasTerms));
    let within_channels = reason(&|conv| {
        neither(conv);
        let Weight::Codes(codes) = &mut conv.weight else { panic!() };
        let levels = codes.levels;
        codes.values = codes.values[..levels].repeat(2);
        (codes.groups, codes.run) = (2, 3);
    });
    assert_eq!(
        within_channels.to_string(),
        "floats: the scales of the weight differ within an output channel"
    );
    let dynamic = reason(&|conv| {
        let mut quantizer = levels::clipped(1.0, 4);
        (quantizer.terms, quantizer.dynamic) = (None, Dynamic::MeanOverChannels);
        conv.quantizer = Some(quantizer);
    });
    assert_eq!(dynamic.to_string(), "floats: the scale of the input depends on the position");
}

#[test]
fn the_bytes_of_all_layers_are_nearly_the_file() {
    for seed in 0..50 {
        let model = random::model(seed);
        let bytes = model.to_bytes();
        let overview = Overview::of_file(&bytes).unwrap();
        let rows: usize = overview.rows.iter().map(|row| row.bytes).sum();
        let convolutions = overview.rows.iter().filter(|row| row.weight.is_some()).count();
        // The header, names and classes, and what aligns the weights.
        assert!(rows < bytes.len() && bytes.len() < rows + 64 + 64 + 150 + 16 * convolutions);
        assert_eq!(overview.bytes, bytes.len());
    }
}

#[test]
fn the_text_is_a_table() {
    let (model, _) = resnet20(1, 3, 4);
    let text = Overview::of_model(&model).unwrap().to_string();
    println!("{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        format!("resnet20, made by quant 0.1.0, {} bytes", model.to_bytes().len())
    );
    assert_eq!(lines[1], "3 x 32 x 32 pixels, 10 scores");
    assert_eq!(lines.len(), 2 + 1 + model.nodes.len() + 1);
    let words = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(String::from).collect::<Vec<_>>()
    };
    let line = lines.iter().find(|line| line.starts_with("layer3.2.conv2")).unwrap();
    let cells = words(line);
    assert_eq!(cells[1..5], ["convolution 3x3", "64 x 8 x 8", "ternary", "2"]);
    assert_eq!(cells[6..], ["2359296", "integers"]);
}

#[test]
fn names_do_not_reach_the_terminal_s_controls() {
    let mut model = random::model(1);
    model.name = "\x1b[2Jnet\n".into();
    model.nodes[0].name = "\x1b]0;title\x07".into();
    let text = Overview::of_model(&model).unwrap().to_string();
    assert!(text.starts_with("\u{fffd}[2Jnet\u{fffd}, "), "{text}");
    assert!(!text.contains(['\x1b', '\x07']));
}

#[test]
fn a_model_that_is_not_valid_has_no_overview() {
    let mut model: Model = random::model(1);
    model.nodes.truncate(1);
    assert!(Overview::of_model(&model).is_err());
    assert!(Overview::of_file(&model.to_bytes()[..70]).is_err());
}
