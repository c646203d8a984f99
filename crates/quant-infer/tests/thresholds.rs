//! Thresholds of sums give every sum of a convolution the code that the layers give it which they
//! replace, as the reference computes them.
//!
//! `ROUNDS=4096 cargo test --release -p quant-infer --test thresholds` compares 4096 times as many
//! sums of each output channel: all that can occur if there are at most 2^20, and otherwise those
//! around each threshold and 2^20 others.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::Random;
use quant_infer::{
    ComparedThresholds, Network,
    model::{Conv, Dynamic, Input, Model, Node, Op, Quantizer, Term, Terms, Weight, WeightCodes},
};
use quant_kernels::simd::InstructionSet;

/// Sums of an output channel that are compared in each round.
const SUMS: u32 = 1 << 8;

fn most() -> u32 {
    let rounds = std::env::var("ROUNDS").ok().map_or(1, |rounds| rounds.parse().expect("a number"));
    SUMS * rounds
}

fn compare(model: &Model) -> ComparedThresholds {
    let mut compared = ComparedThresholds::default();
    for set in InstructionSet::available() {
        let network = Network::with_instruction_set(model, set).unwrap();
        compared = network
            .compare_thresholds(model, most())
            .unwrap_or_else(|error| panic!("{set:?}: {error}\n{model:?}"));
    }
    compared
}

/// A convolution with this input and these weights; without padding, and with kernels of one
/// element.
fn conv(quantizer: Quantizer, weight: WeightCodes, bias: Option<Vec<f32>>, groups: usize) -> Conv {
    let outputs = weight.groups.max(1);
    Conv {
        in_channels: weight.codes.len() / outputs * groups,
        out_channels: outputs,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups,
        quantizer: Some(quantizer),
        pads_codes: false,
        weight: Weight::Codes(weight),
        bias,
    }
}

/// Factors and weights of batch norms: usual ones, and those that turn codes round, make them
/// constant, or round everything away.
fn factor(random: &mut Random) -> f32 {
    match random.below(12) {
        0 => 0.0,
        1 => -0.0,
        2 => 1e-40,
        3 => -1e-30,
        4 => -1.0,
        5 => 1.0,
        6 => 1e-3,
        7..=8 => -random.number(),
        _ => 2.0 * random.number(),
    }
}

fn factors(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| factor(random)).collect()
}

/// A layer that keeps the order of numbers, or turns it round.
fn link(random: &mut Random, channels: usize) -> Op {
    match random.below(12) {
        0..=4 => Op::Affine {
            scale: factors(random, channels),
            shift: random.numbers(channels).iter().map(|x| 8.0 * x).collect(),
        },
        5 => Op::AddScalar(random.number()),
        6 => Op::MulScalar(factor(random)),
        7 => Op::Relu,
        8 => Op::Relu6,
        9 => Op::LeakyRelu(random.number().abs()),
        10 => Op::RPRelu {
            before: random.numbers(channels),
            slope: random.numbers(channels).iter().map(|x| x.abs()).collect(),
            after: random.numbers(channels),
        },
        _ => Op::Quantize(Box::new(next_quantizer(random, channels))),
    }
}

/// A quantizer of at most 16 levels, with thresholds that numbers from about -40 to 40 pass. Half
/// of them are small multiples of 1/2, which sums reach exactly.
fn next_quantizer(random: &mut Random, channels: usize) -> Quantizer {
    let groups = random.of(&[1, 1, channels]);
    let levels = random.of(&[2, 2, 3, 4, 4, 8, 15, 16]);
    let mut thresholds = Vec::new();
    for _ in 0..groups {
        let spread = random.of(&[1.0, 8.0, 40.0]);
        let mut row: Vec<f32> = random.numbers(levels - 1);
        row.iter_mut().for_each(|x| *x *= spread);
        if random.once_in(8) {
            row[0] = f32::NEG_INFINITY;
            row[levels - 2] = f32::INFINITY;
        }
        row.sort_by(f32::total_cmp);
        thresholds.extend(row);
    }
    let integers: Vec<i16> = match random.below(3) {
        0 if levels == 2 => vec![-1, 1],
        1 => (0..levels as i16).map(|code| 2 * code - levels as i16 + 1).collect(),
        _ => (0..levels as i16).collect(),
    };
    let values = integers.repeat(groups).iter().map(|integer| f32::from(*integer)).collect();
    let terms = Some(Terms(vec![Term { scales: vec![1.0; groups], integers }]));
    Quantizer { groups, levels, thresholds, values, terms, dynamic: Dynamic::None }
}

