//! Models with random damage: the check refuses them, or they run. Nothing panics.

mod common;

use common::Random;
use proptest::prelude::*;
use quant_infer::{
    Error, Image, Network,
    model::{Conv, Model, Op, Quantizer, Terms, Weight},
};

fn size(random: &mut Random, value: &mut usize) {
    *value = match random.below(6) {
        0 => 0,
        1 => 1,
        2 => usize::MAX,
        3 => 1 << random.below(40),
        4 => value.wrapping_sub(1),
        _ => *value + 1,
    };
}

fn list<T: Clone>(random: &mut Random, list: &mut Vec<T>, number: T) {
    match random.below(4) {
        0 => drop(list.pop()),
        1 => list.push(number),
        2 => list.clear(),
        _ if !list.is_empty() => {
            let at = random.below(list.len());
            list[at] = number;
        }
        _ => {}
    }
}

fn number(random: &mut Random) -> f32 {
    random.of(&[f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, 0.0, -0.0, 1e-45, -1.0])
}

fn terms(random: &mut Random, terms: &mut Option<Terms>) {
    let Some(Terms(all)) = terms else { return };
    match random.below(4) {
        0 => *terms = None,
        1 => all.clear(),
        n => {
            let term = random.below(all.len());
            if n == 2 {
                let scale = number(random);
                list(random, &mut all[term].scales, scale);
            } else {
                let integer = random.of(&[i16::MIN, i16::MAX, -i16::MAX, 0, 1]);
                list(random, &mut all[term].integers, integer);
            }
        }
    }
}

fn quantizer(random: &mut Random, quantizer: &mut Quantizer) {
    let x = number(random);
    match random.below(6) {
        0 => size(random, &mut quantizer.groups),
        1 => size(random, &mut quantizer.levels),
        2 => list(random, &mut quantizer.thresholds, x),
        3 => list(random, &mut quantizer.values, x),
        4 => terms(random, &mut quantizer.terms),
        _ => quantizer.terms = None,
    }
}

fn conv(random: &mut Random, conv: &mut Conv) {
    let x = number(random);
    let axis = random.below(2);
    match random.below(12) {
        0 => size(random, &mut conv.in_channels),
        1 => size(random, &mut conv.out_channels),
        2 => size(random, &mut conv.kernel[axis]),
        3 => size(random, &mut conv.stride[axis]),
        4 => size(random, &mut conv.padding[axis]),
        5 => size(random, &mut conv.dilation[axis]),
        6 => size(random, &mut conv.groups),
        7 => conv.pads_codes = !conv.pads_codes,
        8 => conv.bias = Some(vec![x; random.below(3)]),
        9 => {
            if let Some(content) = &mut conv.quantizer {
                quantizer(random, content);
            }
        }
        _ => match &mut conv.weight {
            Weight::Float(weights) => list(random, weights, x),
            Weight::Codes(codes) => match random.below(6) {
                0 => size(random, &mut codes.levels),
                1 => size(random, &mut codes.groups),
                2 => size(random, &mut codes.run),
                3 => list(random, &mut codes.codes, 255),
                4 => list(random, &mut codes.values, x),
                _ => terms(random, &mut codes.terms),
            },
        },
    }
}

fn damage(random: &mut Random, model: &mut Model) {
    let x = number(random);
    if random.once_in(10) {
        match random.below(4) {
            0 => size(random, &mut model.input.size[0]),
            1 => list(random, &mut model.input.scale, x),
            2 => list(random, &mut model.input.shift, x),
            _ => drop(model.nodes.pop()),
        }
        return;
    }
    let count = model.nodes.len();
    let node = random.below(count);
    let node = &mut model.nodes[node];
    if random.once_in(8) {
        let input = random.of(&[0, 1, count - 1, count, usize::MAX]);
        return list(random, &mut node.inputs, input);
    }
    match &mut node.op {
        Op::Conv(content) => conv(random, content),
        Op::Quantize(content) => quantizer(random, content),
        Op::Affine { scale, .. } => list(random, scale, x),
        Op::RPRelu { slope, .. } => list(random, slope, x),
        Op::AddScalar(number) | Op::MulScalar(number) | Op::LeakyRelu(number) => *number = x,
        Op::MaxPool(pool) => match random.below(3) {
            0 => size(random, &mut pool.kernel),
            1 => size(random, &mut pool.stride),
            _ => size(random, &mut pool.padding),
        },
        Op::GroupNorm(n)
        | Op::AveragePool(n)
        | Op::SpaceToDepth(n)
        | Op::DepthToSpace(n)
        | Op::Pad(n)
        | Op::Repeat(n) => size(random, n),
        op => *op = if random.once_in(2) { Op::Input } else { Op::Flatten },
    }
}

/// Images are small here: a model that needs more is valid, but too slow for a test.
const MOST_ELEMENTS: usize = 1 << 18;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn damaged_models_are_refused_or_run(seed: u64) {
        let mut random = Random(seed);
        let mut model = random.model();
        for _ in 0..random.between(1, 3) {
            damage(&mut random, &mut model);
        }
        let valid = model.check();
        if let Err(error) = &valid {
            let is_of_model = matches!(error, Error::Model { .. });
            prop_assert!(is_of_model, "{}", error);
        }
        let small = |shapes: Vec<[usize; 3]>| {
            shapes.iter().map(|shape| shape.iter().product::<usize>()).sum::<usize>()
                < MOST_ELEMENTS
        };
        // The sizes of a model that is not valid may overflow.
        let is_run = valid.is_ok()
            && model.shapes(model.input.size).is_ok_and(small)
            && small_padding(&model);
        if is_run {
            let size = model.input.size;
            let bytes = random.bytes(size[0] * size[1] * model.input.scale.len());
            let scores = Network::new(&model).unwrap().run(&Image::planar(&bytes, size)).unwrap();
            prop_assert!(!scores.is_empty());
        }
    }
}

fn small_padding(model: &Model) -> bool {
    model.nodes.iter().all(|node| match &node.op {
        Op::Conv(conv) => conv.padding.iter().all(|padding| *padding < 100),
        _ => true,
    })
}
