//! Measures a network of the shape of ResNet-18 with random weights of 2 bits, on one thread:
//! `cargo run --release -p quant-infer --example resnet18_speed [BITS] [SIZE]`.
//!
//! The first and the last layer are floats, and all other convolutions read codes.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::time::Instant;

use quant_infer::{
    Image, Network,
    model::{
        Conv, Dynamic, Input, Model, Node, Op, Pool, Quantizer, Term, Terms, Weight, WeightCodes,
    },
};
use quant_kernels::simd::InstructionSet;

struct Builder {
    nodes: Vec<Node>,
    levels: usize,
    state: u64,
}

impl Builder {
    fn random(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as u32
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<usize>) -> usize {
        self.nodes.push(Node { name: name.into(), op, inputs });
        self.nodes.len() - 1
    }

    /// A quantizer with the steps 1, for values from 0.
    fn quantizer(&self) -> Quantizer {
        let levels = self.levels;
        Quantizer {
            groups: 1,
            levels,
            thresholds: (1..levels).map(|k| k as f32 - 0.5).collect(),
            values: (0..levels).map(|k| k as f32).collect(),
            terms: Some(Terms(vec![Term {
                scales: vec![1.0],
                integers: (0..levels as i16).collect(),
            }])),
            dynamic: Dynamic::None,
        }
    }

    fn conv(&mut self, x: usize, size: [usize; 4], quantized: bool) -> usize {
        let [inputs, outputs, kernel, stride] = size;
        let per_channel = inputs * kernel * kernel;
        let elements = outputs * per_channel;
        let levels = self.levels;
        let scale = 0.2 / (per_channel as f32).sqrt();
        let weight = if quantized {
            let integers: Vec<i16> =
                (0..levels as i16).map(|code| 2 * code - levels as i16 + 1).collect();
            Weight::Codes(WeightCodes {
                levels,
                codes: (0..elements).map(|_| (self.random() as usize % levels) as u8).collect(),
                groups: 1,
                run: elements,
                values: integers.iter().map(|x| f32::from(*x) * scale).collect(),
                terms: Some(Terms(vec![Term { scales: vec![scale], integers }])),
            })
        } else {
            let number = |x: u32| (x as f32 / (1u32 << 30) as f32 - 1.0) * scale;
            Weight::Float((0..elements).map(|_| number(self.random())).collect())
        };
        let conv = Conv {
            in_channels: inputs,
            out_channels: outputs,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1, 1],
            groups: 1,
            quantizer: quantized.then(|| self.quantizer()),
            pads_codes: quantized,
            weight,
            bias: None,
        };
        self.push("conv", Op::Conv(Box::new(conv)), vec![x])
    }

    fn norm(&mut self, x: usize, channels: usize) -> usize {
        let scale = (0..channels).map(|_| self.random() as f32 / (1u32 << 30) as f32).collect();
        let shift = (0..channels).map(|_| self.random() as f32 / (1u32 << 30) as f32).collect();
        self.push("norm", Op::Affine { scale, shift }, vec![x])
    }

    fn block(&mut self, x: usize, inputs: usize, outputs: usize, stride: usize) -> usize {
        let y = self.conv(x, [inputs, outputs, 3, stride], true);
        let y = self.norm(y, outputs);
        let y = self.push("relu", Op::Relu, vec![y]);
        let y = self.conv(y, [outputs, outputs, 3, 1], true);
        let y = self.norm(y, outputs);
        let shortcut = if stride == 1 {
            x
        } else {
            let x = self.conv(x, [inputs, outputs, 1, stride], true);
            self.norm(x, outputs)
        };
        let y = self.push("add", Op::Add, vec![y, shortcut]);
        self.push("relu", Op::Relu, vec![y])
    }
}

fn resnet18(levels: usize, side: usize) -> Model {
    let mut builder = Builder { nodes: Vec::new(), levels, state: 1 };
    let x = builder.push("input", Op::Input, Vec::new());
    let x = builder.conv(x, [3, 64, 7, 2], false);
    let x = builder.norm(x, 64);
    let x = builder.push("relu", Op::Relu, vec![x]);
    let pool = Pool { kernel: 3, stride: 2, padding: 1, ceil: false };
    let mut x = builder.push("pool", Op::MaxPool(pool), vec![x]);
    let mut channels = 64;
    for outputs in [64, 128, 256, 512] {
        x = builder.block(x, channels, outputs, if outputs == channels { 1 } else { 2 });
        x = builder.block(x, outputs, outputs, 1);
        channels = outputs;
    }
    let x = builder.push("pool", Op::GlobalPool, vec![x]);
    builder.conv(x, [512, 1000, 1, 1], false);
    let input = Input {
        size: [side; 2],
        shorter_side: None,
        scale: vec![1.0 / 58.0; 3],
        shift: vec![-2.1, -2.0, -1.8],
    };
    let (name, producer) = ("resnet18".into(), "resnet18_speed".into());
    Model { name, producer, classes: Vec::new(), input, nodes: builder.nodes }
}

/// Number of times that the image is run.
const RUNS: usize = 40;

fn main() {
    let arguments: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let bits = arguments.first().copied().unwrap_or(2);
    let side = arguments.get(1).copied().unwrap_or(224);
    let model = resnet18(1 << bits, side);
    let bytes: Vec<u8> = (0..3 * side * side).map(|i| (i * 7 % 251) as u8).collect();
    let image = Image::interleaved(&bytes, [side; 2]);
    for set in InstructionSet::available() {
        let start = Instant::now();
        let network = match Network::with_instruction_set(&model, set) {
            Ok(network) => network,
            Err(error) => return eprintln!("{error}"),
        };
        let prepared = start.elapsed().as_secs_f64() * 1e3;
        let mut session = network.session();
        let mut best = f64::INFINITY;
        let mut steps: Vec<(&str, f64)> = Vec::new();
        for _ in 0..RUNS {
            let times = session.profile(&image).unwrap_or_default();
            steps.resize(times.len(), ("", f64::INFINITY));
            best = best.min(times.iter().map(|(_, time)| time.as_secs_f64() * 1e3).sum());
            for (step, (name, time)) in steps.iter_mut().zip(times) {
                *step = (name, step.1.min(time.as_secs_f64() * 1e3));
            }
        }
        let sum: f64 = steps.iter().map(|(_, time)| time).sum();
        println!(
            "{:9} {bits} bits, {side} x {side}: {best:.2} ms per image (best of {RUNS}), {sum:.2} \
             ms as the sum of each step's best, prepared in {prepared:.0} ms",
            set.name()
        );
        if std::env::args().any(|argument| argument == "--steps") {
            steps.iter().for_each(|(name, time)| println!("    {time:8.3} ms {name}"));
        }
    }
}
