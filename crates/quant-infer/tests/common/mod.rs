//! Random models, with every layer and many corner cases.

#![allow(dead_code, reason = "each test uses a part")]

extern crate alloc;

// Named, because the program of `tests/wasm` has no standard library.
use alloc::{boxed::Box, vec, vec::Vec};

use quant_infer::model::{
    Conv, Dynamic, Input, Model, Node, Op, Pool, Quantizer, Term, Terms, Weight, WeightCodes,
};

/// Numbers that look random (Knuth's MMIX generator).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// A number below n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n
    }

    /// A number from a to b.
    pub(crate) fn between(&mut self, a: usize, b: usize) -> usize {
        a + self.below(b - a + 1)
    }

    /// True once in n times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number from -1 to 1; half of them are multiples of 1/8, so that equal numbers meet.
    pub(crate) fn number(&mut self) -> f32 {
        if self.once_in(2) {
            (self.below(17) as f32 - 8.0) / 8.0
        } else {
            self.bits() as f32 / (1u32 << 30) as f32 - 1.0
        }
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// A factor: sometimes 0, negative, tiny or huge.
    fn factor(&mut self) -> f32 {
        match self.below(12) {
            0 => 0.0,
            1 => -0.0,
            2 => 1e-38,
            3 => -3e20,
            4 => 1.0,
            5..=7 => -self.number(),
            _ => self.number() * 2.0,
        }
    }

    fn divisor(&mut self, n: usize) -> usize {
        let divisors: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
        if self.once_in(2) { 1 } else { self.of(&divisors) }
    }

    fn terms(&mut self, groups: usize, levels: usize, most: i32) -> Terms {
        let groups = if self.once_in(2) { 1 } else { groups };
        let count = self.of(&[1, 1, 1, 2, 3]);
        let terms = (0..count).map(|term| {
            let rows = if self.once_in(2) { 1 } else { groups };
            let kind = if term > 0 && self.once_in(2) { 3 } else { self.below(3) };
            let integers = (0..rows * levels)
                .map(|at| {
                    let code = (at % levels) as i32;
                    match kind {
                        0 => code.min(most),
                        1 => (2 * code - levels as i32 + 1).clamp(-most, most),
                        2 => self.below(2 * most as usize + 1) as i32 - most,
                        _ => 1,
                    }
                })
                .map(|integer| integer as i16)
                .collect();
            let scales = (0..groups).map(|_| self.of(&[0.5, -0.25, 1e-3, 0.3, 1.0])).collect();
            Term { scales, integers }
        });
        Terms(terms.collect())
    }

    pub(crate) fn quantizer(&mut self, channels: usize, with_terms: bool) -> Quantizer {
        let groups = self.divisor(channels);
        let levels = self.of(&[2, 2, 3, 4, 4, 5, 8, 16, 17, 200, 256]);
        let spread = self.of(&[1.0, 1.0, 4.0]);
        let mut rows = |count: usize, infinite: bool| -> Vec<f32> {
            let mut row: Vec<f32> = self.numbers(count).iter().map(|x| x * spread).collect();
            if infinite && self.once_in(8) {
                row[0] = f32::NEG_INFINITY;
                row[count - 1] = f32::INFINITY;
            }
            row.sort_by(f32::total_cmp);
            row
        };
        let mut thresholds: Vec<f32> = (0..groups).flat_map(|_| rows(levels - 1, true)).collect();
        let values = (0..groups).flat_map(|_| rows(levels, false)).collect();
        if self.once_in(3) {
            let (step, offset) = (self.of(&[0.5, 0.0137, 0.1]), self.number());
            for (at, threshold) in thresholds.iter_mut().enumerate() {
                *threshold = ((at % (levels - 1)) as f32 + offset) * step;
            }
        }
        let dynamic = match (with_terms, self.below(3)) {
            (false, 0) => self.of(&[
                Dynamic::MeanOverChannels,
                Dynamic::MeanOverPositions,
                Dynamic::Mean,
                Dynamic::Deviation,
            ]),
            _ => Dynamic::None,
        };
        let terms = with_terms.then(|| self.terms(groups, levels, 300));
        Quantizer { groups, levels, thresholds, values, terms, dynamic }
    }

    fn weight(&mut self, outputs: usize, of_output: usize, with_terms: bool) -> Weight {
        let elements = outputs * of_output;
        if !with_terms && self.once_in(2) {
            return Weight::Float(self.numbers(elements));
        }
        let levels = self.of(&[2, 3, 4, 8, 16, 255, 256]);
        let (groups, run) = match self.below(4) {
            0 => (outputs, of_output),
            1 => (self.divisor(outputs), of_output * self.between(1, 2)),
            2 if !with_terms => (self.between(1, 3), self.between(1, elements)),
            _ => (1, elements),
        };
        let codes = (0..elements).map(|_| self.below(levels) as u8).collect();
        let values = self.numbers(groups * levels);
        let terms = with_terms.then(|| self.terms(groups, levels, 200));
        Weight::Codes(WeightCodes { levels, codes, groups, run, values, terms })
    }

    pub(crate) fn conv(
        &mut self,
        channels: usize,
        [height, width]: [usize; 2],
        linear: bool,
    ) -> Conv {
        let mut outputs = self.of(&[1, 2, 3, 5, 8, 12, 16, 16, 17, 32, 32, 33, 40, 48, 64, 96]);
        let groups = match self.below(4) {
            0 if !linear => self.divisor(channels),
            1 if !linear => channels,
            _ => 1,
        };
        if groups == channels && self.once_in(2) {
            outputs = channels;
        }
        outputs = outputs.next_multiple_of(groups);
        let mut geometry = ([1, 1], [1, 1], [0, 0], [1, 1]);
        for axis in 0..2 {
            let size = [height, width][axis];
            let padding = if linear { 0 } else { self.of(&[0, 1, 1, 2]) };
            let dilation = self.of(&[1, 1, 2]);
            let kernel = self.of(&[1, 3, 3, 2, 5, 7]);
            let fits = (kernel - 1) * dilation < size + 2 * padding;
            geometry.0[axis] = if fits && !linear { kernel } else { 1 };
            geometry.1[axis] = self.of(&[1, 1, 2, 3]);
            geometry.2[axis] = padding;
            geometry.3[axis] = dilation;
        }
        let in_integers = !self.once_in(3);
        let quantizer = match self.below(5) {
            _ if in_integers => Some(self.quantizer(channels, true)),
            0 => None,
            n => Some(self.quantizer(channels, n == 1)),
        };
        let of_output = channels / groups * geometry.0[0] * geometry.0[1];
        Conv {
            in_channels: channels,
            out_channels: outputs,
            kernel: geometry.0,
            stride: geometry.1,
            padding: geometry.2,
            dilation: geometry.3,
            groups,
            pads_codes: quantizer.as_ref().is_some_and(|q| q.dynamic == Dynamic::None)
                && self.once_in(2),
            weight: self.weight(outputs, of_output, in_integers),
            bias: self.once_in(3).then(|| self.numbers(outputs)),
            quantizer,
        }
    }

    /// A convolution that reads a value through the same quantizer as another one, if there is any.
    fn sibling(&mut self, model: &Model, shapes: &[[usize; 3]], input: usize) -> (Conv, usize) {
        let others = model.nodes.iter().filter_map(|node| match &node.op {
            Op::Conv(conv) => Some((conv.quantizer.clone(), node.inputs[0])),
            _ => None,
        });
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            let [channels, height, width] = shapes[input];
            return (self.conv(channels, [height, width], false), input);
        }
        let (quantizer, input) = others[self.below(others.len())].clone();
        let [channels, height, width] = shapes[input];
        let mut conv = self.conv(channels, [height, width], false);
        conv.pads_codes &= quantizer.as_ref().is_some_and(|q| q.dynamic == Dynamic::None);
        conv.quantizer = quantizer;
        (conv, input)
    }

    fn affine(&mut self, channels: usize) -> Op {
        let gentle = self.once_in(2);
        let scale =
            (0..channels).map(|_| if gentle { self.number() } else { self.factor() }).collect();
        Op::Affine { scale, shift: self.numbers(channels) }
    }

    /// A layer that keeps the size.
    fn link(&mut self, channels: usize) -> Op {
        match self.below(10) {
            0..=2 => self.affine(channels),
            3 => Op::AddScalar(self.number()),
            4 => Op::MulScalar(self.factor()),
            5 => Op::Relu,
            6 => Op::Relu6,
            7 => Op::LeakyRelu(self.number()),
            8 => Op::RPRelu {
                before: self.numbers(channels),
                slope: self.numbers(channels),
                after: self.numbers(channels),
            },
            _ => Op::Quantize(Box::new(self.quantizer(channels, false))),
        }
    }

    fn other(&mut self, [channels, height, width]: [usize; 3]) -> Op {
        match self.below(8) {
            0 => Op::GroupNorm(self.divisor(channels)),
            1 => Op::AveragePool(self.between(1, height.min(width))),
            2 => {
                let kernel = self.between(1, 3);
                let padding = self.below(kernel / 2 + 1);
                let stride = self.between(1, 3);
                Op::MaxPool(Pool { kernel, stride, padding, ceil: self.once_in(2) })
            }
            3 => Op::SpaceToDepth(2),
            4 => Op::DepthToSpace(2),
            5 => Op::Pad(self.between(0, 2)),
            6 => Op::Repeat(self.between(1, 3)),
            _ => Op::GlobalPool,
        }
    }

    /// A model whose checks pass.
    pub(crate) fn model(&mut self) -> Model {
        let channels = self.of(&[1, 2, 3, 3, 4, 6]);
        let size = [self.between(1, 9), self.between(1, 9)];
        let input = Input {
            size,
            shorter_side: None,
            scale: (0..channels).map(|_| self.of(&[1.0 / 64.0, 0.0171, -0.03125])).collect(),
            shift: self.numbers(channels),
        };
        let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
        let mut model = Model {
            name: "random".into(),
            producer: "test".into(),
            classes: Vec::new(),
            input,
            nodes: vec![node("input", Op::Input, Vec::new())],
        };
        let mut shapes = vec![[channels, size[0], size[1]]];
        for _ in 0..self.between(1, 12) {
            let last = shapes.len() - 1;
            let input = if self.once_in(4) { self.below(shapes.len()) } else { last };
            let shape @ [channels, height, width] = shapes[input];
            let mut inputs = vec![input];
            let op = match self.below(12) {
                0..=2 => Op::Conv(Box::new(self.conv(channels, [height, width], false))),
                3..=4 => {
                    let (conv, input) = self.sibling(&model, &shapes, input);
                    inputs = vec![input];
                    Op::Conv(Box::new(conv))
                }
                5..=7 => self.link(channels),
                8..=9 => {
                    let same: Vec<usize> =
                        (0..shapes.len()).filter(|i| shapes[*i] == shape).collect();
                    inputs.extend((0..self.between(0, 2)).map(|_| self.of(&same)));
                    if self.once_in(4) { Op::Concatenate } else { Op::Add }
                }
                _ => self.other(shape),
            };
            self.push(&mut model, &mut shapes, node("layer", op, inputs));
        }
        let pool = if self.once_in(2) { Op::GlobalPool } else { Op::Flatten };
        let last = shapes.len() - 1;
        self.push(&mut model, &mut shapes, node("pool", pool, vec![last]));
        let [channels, ..] = shapes[shapes.len() - 1];
        if shapes[shapes.len() - 1][1..] == [1, 1] && self.once_in(2) {
            let last = shapes.len() - 1;
            let op = Op::Conv(Box::new(self.conv(channels, [1, 1], true)));
            self.push(&mut model, &mut shapes, node("fc", op, vec![last]));
        }
        if shapes[shapes.len() - 1][1..] != [1, 1] {
            let last = shapes.len() - 1;
            model.nodes.push(node("pool", Op::GlobalPool, vec![last]));
        }
        model
    }

    /// Adds a node if the model remains valid and small.
    fn push(&mut self, model: &mut Model, shapes: &mut Vec<[usize; 3]>, node: Node) {
        model.nodes.push(node);
        match model.shapes(model.input.size) {
            Ok(all) if all.last().is_some_and(|s| s.iter().product::<usize>() < 3000) => {
                *shapes = all;
            }
            _ => drop(model.nodes.pop()),
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.of(&[0, 255, self.0 as u8, (self.0 >> 20) as u8])).collect()
    }
}

