//! Random models that are exported and read again give the same scores and codes.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "../../quant-infer/tests/models/mod.rs"]
mod models;

use models::{Random, random, resnet};
use quant_infer::{
    Image,
    model::{Dynamic, Model, Op, Weight},
    reference,
};
use quant_onnx::{Format, ImportOptions, export, import};

/// Returns the model without what the importer does not know: quantizers that depend on the image.
fn without_sums_over_images(mut model: Model) -> Model {
    for node in &mut model.nodes {
        match &mut node.op {
            Op::Conv(conv) => {
                if let Some(quantizer) = &mut conv.quantizer {
                    quantizer.dynamic = Dynamic::None;
                }
            }
            Op::Quantize(quantizer) => quantizer.dynamic = Dynamic::None,
            _ => {}
        }
    }
    model
}

/// Whether a convolution of floats reads a quantizer that stands alone. Once read from a file, it
/// computes in integers, whose sums are rounded less often.
fn becomes_integers(model: &Model) -> bool {
    model.nodes.iter().any(|node| match &node.op {
        Op::Conv(conv) => {
            conv.quantizer.is_none()
                && matches!(conv.weight, Weight::Codes(_))
                && !matches!(model.nodes[node.inputs[0]].op, Op::Input)
        }
        _ => false,
    })
}

/// Compares scores and codes on an image.
fn compare(seed: u64, model: &Model, again: &Model) {
    let length = model.input.scale.len() * model.input.size[0] * model.input.size[1];
    let mut random = Random(seed ^ 77);
    for _ in 0..2 {
        let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        let image = Image::planar(&bytes, model.input.size);
        let (first, second) =
            (reference::run(model, &image).unwrap(), reference::run(again, &image).unwrap());
        assert_eq!(first.scores(), second.scores(), "seed {seed}");
    }
}

#[test]
fn random_models_come_back_with_the_same_scores() {
    let (mut equal, mut near) = (0, 0);
    for seed in 0..1500 {
        let model = without_sums_over_images(random::model(seed));
        let format = if seed % 3 == 0 { Format::Compact } else { Format::Qonnx };
        let exported = export(&model, format).unwrap();
        match import(&exported.bytes, &ImportOptions::default()) {
            // A threshold may have moved by a few units in the last place.
            Ok(_) if exported.near_quantizers > 0 || becomes_integers(&model) => near += 1,
            Ok(again) => {
                compare(seed, &model, &again.model);
                equal += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(equal > 300 && near > 100, "{equal} equal, {near} near");
}

#[test]
fn networks_of_every_width_come_back_with_the_same_scores_and_codes() {
    for (weights, levels) in [(2, 2), (2, 4), (3, 3), (4, 4), (4, 16), (16, 16), (256, 256)] {
        let (model, _) = resnet::resnet20(1, weights, levels);
        for format in [Format::Qonnx, Format::Compact] {
            let bytes = export(&model, format).unwrap().bytes;
            let again = import(&bytes, &ImportOptions::default()).unwrap();
            assert!(again.layers().0 >= 20, "{weights} {levels} {format:?}");
            let image: Vec<u8> = (0..3 * 32 * 32).map(|at| (at * 37 % 251) as u8).collect();
            let image = Image::planar(&image, [32, 32]);
            let run =
                |model: &Model| quant_infer::Network::new(model).unwrap().run(&image).unwrap();
            assert_eq!(run(&model), run(&again.model), "{weights} {levels} {format:?}");
        }
    }
}

#[test]
fn a_compact_file_is_little_larger_than_the_packed_one() {
    for (levels, most) in [(2, 1.7), (4, 1.5), (16, 1.2)] {
        let (model, _) = resnet::resnet20(1, levels, levels);
        let packed = model.to_bytes().len() as f64;
        let compact = export(&model, Format::Compact).unwrap().bytes.len() as f64;
        assert!(compact < most * packed, "{levels} levels: {compact} and {packed} bytes");
    }
}

#[test]
fn bytes_with_the_norms_in_their_scales_give_nearly_the_same_scores() {
    let (model, _) = resnet::resnet20(1, 4, 4);
    let exported = export(&model, Format::Int8).unwrap();
    let again = import(&exported.bytes, &ImportOptions::default()).unwrap();
    let of_bytes = exported.layers - exported.in_floats.len();
    assert!(of_bytes > 8 && again.layers().0 >= of_bytes, "{exported}");
    let norms = |model: &Model| {
        model.nodes.iter().filter(|node| matches!(node.op, Op::Affine { .. })).count()
    };
    assert_eq!(norms(&again.model) + of_bytes, norms(&model));
    let bytes: Vec<u8> = (0..3 * 32 * 32).map(|at| (at * 37 % 251) as u8).collect();
    let image = Image::planar(&bytes, [32, 32]);
    let run = |model: &Model| quant_infer::Network::new(model).unwrap().run(&image).unwrap();
    let (first, second) = (run(&model), run(&again.model));
    let largest = first.iter().fold(0.0f32, |most, score| most.max(score.abs()));
    for (first, second) in first.iter().zip(&second) {
        assert!((first - second).abs() < 1e-3 * largest, "{first} {second}");
    }
}
