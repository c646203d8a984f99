//! Convolutions in integers.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use quant_kernels::{
    channels_last::{Finish, depthwise_integers},
    simd::InstructionSet,
};

use super::{
    choice::is_depthwise,
    taps::{Geometry, OperandSize, Places, runs},
    tiles::{Line, Tiles, add_bytes},
    unrolled::Unrolled,
    weights::WeightIntegers,
};
use crate::{
    engine::{
        packing::{Encoding, Packing},
        per_channel::PerChannel,
    },
    model::{Conv, Terms, WeightCodes},
};

/// A convolution whose operand and weight are integers.
#[derive(Debug, Clone)]
pub(crate) struct IntegerConv {
    pub(super) geometry: Geometry,
    pub(super) set: InstructionSet,
    /// How the operand is stored again before it is read, if it is.
    unrolled: Option<Unrolled>,
    weights: Vec<IntegerKernel>,
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
    /// What turns the kernel's sums of stored numbers into sums of integers.
    finish: Option<Finish<i32>>,
    /// The factor of the sum of a position's numbers, which is added too.
    pub(crate) extra: i32,
    /// The factor of each output channel.
    pub(crate) scales: PerChannel,
}

/// A way to compute sums, with the weights in its order. Every kernel writes the same sums, since
/// sums of integers are exact.
#[derive(Debug, Clone)]
enum IntegerKernel {
    /// Vectors over output channels, with the taps of a range of the operand's at each place.
    Tiles { weights: Tiles, taps: Range<usize> },
    /// Vectors over channels, each of which is convolved alone. `[taps, channels]`.
    Depthwise { weights: Vec<i16>, channels: usize },
}

/// Stands for an element of a tap that belongs to no channel, or to none of a range.
const NO_ELEMENT: u32 = u32::MAX;

impl IntegerConv {
    /// Prepares a convolution. `negate` says for each output channel whether its sums are negated,
    /// and `encodings` how the integers of each term of the quantizer are stored.
    pub(crate) fn new(
        set: InstructionSet,
        conv: &Conv,
        (input_terms, weight_terms): (&Terms, &Terms),
        codes: &WeightCodes,
        negate: &[bool],
        encodings: &[Encoding],
    ) -> Self {
        let integers = WeightIntegers::new(conv, weight_terms, codes, negate);
        let mut prepared = Self {
            geometry: Geometry::from(conv),
            set,
            unrolled: encodings.first().and_then(|first| Unrolled::new(conv, first.packing)),
            weights: Vec::new(),
            groups: Vec::new(),
        };
        if is_depthwise(conv) {
            prepared.add_depthwise(conv, input_terms, &integers);
        } else {
            for group in 0..conv.groups {
                prepared.add_group(conv, group, (input_terms, encodings), &integers);
            }
        }
        prepared
    }

    fn add_depthwise(&mut self, conv: &Conv, input_terms: &Terms, integers: &WeightIntegers<'_>) {
        let channels = conv.out_channels;
        for term in 0..integers.terms.0.len() {
            let mut weights = vec![0; integers.places * channels];
            for channel in 0..channels {
                let table = integers.table(term, channel);
                for (place, code) in integers.codes(channel).iter().enumerate() {
                    weights[place * channels + channel] = table[usize::from(*code)];
                }
            }
            self.weights.push(IntegerKernel::Depthwise { weights, channels });
        }
        let mut passes = Vec::new();
        for (term, content) in input_terms.0.iter().enumerate() {
            let groups = content.scales.len();
            for weights in 0..integers.terms.0.len() {
                let scales: Vec<f32> = (0..channels)
                    .map(|channel| {
                        let scale = content.scale_of(channel * groups / channels);
                        scale * integers.scale(weights, channel)
                    })
                    .collect();
                let scales = PerChannel::new(&scales);
                passes.push(Pass { term, weights, finish: None, extra: 0, scales });
            }
        }
        self.groups.push(Group { first: 0, outputs: channels, passes });
    }

