//! Random models of all operations.

use quant_infer::model::{Conv, Input, Model, Node, Op, Pool, Weight, WeightCodes};

use super::{Random, levels, node};

#[derive(Debug)]
struct Builder {
    random: Random,
    nodes: Vec<Node>,
    /// The size of each node's value.
    shapes: Vec<[usize; 3]>,
}

/// The number of kinds of operations that [`Builder::operation`] knows.
pub(crate) const KINDS: usize = 20;

/// A model of an input, up to 12 random operations, and a linear layer. It passes
/// [`Model::check`].
pub(crate) fn model(seed: u64) -> Model {
    let mut random = Random(seed);
    let channels = 1 + random.below(4);
    let size = [4 + random.below(6), 4 + random.below(6)];
    let (scale, shift) = (random.floats(channels), random.floats(channels));
    let shorter_side = Some(random.below(300)).filter(|side| *side > 0);
    let input = Input { size, shorter_side, scale, shift };
    let mut net = Builder { random, nodes: Vec::new(), shapes: Vec::new() };
    net.push(Op::Input, &[], [channels, size[0], size[1]]);
    for _ in 0..net.random.below(13) {
        let kind = net.random.below(KINDS);
        net.operation(kind);
    }
    let [channels, ..] = net.shape();
    net.push(Op::GlobalPool, &[net.last()], [channels, 1, 1]);
    let classes = 1 + net.random.below(5);
    let linear = net.layer([channels, classes], [1, 1], 1);
    net.push(Op::Conv(Box::new(linear)), &[net.last()], [classes, 1, 1]);
    let named = if net.random.coin() { classes } else { 0 };
    Model {
        name: "zufällig".into(),
        producer: String::new(),
        classes: (0..named).map(|class| format!("class {class}")).collect(),
        input,
        nodes: net.nodes,
    }
}

impl Builder {
    fn push(&mut self, op: Op, inputs: &[usize], shape: [usize; 3]) {
        let name = format!("layer{}.{}", self.nodes.len(), self.random.below(100));
        self.nodes.push(node(&name, op, inputs));
        self.shapes.push(shape);
    }

    fn last(&self) -> usize {
        self.nodes.len() - 1
    }

    fn shape(&self) -> [usize; 3] {
        self.shapes[self.last()]
    }

    /// A number from 1 to `limit` that divides `number`.
    fn divisor(&mut self, number: usize, limit: usize) -> usize {
        let divisors: Vec<_> = (1..=limit).filter(|d| number.is_multiple_of(*d)).collect();
        self.random.pick(&divisors)
    }

    fn levels(&mut self) -> usize {
        let any = 2 + self.random.below(255);
        self.random.pick(&[2, 2, 3, 4, 4, 5, 8, 15, 16, 32, 64, 128, 255, 256, any])
    }

    /// A convolution without padding, stride or dilation.
    fn layer(&mut self, channels: [usize; 2], kernel: [usize; 2], groups: usize) -> Conv {
        let [in_channels, out_channels] = channels;
        let per_channel = in_channels / groups * kernel[0] * kernel[1];
        let levels = self.levels();
        let weight = match self.random.below(3) {
            0 => Weight::Float(self.random.floats(out_channels * per_channel)),
            1 => Weight::Codes(self.elementwise(out_channels * per_channel, levels)),
            _ => Weight::Codes(levels::weight(&mut self.random, levels, out_channels, per_channel)),
        };
        let bias = self.random.coin().then(|| self.random.floats(out_channels));
        let quantizer = self.random.coin().then(|| self.quantizer(in_channels));
        let is_static = |quantizer: &quant_infer::model::Quantizer| {
            quantizer.dynamic == quant_infer::model::Dynamic::None
        };
        let pads_codes = quantizer.as_ref().is_some_and(is_static) && self.random.coin();
        Conv {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups,
            quantizer,
            pads_codes,
            weight,
            bias,
        }
    }

