//! Convolutions in integers.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use quant_kernels::{
    channels_last::{Weights, depthwise_integers},
    simd::InstructionSet,
};

use super::taps::{Geometry, OperandSize, Places, runs};
use crate::model::{Conv, Terms, WeightCodes};

/// A convolution whose operand and weight are integers.
#[derive(Debug, Clone)]
pub(crate) struct IntegerConv {
    pub(super) geometry: Geometry,
    set: InstructionSet,
    weights: Vec<Kernel>,
    /// The groups of output channels, which are computed one after another.
    pub(crate) groups: Vec<Group>,
}

/// Output channels that are computed together.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The first channel.
    pub(crate) first: usize,
    /// The number of channels.
    pub(crate) outputs: usize,
    /// The accumulators, in the order in which they are added.
    pub(crate) passes: Vec<Pass>,
}

/// One accumulator.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// The term of the quantizer.
    pub(crate) term: usize,
    /// The index of the weights.
    weights: usize,
    /// The factor of each output channel.
    pub(crate) scales: Vec<f32>,
}

/// A way to compute sums, with the weights in its order.
///
/// Every kernel writes the same sums, since sums of integers are exact. Another kernel is another
/// variant here, with the form of its operand in [`Form`](crate::engine::plan::Form).
#[derive(Debug, Clone)]
enum Kernel {
    /// Vectors over output channels, with pairs of input channels in a range.
    Tiles { weights: Weights<[i16; 2]>, pairs: Range<usize> },
    /// Vectors over channels, each of which is convolved alone. `[taps, channels]`.
    Depthwise { weights: Vec<i16>, channels: usize },
}

/// Returns whether each channel is convolved alone.
pub(super) fn is_depthwise(conv: &Conv) -> bool {
    conv.groups > 1 && conv.groups == conv.in_channels && conv.groups == conv.out_channels
}

/// The integers of a weight.
struct WeightIntegers<'a> {
    codes: &'a WeightCodes,
    terms: &'a Terms,
    /// Whether the integers of an output channel are negated.
    negate: &'a [bool],
    channels: usize,
    taps: usize,
}

impl WeightIntegers<'_> {
    fn group(&self, output: usize) -> usize {
        self.codes.group_of(output * self.channels * self.taps)
    }

    fn scale(&self, term: usize, output: usize) -> f32 {
        self.terms.0[term].scale_of(self.group(output))
    }

    /// Returns the integer of an output channel, a channel of its group, and a tap.
    fn of(&self, term: usize, output: usize, channel: usize, tap: usize) -> i16 {
        let element = (output * self.channels + channel) * self.taps + tap;
        let integers = self.terms.0[term].integers_of(self.group(output), self.codes.levels);
        let integer = integers[usize::from(self.codes.codes[element])];
        if self.negate[output] { -integer } else { integer }
    }
}

impl IntegerConv {
    /// Prepares a convolution. `negate` says for each output channel whether its sums are negated.
    pub(crate) fn new(
        set: InstructionSet,
        conv: &Conv,
        (input_terms, weight_terms): (&Terms, &Terms),
        codes: &WeightCodes,
        negate: &[bool],
    ) -> Self {
        let integers = WeightIntegers {
            codes,
            terms: weight_terms,
            negate,
            channels: conv.in_channels / conv.groups,
            taps: conv.kernel[0] * conv.kernel[1],
        };
        let mut prepared =
            Self { geometry: Geometry::from(conv), set, weights: Vec::new(), groups: Vec::new() };
        if is_depthwise(conv) {
            prepared.add_depthwise(conv, input_terms, &integers);
        } else {
            for group in 0..conv.groups {
                prepared.add_group(conv, group, input_terms, &integers);
            }
        }
        prepared
    }

    fn add_depthwise(&mut self, conv: &Conv, input_terms: &Terms, integers: &WeightIntegers<'_>) {
        let channels = conv.out_channels;
        for term in 0..integers.terms.0.len() {
            let weights = (0..integers.taps)
                .flat_map(|tap| (0..channels).map(move |channel| (channel, tap)))
                .map(|(channel, tap)| integers.of(term, channel, 0, tap))
                .collect();
            self.weights.push(Kernel::Depthwise { weights, channels });
        }
        let mut passes = Vec::new();
        for (term, content) in input_terms.0.iter().enumerate() {
            let groups = content.scales.len();
            for weights in 0..integers.terms.0.len() {
                let scales = (0..channels)
                    .map(|channel| {
                        let scale = content.scale_of(channel * groups / channels);
                        scale * integers.scale(weights, channel)
                    })
                    .collect();
                passes.push(Pass { term, weights, scales });
            }
        }
        self.groups.push(Group { first: 0, outputs: channels, passes });
    }

    fn add_group(
        &mut self,
        conv: &Conv,
        group: usize,
        input_terms: &Terms,
        integers: &WeightIntegers<'_>,
    ) {
        let channels = integers.channels;
        let outputs = conv.out_channels / conv.groups;
        let first = group * outputs;
        let all = group * channels..(group + 1) * channels;
        let scale_groups = input_terms.0[0].scales.len();
        // The scale groups that have a channel of this group, with their channels.
        let ranges: Vec<(usize, Range<usize>)> = (0..scale_groups)
            .filter_map(|scale_group| {
                let size = conv.in_channels / scale_groups;
                let start = all.start.max(scale_group * size);
                let end = all.end.min((scale_group + 1) * size);
                (start < end).then_some((scale_group, start..end))
            })
            .collect();
        let first_weights = self.weights.len();
        for (_, range) in &ranges {
            for term in 0..integers.terms.0.len() {
                let kernel = self.tiles(integers, term, first..first + outputs, &all, range);
                self.weights.push(kernel);
            }
        }
        let mut passes = Vec::new();
        for (term, content) in input_terms.0.iter().enumerate() {
            for (index, (scale_group, _)) in ranges.iter().enumerate() {
                for weight_term in 0..integers.terms.0.len() {
                    let scales = (first..first + outputs)
                        .map(|output| {
                            content.scale_of(*scale_group) * integers.scale(weight_term, output)
                        })
                        .collect();
                    let weights = first_weights + index * integers.terms.0.len() + weight_term;
                    passes.push(Pass { term, weights, scales });
                }
            }
        }
        self.groups.push(Group { first, outputs, passes });
    }