    fn add_group(
        &mut self,
        conv: &Conv,
        group: usize,
        (input_terms, encodings): (&Terms, &[Encoding]),
        integers: &WeightIntegers<'_>,
    ) {
        let outputs = conv.out_channels / conv.groups;
        let first = group * outputs;
        let all = conv.channels_of(group);
        let ranges = conv.scale_ranges(group, input_terms);
        let first_weights = self.weights.len();
        for (_, range) in &ranges {
            for term in 0..integers.terms.0.len() {
                let outputs = first..first + outputs;
                self.weights.push(self.tiles(integers, term, outputs, (&all, range), encodings));
            }
        }
        let mut passes = Vec::new();
        for (term, content) in input_terms.0.iter().enumerate() {
            for (index, (scale_group, range)) in ranges.iter().enumerate() {
                for weight_term in 0..integers.terms.0.len() {
                    let scales: Vec<f32> = (first..first + outputs)
                        .map(|output| {
                            content.scale_of(*scale_group) * integers.scale(weight_term, output)
                        })
                        .collect();
                    let weights = first_weights + index * integers.terms.0.len() + weight_term;
                    let channels = range.start - all.start..range.end - all.start;
                    let sum_of_weights = |output: usize| {
                        if output >= outputs {
                            return 0;
                        }
                        integers.sum(weight_term, first + output, &channels)
                    };
                    let count = channels.len() * integers.places;
                    let (finish, extra) =
                        self.finish(weights, encodings[term], count, sum_of_weights);
                    let scales = PerChannel::new(&scales);
                    passes.push(Pass { term, weights, finish, extra, scales });
                }
            }
        }
        self.groups.push(Group { first, outputs, passes });
    }

    /// Returns what turns sums of stored numbers into sums of integers, and the factor of the sum
    /// of a position's numbers. `count` is the number of products of a sum.
    ///
    /// With an integer a = aₒ + aₛ·x of the image and an integer w = wₒ + wₛ·y of the weight,
    /// Σ a·w = aₛ·wₛ·Σ x·y + aₒ·Σ w + aₛ·wₒ·Σ x. For signs, the kernel returns the number of
    /// factors that differ, d, and Σ a·w = |a|·|w|·(count - 2·d).
    fn finish(
        &self,
        weights: usize,
        input: Encoding,
        count: usize,
        sum_of_weights: impl Fn(usize) -> i32,
    ) -> (Option<Finish<i32>>, i32) {
        let IntegerKernel::Tiles { weights, .. } = &self.weights[weights] else { return (None, 0) };
        let line = weights.line();
        if input.packing == Packing::Signs {
            let product = -input.offset * line.step;
            let all = product.wrapping_mul(count as i32);
            return (Some(weights.finish(product.wrapping_mul(-2), |_| all)), 0);
        }
        let (factor, extra) = (input.step * line.step, input.step * line.offset);
        if (factor, input.offset, extra) == (1, 0, 0) {
            return (None, 0);
        }
        let base = |output: usize| match input.offset {
            0 => 0,
            offset => sum_of_weights(output).wrapping_mul(offset),
        };
        (Some(weights.finish(factor, base)), extra)
    }

