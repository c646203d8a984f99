//! What a network costs on this processor: the kernel of each step, how fast that kernel can be,
//! and the same network with weights and activations of other widths.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
use std::time::Instant;

use quant_kernels::{
    channels_last::{Arithmetic, Run, Weights},
    simd::InstructionSet,
};

pub use crate::engine::Kernel;
use crate::{
    Network, Packing,
    model::{Conv, Dynamic, Model, Node, Op, Quantizer, Term, Terms, Weight, WeightCodes},
};

/// The width of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Bits of weights and activations, from 2 to 8. Activations are 0 and more; weights are
    /// half-integer steps on both sides of 0.
    Bits(u32),
    /// Weights and activations are -1, 0 or 1.
    Ternary,
    /// Weights and activations are -1 or 1.
    Signs,
    /// The layer computes with floats.
    Floats,
}

impl Width {
    /// The widths that are compared, the narrowest first.
    pub const ALL: [Self; 7] = [
        Self::Signs,
        Self::Ternary,
        Self::Bits(2),
        Self::Bits(3),
        Self::Bits(4),
        Self::Bits(8),
        Self::Floats,
    ];

    /// Returns the name, as it is used for networks: `w2a2`, `ternary` or `f32`.
    pub fn name(self) -> String {
        match self {
            Self::Bits(bits) => format!("w{bits}a{bits}"),
            Self::Ternary => "ternary".into(),
            Self::Signs => "w1a1".into(),
            Self::Floats => "f32".into(),
        }
    }

    /// Returns the width of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = (2..=8).map(Self::Bits).chain([Self::Ternary, Self::Signs, Self::Floats]);
        all.into_iter().find(|width| width.name() == name)
    }

    /// Returns the integers of weights. There are none for floats.
    pub fn weights(self) -> Vec<i16> {
        match self {
            Self::Bits(bits) => (0..1 << bits).map(|code| 2 * code - (1 << bits) + 1).collect(),
            Self::Ternary => vec![-1, 0, 1],
            Self::Signs => vec![-1, 1],
            Self::Floats => Vec::new(),
        }
    }

    /// Returns the integers of activations. There are none for floats.
    pub fn activations(self) -> Vec<i16> {
        match self {
            Self::Bits(bits) => (0..1 << bits).collect(),
            _ => self.weights(),
        }
    }
}

/// Returns a network of the same structure whose convolutions have another width, with weights of
/// its own. The convolutions that read the image, the last one, and those whose quantizers depend
/// on the image stay as they are. The result shows what a width costs; its scores mean nothing.
pub fn with_width(model: &Model, width: Width) -> Model {
    let is_conv = |node: &Node| matches!(node.op, Op::Conv(_));
    let last = model.nodes.iter().rposition(is_conv);
    let replaced = |(index, node): (usize, &Node)| {
        let Op::Conv(conv) = &node.op else { return node.clone() };
        let reads_image = node.inputs.iter().any(|input| model.nodes[*input].op == Op::Input);
        let is_static = conv.quantizer.as_ref().is_some_and(|q| q.dynamic == Dynamic::None);
        if reads_image || !is_static || Some(index) == last {
            return node.clone();
        }
        let op = Op::Conv(Box::new(replaced_conv(conv, width)));
        Node { op, ..node.clone() }
    };
    Model { nodes: model.nodes.iter().enumerate().map(replaced).collect(), ..model.clone() }
}