    /// Returns the weights of some outputs, for the input channels of a range.
    fn tiles(
        &self,
        integers: &WeightIntegers<'_>,
        term: usize,
        outputs: Range<usize>,
        all: &Range<usize>,
        range: &Range<usize>,
    ) -> Kernel {
        let pairs = range.start / 2..range.end.div_ceil(2);
        let taps = integers.taps * pairs.len();
        let weights = Weights::pack(self.set, outputs.len(), taps, |output, tap| {
            let pair = pairs.start + tap % pairs.len();
            [2 * pair, 2 * pair + 1].map(|channel| {
                if range.contains(&channel) {
                    let tap = tap / pairs.len();
                    integers.of(term, outputs.start + output, channel - all.start, tap)
                } else {
                    0
                }
            })
        });
        Kernel::Tiles { weights, pairs }
    }

    /// Returns the number of sums of a position that the kernels write at once.
    pub(crate) fn most_sums(&self) -> usize {
        let sums = |kernel: &Kernel| match kernel {
            Kernel::Tiles { weights, .. } => weights.sums(),
            Kernel::Depthwise { channels, .. } => *channels,
        };
        self.weights.iter().map(sums).max().unwrap_or(0)
    }

    /// Returns the places that are read in an operand of this size, whose elements are pairs.
    pub(crate) fn places(&self, size: &OperandSize, output: [usize; 2]) -> Places {
        let geometry = &self.geometry;
        let [rows, columns] = geometry.kernel;
        let positions = || (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
        let mut places = Places { starts: size.starts(geometry, output), ..Places::default() };
        for kernel in &self.weights {
            match kernel {
                Kernel::Tiles { pairs, .. } => {
                    places.runs.push(runs(positions().flat_map(|(y, x)| {
                        let at = size.tap(geometry, y, x);
                        pairs.clone().map(move |pair| at + pair)
                    })));
                }
                Kernel::Depthwise { .. } if places.taps.is_empty() => {
                    let tap = |(y, x)| 2 * size.tap(geometry, y, x) as u32;
                    places.taps = positions().map(tap).collect();
                }
                Kernel::Depthwise { .. } => {}
            }
        }
        if !places.taps.is_empty() {
            places.starts.iter_mut().for_each(|start| *start *= 2);
        }
        places
    }

    /// Writes the sums of a pass for a range of positions, and returns their distance. `operand`
    /// is that of the pass's term.
    pub(crate) fn run(
        &self,
        pass: &Pass,
        operand: &[[i16; 2]],
        places: &Places,
        positions: Range<usize>,
        sums: &mut [i32],
    ) -> usize {
        let starts = &places.starts[positions];
        match &self.weights[pass.weights] {
            Kernel::Tiles { weights, .. } => {
                let runs = &places.runs[pass.weights];
                weights.multiply(operand, runs, starts, sums, weights.sums());
                weights.sums()
            }
            Kernel::Depthwise { weights, channels } => {
                let (input, taps) = (operand.as_flattened(), &places.taps);
                depthwise_integers(self.set, input, taps, starts, weights, *channels, sums);
                *channels
            }
        }
    }
}

impl Group {
    /// Adds the sums of a pass, times its scales, to the numbers `[positions, channels]`. `sums`
    /// returns those of a position.
    pub(crate) fn combine<'a>(
        &self,
        set: InstructionSet,
        pass: usize,
        sums: impl Fn(usize) -> &'a [i32],
        numbers: &mut [f32],
        channels: usize,
    ) {
        let scales = &self.passes[pass].scales[..];
        set.vectorize(
            #[inline(always)]
            || {
                for (position, numbers) in numbers.chunks_exact_mut(channels).enumerate() {
                    let sums = sums(position).iter().zip(scales);
                    let summands = sums.map(|(sum, scale)| *sum as f32 * scale);
                    let numbers = &mut numbers[self.first..][..self.outputs];
                    if pass == 0 {
                        numbers.iter_mut().zip(summands).for_each(|(y, summand)| *y = summand);
                    } else {
                        numbers.iter_mut().zip(summands).for_each(|(y, summand)| *y += summand);
                    }
                }
            },
        );
    }
}

/// Returns the largest sum of magnitudes that the accumulator of each output channel can have.
pub(super) fn largest_sums(
    conv: &Conv,
    (input_terms, weight_terms): (&Terms, &Terms),
    codes: &WeightCodes,
) -> Vec<i32> {
    let negate = vec![false; conv.out_channels];
    let (channels, taps) = (conv.in_channels / conv.groups, conv.kernel[0] * conv.kernel[1]);
    let integers = WeightIntegers { codes, terms: weight_terms, negate: &negate, channels, taps };
    let input = &input_terms.0[0];
    let largest = input.integers.iter().map(|x| i32::from(x.unsigned_abs())).max().unwrap_or(0);
    (0..conv.out_channels)
        .map(|output| {
            let magnitude =
                |at: usize| i32::from(integers.of(0, output, at / taps, at % taps).unsigned_abs());
            (0..channels * taps).map(magnitude).fold(0i32, i32::saturating_add)
        })
        .map(|sum| sum.saturating_mul(largest).min(i32::MAX - 1))
        .collect()
}
