//! Layers with random weights.

use quant_infer::{
    bench::{Width, rounding},
    model::{
        Conv, Dynamic, Input, Model, Node, Op, Pool, Quantizer, Term, Terms, Weight, WeightCodes,
    },
};

/// The shape of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) groups: usize,
}

impl Shape {
    pub(crate) fn new(outputs: usize, kernel: usize, stride: usize) -> Self {
        Self { outputs, kernel, stride, groups: 1 }
    }
}

/// Adds nodes. A value is the index of its node.
pub(crate) struct Builder {
    width: Width,
    nodes: Vec<Node>,
    channels: Vec<usize>,
    state: u64,
}

/// Means and standard deviations of ImageNet, for numbers from 0 to 255.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];

impl Builder {
    pub(crate) fn new(width: Width) -> Self {
        let nodes = vec![Node { name: "image".into(), op: Op::Input, inputs: Vec::new() }];
        Self { width, nodes, channels: vec![3], state: 1 }
    }

    /// Returns the model whose scores are those of the last node.
    pub(crate) fn finish(self, name: &str, side: usize) -> Model {
        Model {
            name: name.into(),
            producer: "quant-infer-benches".into(),
            classes: Vec::new(),
            input: input(side),
            nodes: self.nodes,
        }
    }

    fn random(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as u32
    }

    /// A random number from -1 to 1.
    fn number(&mut self) -> f32 {
        self.random() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<usize>, channels: usize) -> usize {
        self.nodes.push(Node { name: name.into(), op, inputs });
        self.channels.push(channels);
        self.nodes.len() - 1
    }

    /// A convolution of the network's width. `is_signed` says that its input may be negative.
    pub(crate) fn conv(&mut self, name: &str, x: usize, shape: Shape, is_signed: bool) -> usize {
        let (width, step) = (self.width, 1.0);
        let quantizer = match width {
            Width::Bits(bits) if is_signed => {
                let integers = (0..1 << bits).map(|code| 2 * code - (1 << bits) + 1).collect();
                rounding(integers, step / 2.0)
            }
            Width::Bits(bits) => rounding((0..1 << bits).collect(), 4.0 / (1 << bits) as f32),
            _ => rounding(width.activations(), step),
        };
        self.quantized(name, x, shape, quantizer, width.weights())
    }

    /// The first layer: 8 bits, on bytes.
    pub(crate) fn stem(&mut self, x: usize, shape: Shape) -> usize {
        self.quantized("stem", x, shape, bytes(&input(1)), (-127..=127).collect())
    }

    /// The last layer, with a value from 0.
    pub(crate) fn classifier(&mut self, x: usize, classes: usize) -> usize {
        let quantizer = rounding((0..256).collect(), 4.0 / 256.0);
        let integers = (-127..=127).collect();
        self.quantized("classifier", x, Shape::new(classes, 1, 1), quantizer, integers)
    }

    fn quantized(
        &mut self,
        name: &str,
        x: usize,
        shape: Shape,
        quantizer: Quantizer,
        integers: Vec<i16>,
    ) -> usize {
        let Shape { outputs, kernel, stride, groups } = shape;
        let inputs = self.channels[x];
        let per_channel = inputs / groups * kernel * kernel;
        let (elements, levels) = (outputs * per_channel, integers.len());
        // Outputs have a deviation of about 1.
        let squares: f32 = integers.iter().map(|x| f32::from(*x) * f32::from(*x)).sum();
        let scale = 1.0 / (per_channel as f32 * squares / levels as f32).sqrt();
        let scales: Vec<f32> = (0..outputs).map(|_| scale * (1.0 + self.number() / 4.0)).collect();
        let values =
            scales.iter().flat_map(|scale| integers.iter().map(move |x| f32::from(*x) * scale));
        let conv = Conv {
            in_channels: inputs,
            out_channels: outputs,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1, 1],
            groups,
            pads_codes: quantizer.groups == 1 && kernel > 1,
            quantizer: Some(quantizer),
            weight: Weight::Codes(WeightCodes {
                levels,
                codes: (0..elements).map(|_| (self.random() as usize % levels) as u8).collect(),
                groups: outputs,
                run: per_channel,
                values: values.collect(),
                terms: Some(Terms(vec![Term { scales, integers }])),
            }),
            bias: None,
        };
        self.push(name, Op::Conv(Box::new(conv)), vec![x], outputs)
    }

    /// A batch norm.
    pub(crate) fn norm(&mut self, x: usize) -> usize {
        let channels = self.channels[x];
        let scale = (0..channels).map(|_| 1.0 + self.number() / 2.0).collect();
        let shift = (0..channels).map(|_| self.number() / 2.0).collect();
        self.push("norm", Op::Affine { scale, shift }, vec![x], channels)
    }

    /// A ReLU, unless activations are -1 to 1.
    pub(crate) fn relu(&mut self, x: usize) -> usize {
        if matches!(self.width, Width::Ternary | Width::Signs) { x } else { self.real_relu(x) }
    }

    /// A ReLU.
    pub(crate) fn real_relu(&mut self, x: usize) -> usize {
        self.push("relu", Op::Relu, vec![x], self.channels[x])
    }

    pub(crate) fn add(&mut self, a: usize, b: usize) -> usize {
        self.push("add", Op::Add, vec![a, b], self.channels[a])
    }

    pub(crate) fn max_pool(&mut self, x: usize) -> usize {
        let pool = Pool { kernel: 3, stride: 2, padding: 1, ceil: false };
        self.push("max pool", Op::MaxPool(pool), vec![x], self.channels[x])
    }

    pub(crate) fn global_pool(&mut self, x: usize) -> usize {
        self.push("global pool", Op::GlobalPool, vec![x], self.channels[x])
    }

    pub(crate) fn channels(&self, x: usize) -> usize {
        self.channels[x]
    }
}

fn input(side: usize) -> Input {
    Input {
        size: [side; 2],
        shorter_side: None,
        scale: DEVIATION.map(|deviation| 1.0 / deviation).to_vec(),
        shift: [0, 1, 2].map(|channel| -MEAN[channel] / DEVIATION[channel]).to_vec(),
    }
}

/// The quantizer whose codes are the bytes of an image, as `quant pack` makes it: value a·byte + b
/// of a channel.
fn bytes(input: &Input) -> Quantizer {
    let numbers = |channel| (0..=255u8).map(move |byte| input.number(channel, byte));
    let mut thresholds = Vec::new();
    for channel in 0..input.scale.len() {
        let numbers: Vec<f32> = numbers(channel).collect();
        thresholds.extend(numbers.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0));
    }
    let terms = Terms(vec![
        Term { scales: input.scale.clone(), integers: (0..256).collect() },
        Term { scales: input.shift.clone(), integers: vec![1; 256] },
    ]);
    Quantizer {
        groups: input.scale.len(),
        levels: 256,
        thresholds,
        values: terms.values(256).unwrap_or_default(),
        terms: Some(terms),
        dynamic: Dynamic::None,
    }
}