fn replaced_conv(conv: &Conv, width: Width) -> Conv {
    let [height, columns] = conv.kernel;
    let per_channel = conv.in_channels / conv.groups * height * columns;
    let count = conv.out_channels * per_channel;
    let scale = 1.0 / (per_channel as f32).sqrt();
    if width == Width::Floats {
        let weight = (0..count).map(|index| scale * ((index * 7 % 13) as f32 - 6.0));
        let weight = Weight::Float(weight.collect());
        return Conv { quantizer: None, pads_codes: false, weight, ..conv.clone() };
    }
    let (integers, levels) = (width.weights(), width.weights().len());
    let scales = vec![scale / levels as f32; conv.out_channels];
    let values =
        scales.iter().flat_map(|scale| integers.iter().map(move |x| f32::from(*x) * scale));
    let weight = Weight::Codes(WeightCodes {
        levels,
        codes: (0..count).map(|index| (index * 7 % 13 % levels) as u8).collect(),
        groups: conv.out_channels,
        run: per_channel,
        values: values.collect(),
        terms: Some(Terms(vec![Term { scales, integers }])),
    });
    let quantizer = Some(rounding(width.activations(), 1.0));
    Conv { quantizer, weight, ..conv.clone() }
}

/// Returns a quantizer with the values integer·scale: each number becomes the nearest one. Half of
/// a step is rounded to the even code, as quantizers with a step size do. Thresholds are exact if
/// the scale is a power of two.
pub fn rounding(integers: Vec<i16>, scale: f32) -> Quantizer {
    let value = |integer: &i16| f32::from(*integer) * scale;
    let threshold = |(code, pair): (usize, &[i16])| {
        let middle = (value(&pair[0]) + value(&pair[1])) / 2.0;
        if code.is_multiple_of(2) { middle.next_up() } else { middle }
    };
    Quantizer {
        groups: 1,
        levels: integers.len(),
        thresholds: integers.windows(2).enumerate().map(threshold).collect(),
        values: integers.iter().map(value).collect(),
        terms: Some(Terms(vec![Term { scales: vec![scale], integers }])),
        dynamic: Dynamic::None,
    }
}

impl Kernel {
    /// Measures how many products this kernel computes per nanosecond on one thread where it is at
    /// its best: a 3 x 3 convolution of 64 channels, whose weights and image stay in the cache.
    /// `None` for kernels without such a limit.
    pub fn peak(self, set: InstructionSet) -> Option<f64> {
        let taps = |per_word: usize| 9 * PEAK_CHANNELS / per_word;
        let bytes = |_| |tap: usize| [1, -2, 3, tap as i8 & 3];
        let all = PEAK_CHANNELS;
        Some(match self {
            Self::Floats => peak(1, &Weights::floats(set, all, taps(1), |_| |_| 1.0)),
            Self::Integers(Packing::Pairs) => {
                peak(2, &Weights::pairs(set, all, taps(2), |_| |_| [1, 2]))
            }
            Self::Integers(Packing::Bytes) => {
                let plain = peak(4, &Weights::bytes(set, all, taps(4), bytes));
                let small = Weights::small_bytes(set, (all, taps(4)), 3, bytes);
                let small = small.filter(|_| !set.has_dot_products());
                small.map_or(plain, |small| plain.max(peak(4, &small)))
            }
            Self::Integers(Packing::Signs) => {
                peak(32, &Weights::signs(set, all, taps(32), |_| |_| 7))
            }
            Self::Integers(Packing::Ternary) => {
                peak(32, &Weights::ternary(set, all, taps(32), |_| |_| [7, 2]))
            }
            Self::Depthwise => return None,
        })
    }
}

const PEAK_CHANNELS: usize = 64;
const PEAK_SIZE: usize = 24;
const PEAK_RUNS: usize = 25;

/// The products per nanosecond of a kernel.
fn peak<A: Arithmetic>(per_word: usize, weights: &Weights<A>) -> f64 {
    let step = A::Tap::default().as_ref().len();
    let words = PEAK_CHANNELS / per_word * step;
    let width = PEAK_SIZE + 2;
    let runs = [0, 1, 2].map(|row| Run {
        start: (row * width * words) as u32,
        length: (3 * words / step) as u32,
        step: step as u32,
    });
    let positions = 0..PEAK_SIZE * PEAK_SIZE;
    let starts: Vec<u32> =
        positions.map(|at| ((at / PEAK_SIZE * width + at % PEAK_SIZE) * words) as u32).collect();
    let input = vec![A::Word::default(); width * width * words];
    let mut sums = vec![A::Sum::default(); starts.len() * weights.sums()];
    let products = 9 * PEAK_CHANNELS * PEAK_CHANNELS * starts.len();
    let mut best = f64::INFINITY;
    for _ in 0..PEAK_RUNS {
        let start = Instant::now();
        weights.multiply(&input, &runs, &starts, (None, None), &mut sums, weights.sums());
        best = best.min(start.elapsed().as_secs_f64());
    }
    products as f64 / best * 1e-9
}