    /// Returns the weights of some outputs, for the input channels of a range.
    fn tiles(
        &self,
        integers: &WeightIntegers<'_>,
        term: usize,
        outputs: Range<usize>,
        (all, range): (&Range<usize>, &Range<usize>),
        encodings: &[Encoding],
    ) -> IntegerKernel {
        let packing = encodings[0].packing;
        let per_tap = packing.channels();
        let taps = match &self.unrolled {
            Some(unrolled) => unrolled.taps(range),
            None => range.start / per_tap..range.end.div_ceil(per_tap),
        };
        let places = match &self.unrolled {
            Some(_) => self.geometry.kernel[0],
            None => integers.places,
        };
        let levels = &integers.terms.0[term].integers;
        let negated = levels.iter().flat_map(|integer| [*integer, -*integer]);
        // The kernel was chosen because its weights can be stored.
        let line = Line::new(packing, negated).unwrap_or(Line { offset: 0, step: 1 });
        // Where each element of each tap lies among the codes of an output channel.
        let element = |index: usize| {
            let (tap, element) = (index / per_tap, index % per_tap);
            let (place, tap) = (tap / taps.len(), taps.start + tap % taps.len());
            let (place, channel) = match &self.unrolled {
                Some(unrolled) => {
                    let (column, of) = unrolled.element(tap, element)?;
                    (place * self.geometry.kernel[1] + column, of)
                }
                None => (place, per_tap * tap + element),
            };
            let is_in = range.contains(&channel);
            is_in.then(|| ((channel - all.start) * integers.places + place) as u32)
        };
        let elements: Vec<u32> = (0..places * taps.len() * per_tap)
            .map(|index| element(index).unwrap_or(NO_ELEMENT))
            .collect();
        let weights = |output: usize| {
            let output = outputs.start + output;
            let codes = integers.codes(output);
            let mut table = integers.table(term, output);
            table[..integers.levels()].iter_mut().for_each(|x| *x = line.number(*x));
            let elements = &elements;
            move |index: usize| match elements[index] {
                NO_ELEMENT => 0,
                at => table[usize::from(codes[at as usize])],
            }
        };
        let size = (outputs.len(), places * taps.len());
        let largest = encodings.iter().map(|encoding| encoding.largest).max().unwrap_or(0);
        let weights = Tiles::new(self.set, (packing, line), size, largest, weights);
        IntegerKernel::Tiles { weights, taps }
    }

    /// Returns the indices of each group and pass, in the order in which they are added.
    pub(crate) fn passes(&self) -> impl Iterator<Item = (usize, usize)> {
        let groups = self.groups.iter().enumerate();
        groups.flat_map(|(group, content)| (0..content.passes.len()).map(move |pass| (group, pass)))
    }

    /// Returns whether each channel is convolved alone.
    #[cfg(feature = "std")]
    pub(crate) fn is_depthwise(&self) -> bool {
        self.weights.iter().any(|kernel| matches!(kernel, IntegerKernel::Depthwise { .. }))
    }

    /// Returns the number of sums of a position that all passes write.
    pub(crate) fn sums(&self) -> usize {
        self.groups.iter().flat_map(|group| &group.passes).map(|pass| self.stride(pass)).sum()
    }

    /// Returns the number of sums of a position that a pass writes.
    pub(crate) fn stride(&self, pass: &Pass) -> usize {
        match &self.weights[pass.weights] {
            IntegerKernel::Tiles { weights, .. } => weights.sums(),
            IntegerKernel::Depthwise { channels, .. } => *channels,
        }
    }

    /// Returns the size of what is stored again for an operand of this size, if anything is.
    pub(crate) fn unrolled_size(
        &self,
        size: &OperandSize,
        output: [usize; 2],
    ) -> Option<OperandSize> {
        self.unrolled.map(|unrolled| unrolled.size(size, output))
    }

    /// Stores an operand again.
    pub(crate) fn unroll(
        &self,
        operand: &[u32],
        place: (&OperandSize, [usize; 2]),
        row: &mut Vec<u32>,
        to: &mut [u32],
    ) {
        if let Some(unrolled) = &self.unrolled {
            unrolled.store(self.set, operand, place, row, to);
        }
    }