/// The bits of numbers, where all NaN are equal: processors choose between their bits.
pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    let canonical = |x: &f32| if x.is_nan() { f32::NAN } else { *x };
    numbers.iter().map(canonical).map(f32::to_bits).collect()
}

/// Returns the lowest code with the same integers, or with the same value, as the layer reads.
pub(crate) fn lowest_code(op: &Op, channels: usize, channel: usize, code: u8) -> u8 {
    let (quantizer, in_integers) = match op {
        Op::Conv(conv) => match &conv.quantizer {
            Some(quantizer) => (quantizer, conv.integer_terms().is_some()),
            None => return code,
        },
        Op::Quantize(quantizer) => (&**quantizer, false),
        _ => return code,
    };
    if quantizer.dynamic != Dynamic::None {
        return code;
    }
    let group = quantizer.group_of(channel, channels);
    let same = |other: &u8| match &quantizer.terms {
        Some(terms) if in_integers => terms.0.iter().all(|term| {
            let group = if term.scales.len() == 1 { 0 } else { group };
            let integers = term.integers_of(group, quantizer.levels);
            integers[usize::from(code)] == integers[usize::from(*other)]
        }),
        _ => quantizer.value_of(group, code) == quantizer.value_of(group, *other),
    };
    (0..=code).find(same).unwrap_or(code)
}