/// A step of a network: layers that are computed together.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInfo<'a> {
    /// The name of the first layer.
    pub name: &'a str,
    /// What computes its sums, if it is a convolution or a linear layer.
    pub kernel: Option<Kernel>,
    /// The number of products for an image of the network's own size.
    pub products: u64,
}

impl Network {
    /// Returns the steps, in the order of [`Session::profile`](crate::Session::profile).
    pub fn steps(&self) -> Vec<StepInfo<'_>> {
        let shapes = self.model().shapes(self.input().size).unwrap_or_default();
        self.kernels()
            .map(|(node, kernel)| {
                let content = &self.model().nodes[node];
                let products = match (&content.op, shapes.get(node)) {
                    (Op::Conv(conv), Some([outputs, height, width])) => {
                        let below =
                            conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
                        (outputs * height * width * below) as u64
                    }
                    _ => 0,
                };
                StepInfo { name: &content.name, kernel, products }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Input;

    /// A network of four convolutions of two channels: of the image, two of 2 bits, and the last.
    fn model() -> Model {
        let conv = Conv {
            in_channels: 2,
            out_channels: 2,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            quantizer: None,
            pads_codes: false,
            weight: Weight::Float(vec![1.0; 4]),
            bias: None,
        };
        let quantized = replaced_conv(&Conv { quantizer: None, ..conv.clone() }, Width::Bits(2));
        let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
        Model {
            name: "four".into(),
            producer: "test".into(),
            classes: Vec::new(),
            input: Input {
                size: [3, 3],
                shorter_side: None,
                scale: vec![1.0; 2],
                shift: vec![0.0; 2],
            },
            nodes: vec![
                node("image", Op::Input, vec![]),
                node("first", Op::Conv(Box::new(conv)), vec![0]),
                node("second", Op::Conv(Box::new(quantized.clone())), vec![1]),
                node("third", Op::Conv(Box::new(quantized.clone())), vec![2]),
                node("pool", Op::GlobalPool, vec![3]),
                node("last", Op::Conv(Box::new(quantized)), vec![4]),
            ],
        }
    }

    #[test]
    fn every_width_is_a_valid_network_that_changes_the_layers_in_the_middle() {
        let model = model();
        for width in Width::ALL {
            let changed = with_width(&model, width);
            changed.check().unwrap();
            let same = |name: &str| {
                let find =
                    |model: &Model| model.nodes.iter().find(|node| node.name == name).cloned();
                find(&model) == find(&changed)
            };
            assert!(same("first") && same("last"), "{width:?}");
            assert_eq!(same("second"), width == Width::Bits(2), "{width:?}");
            assert_eq!(same("third"), width == Width::Bits(2), "{width:?}");
        }
    }

    #[test]
    fn steps_have_their_kernels_and_products() {
        let set = InstructionSet::available().last().unwrap();
        let network = Network::with_instruction_set(&model(), set).unwrap();
        let steps = network.steps();
        let of = |name: &str| steps.iter().find(|step| step.name == name).unwrap();
        assert_eq!((of("first").kernel, of("first").products), (Some(Kernel::Floats), 36));
        assert!(matches!(of("third").kernel, Some(Kernel::Integers(_))));
        assert_eq!(of("last").products, 4);
        assert_eq!(of("pool").kernel, None);
        assert!(Kernel::Integers(Packing::Signs).peak(set).is_some_and(|peak| peak > 0.0));
        assert_eq!(Kernel::Depthwise.peak(set), None);
    }
}