    /// Returns the places that are read in an operand of this size.
    pub(crate) fn places(
        &self,
        size: &OperandSize,
        packing: Packing,
        output: [usize; 2],
    ) -> Places {
        let unrolled = self.unrolled.map(|unrolled| unrolled.size(size, output));
        let size = unrolled.as_ref().unwrap_or(size);
        let geometry = &self.unrolled.map_or(self.geometry, |unrolled| unrolled.geometry());
        let [rows, columns] = geometry.kernel;
        let positions = || (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
        let starts = size.starts(geometry, output);
        let words = size.channels;
        let elements = positions().map(|(y, x)| size.tap(geometry, y, x) / words).collect();
        let mut places = Places { starts, words, elements, unrolled, ..Places::default() };
        for kernel in &self.weights {
            match kernel {
                IntegerKernel::Tiles { taps, .. } => {
                    places.runs.push(runs(positions().flat_map(|(y, x)| {
                        let at = size.tap(geometry, y, x);
                        taps.clone().map(move |tap| at + tap * packing.words())
                    })));
                }
                IntegerKernel::Depthwise { .. } if places.taps.is_empty() => {
                    let tap = |(y, x)| 2 * size.tap(geometry, y, x) as u32;
                    places.taps = positions().map(tap).collect();
                }
                IntegerKernel::Depthwise { .. } => {}
            }
        }
        if !places.taps.is_empty() {
            places.starts.iter_mut().for_each(|start| *start *= 2);
        }
        places
    }

    /// Returns the passes to which sums of stored numbers are added: the indices of the group and
    /// the pass.
    pub(crate) fn passes_with_extra(&self) -> impl Iterator<Item = (usize, usize)> {
        self.passes().filter(|(group, pass)| self.groups[*group].passes[*pass].extra != 0)
    }

    /// Writes the sum of the stored numbers of each element of an operand of this size that a pass
    /// reads.
    pub(crate) fn add_elements(
        &self,
        pass: &Pass,
        operand: &[u32],
        size: &OperandSize,
        sums: &mut [i32],
    ) {
        if let IntegerKernel::Tiles { taps, .. } = &self.weights[pass.weights] {
            add_bytes(self.set, operand, (size.channels, taps.clone()), sums);
        }
    }

    /// Writes the sums of a pass for a range of positions, [`stride`](Self::stride) of them for
    /// each. `operand` is that of the pass's term, which is stored again if this convolution does
    /// so; `elements` has the sums of its elements, if the pass needs them.
    pub(crate) fn run(
        &self,
        pass: &Pass,
        (operand, elements): (&[u32], &[i32]),
        places: &Places,
        positions: Range<usize>,
        (sums, extra): (&mut [i32], &mut Vec<i32>),
    ) {
        let starts = &places.starts[positions];
        match &self.weights[pass.weights] {
            IntegerKernel::Tiles { weights, .. } => {
                let runs = &places.runs[pass.weights];
                let mut numbers = None;
                if pass.extra != 0 {
                    extra.clear();
                    extra.resize(starts.len(), 0);
                    self.set.vectorize(
                        #[inline(always)]
                        || places.add_elements(starts, elements, pass.extra, extra),
                    );
                    numbers = Some(&extra[..]);
                }
                weights.multiply(operand, runs, starts, (pass.finish.as_ref(), numbers), sums);
            }
            IntegerKernel::Depthwise { weights, channels } => {
                let (input, taps) = (bytemuck::cast_slice(operand), &places.taps);
                depthwise_integers(self.set, input, taps, starts, weights, *channels, sums);
            }
        }
    }
}

/// Returns the largest sum of magnitudes that the accumulator of each output channel can have.
pub(crate) fn largest_sums(
    conv: &Conv,
    (input_terms, weight_terms): (&Terms, &Terms),
    codes: &WeightCodes,
) -> Vec<i32> {
    let input = &input_terms.0[0];
    let largest = input.integers.iter().map(|x| i32::from(x.unsigned_abs())).max().unwrap_or(0);
    let term = &weight_terms.0[0];
    let per_output = codes.codes.len() / conv.out_channels;
    (codes.codes.chunks_exact(per_output).enumerate())
        .map(|(output, row)| {
            let group = codes.group_of(output * per_output);
            let mut magnitudes = [0; 256];
            for (to, integer) in magnitudes.iter_mut().zip(term.integers_of(group, codes.levels)) {
                *to = i64::from(integer.unsigned_abs());
            }
            let sum: i64 = row.iter().map(|code| magnitudes[usize::from(*code)]).sum();
            let most = i64::from(i32::MAX - 1);
            sum.saturating_mul(i64::from(largest)).min(most) as i32
        })
        .collect()
}