    /// A weight whose groups are no channels.
    fn elementwise(&mut self, count: usize, levels: usize) -> WeightCodes {
        let groups = 1 + self.random.below(3);
        let codes = self.random.codes(count, levels);
        let values = self.random.floats(groups * levels);
        let run = 1 + self.random.below(4);
        WeightCodes { levels, codes, groups, run, values, terms: None }
    }

    fn quantizer(&mut self, channels: usize) -> quant_infer::model::Quantizer {
        let levels = self.levels();
        let groups = self.divisor(channels, channels);
        levels::quantizer(&mut self.random, levels, groups)
    }

    fn convolution(&mut self) {
        let [channels, height, width] = self.shape();
        let groups = self.divisor(channels, channels);
        let outputs = groups * (1 + self.random.below(3));
        let kernel = [1 + self.random.below(height.min(3)), 1 + self.random.below(width.min(3))];
        let mut layer = self.layer([channels, outputs], kernel, groups);
        layer.stride = [1 + self.random.below(2), 1 + self.random.below(2)];
        layer.padding = [self.random.below(3), self.random.below(3)];
        layer.dilation[0] = if kernel[0] == 1 { 3 } else { 1 };
        let along = |axis: usize, size: usize| {
            (size + 2 * layer.padding[axis] - kernel[axis]) / layer.stride[axis] + 1
        };
        let shape = [outputs, along(0, height), along(1, width)];
        self.push(Op::Conv(Box::new(layer)), &[self.last()], shape);
    }

    /// Appends the operation of a kind, or none where the size does not allow it.
    fn operation(&mut self, kind: usize) {
        let [c, h, w] = self.shape();
        let last = self.last();
        let (op, shape) = match kind {
            0..=2 => return self.convolution(),
            3 => (Op::Quantize(Box::new(self.quantizer(c))), [c, h, w]),
            4 => {
                let (scale, shift) = (self.random.floats(c), self.random.floats(c));
                (Op::Affine { scale, shift }, [c, h, w])
            }
            5 => (Op::AddScalar(self.random.float()), [c, h, w]),
            6 => (Op::MulScalar(self.random.float()), [c, h, w]),
            7 => (if self.random.coin() { Op::Relu } else { Op::Relu6 }, [c, h, w]),
            8 => (Op::LeakyRelu(self.random.float()), [c, h, w]),
            9 => {
                let mut list = || self.random.floats(c);
                (Op::RPRelu { before: list(), slope: list(), after: list() }, [c, h, w])
            }
            10 => (Op::GroupNorm(self.divisor(c, c)), [c, h, w]),
            11 if h > 1 && w > 1 => (Op::AveragePool(2), [c, h / 2, w / 2]),
            12 if h > 1 && w > 1 => {
                let pool = Pool { kernel: 2, stride: 2, padding: 0, ceil: self.random.coin() };
                let along = |size: usize| if pool.ceil { size.div_ceil(2) } else { size / 2 };
                (Op::MaxPool(pool), [c, along(h), along(w)])
            }
            13 if h % 2 == 0 && w % 2 == 0 => (Op::SpaceToDepth(2), [4 * c, h / 2, w / 2]),
            14 if c % 4 == 0 => (Op::DepthToSpace(2), [c / 4, 2 * h, 2 * w]),
            15 => (Op::Pad(1), [c, h + 2, w + 2]),
            16 if c < 20 => (Op::Repeat(2), [2 * c, h, w]),
            17 if c < 20 => {
                self.push(Op::Concatenate, &[last, last], [2 * c, h, w]);
                return;
            }
            18 => {
                let same = (0..last).rev().find(|&i| self.shapes[i] == [c, h, w]);
                self.push(Op::Add, &[last, same.unwrap_or(last)], [c, h, w]);
                return;
            }
            19 if c * h * w < 100 => (Op::Flatten, [c * h * w, 1, 1]),
            _ => return,
        };
        self.push(op, &[last], shape);
    }
}