/// A model of a convolution with several channels, layers that can be folded, and one or two
/// quantized convolutions that read them.
fn model(random: &mut Random) -> Model {
    // As in layers of networks, or with sums of more than 2^24, which floats round.
    let (inputs, largest_input, largest_weight) = match random.below(3) {
        0 => (random.between(1, 40), random.of(&[1, 3, 15]), random.of(&[1, 3, 7])),
        1 => (random.between(1, 600), 255, 127),
        _ => (random.between(1, 300), 1000, 2000),
    };
    let outputs = random.of(&[1, 2, 3, 5, 16, 17, 32, 48, 64]);
    let weight_levels = random.of(&[2, 3, 4, 16]);
    let mut integers: Vec<i16> =
        (0..weight_levels).map(|_| random.below(2 * largest_weight + 1) as i16).collect();
    integers.iter_mut().for_each(|integer| *integer -= largest_weight as i16);
    integers[random.below(weight_levels)] = random.of(&[0, largest_weight as i16]);
    integers[random.below(weight_levels)] = 0;
    let zero = integers.iter().position(|integer| *integer == 0).unwrap_or(0) as u8;
    let mut codes = Vec::new();
    for _ in 0..outputs {
        // A channel without weights has no sum but 0.
        let is_empty = random.once_in(6);
        let code = |_| if is_empty { zero } else { random.below(weight_levels) as u8 };
        codes.extend((0..inputs).map(code).collect::<Vec<_>>());
    }
    // The largest sums become numbers of about this size.
    let most = (inputs * largest_input * largest_weight) as f32;
    let is_exact = random.once_in(2);
    let scales: Vec<f32> = (0..outputs)
        .map(|_| {
            let scale = random.of(&[1.0, 8.0, 40.0, -40.0]) / most;
            // Powers of two give products that are no more rounded than the sums.
            if is_exact { f32::from_bits(scale.to_bits() & 0xff80_0000) } else { scale }
        })
        .collect();
    let values = scales
        .iter()
        .flat_map(|scale| integers.iter().map(move |integer| scale * f32::from(*integer)))
        .collect();
    let weight = WeightCodes {
        levels: weight_levels,
        codes,
        groups: outputs,
        run: inputs,
        values,
        terms: Some(Terms(vec![Term { scales, integers }])),
    };
    let quantizer = Quantizer {
        groups: 1,
        levels: 2,
        thresholds: vec![0.5],
        values: vec![0.0, largest_input as f32],
        terms: Some(Terms(vec![Term {
            scales: vec![1.0],
            integers: vec![0, largest_input as i16],
        }])),
        dynamic: Dynamic::None,
    };
    let bias = random.once_in(3).then(|| random.numbers(outputs));
    let node = |op, inputs| Node { name: "layer".into(), op, inputs };
    let mut nodes = vec![
        node(Op::Input, Vec::new()),
        node(Op::Conv(Box::new(conv(quantizer, weight, bias, 1))), vec![0]),
    ];
    for _ in 0..random.below(5) {
        nodes.push(node(link(random, outputs), vec![nodes.len() - 1]));
    }
    let before = nodes.len() - 1;
    let readers = random.between(1, 2);
    for _ in 0..readers {
        let quantizer = next_quantizer(random, outputs);
        let weight = WeightCodes {
            levels: 2,
            codes: (0..outputs).map(|_| random.below(2) as u8).collect(),
            groups: outputs,
            run: 1,
            values: [-1.0, 1.0].repeat(outputs),
            terms: Some(Terms(vec![Term { scales: vec![1.0; outputs], integers: vec![-1, 1] }])),
        };
        let depthwise = conv(quantizer, weight, None, outputs);
        nodes.push(node(Op::Conv(Box::new(depthwise)), vec![before]));
    }
    if readers == 2 {
        nodes.push(node(Op::Add, vec![before + 1, before + 2]));
    }
    Model {
        name: "folded".into(),
        producer: "test".into(),
        classes: Vec::new(),
        input: Input {
            size: [1, 1],
            shorter_side: None,
            scale: vec![1.0; inputs],
            shift: vec![0.0; inputs],
        },
        nodes,
    }
}

#[test]
fn all_sums_of_folded_layers_have_the_codes_of_what_was_folded() {
    let (mut folded, mut above, mut sums) = (0, 0, 0);
    for seed in 0..80 {
        let compared = compare(&model(&mut Random(seed)));
        folded += compared.convolutions;
        above += usize::from(compared.largest > 1 << 24);
        sums += compared.sums;
    }
    assert!(folded > 40, "{folded} of 80 were folded");
    assert!(above > 10, "{above} of 80 have sums that floats round");
    assert!(sums > 100_000, "{sums} sums were compared");
}

#[test]
fn folded_layers_of_any_model_have_the_codes_of_what_was_folded() {
    let mut folded = 0;
    for seed in 0..300 {
        let model = Random(seed).model();
        if model.check().is_ok() {
            folded += compare(&model).convolutions;
        }
    }
    assert!(folded > 10, "{folded}");
}
