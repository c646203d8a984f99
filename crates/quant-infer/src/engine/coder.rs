//! Quantizers, prepared for vectors over channels.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, compiler_fence};

use quant_kernels::{
    elementwise::{self, BLOCK, Stored, Table},
    simd::InstructionSet,
};

use super::{
    even::Even,
    guess::Guess,
    packing::{CHUNK, Encoding, Packing},
};
use crate::model::{Quantizer, Term};

/// Number of numbers that are processed together.
pub(super) const LANES: usize = BLOCK;

/// The largest number of levels whose thresholds are all compared with each number.
const MOST_COMPARED: usize = 16;

/// Numbers that belong to thresholds: one for each threshold, or one for each threshold and
/// channel.
#[derive(Debug, Clone)]
pub(super) struct PerThreshold<T> {
    /// `[blocks, thresholds, lanes]`, with the channels of a block in its lanes. There is one block
    /// if all channels have the same numbers.
    blocks: Vec<[T; LANES]>,
    thresholds: usize,
}

impl<T: Copy + Default> PerThreshold<T> {
    /// Returns the numbers f(threshold, channel). With one channel, its numbers are those of all
    /// channels.
    pub(super) fn new(thresholds: usize, channels: usize, f: impl Fn(usize, usize) -> T) -> Self {
        let f = &f;
        let block = |first: usize, threshold: usize| {
            core::array::from_fn(|lane| match first + lane {
                _ if channels == 1 => f(threshold, 0),
                channel if channel < channels => f(threshold, channel),
                _ => T::default(),
            })
        };
        let blocks = (0..channels)
            .step_by(LANES)
            .flat_map(|first| (0..thresholds).map(move |threshold| block(first, threshold)))
            .collect();
        Self { blocks, thresholds }
    }

    /// Returns the numbers for operations on each number.
    pub(super) fn table(&self) -> Table<'_, T> {
        Table { blocks: &self.blocks, count: self.thresholds }
    }

    /// Returns the numbers of a channel, by threshold.
    pub(super) fn channel(&self, channel: usize) -> impl Iterator<Item = T> {
        self.lanes(channel / LANES * LANES).iter().map(move |numbers| numbers[channel % LANES])
    }

    /// Returns the numbers of each threshold for the channels from `first` on, a multiple of the
    /// number of lanes.
    #[inline(always)]
    fn lanes(&self, first: usize) -> &[[T; LANES]] {
        let start = if self.blocks.len() == self.thresholds { 0 } else { first / LANES };
        &self.blocks[start * self.thresholds..][..self.thresholds]
    }
}

/// Returns the first numbers of a slice; those that it lacks are 0.
#[inline(always)]
fn padded<T: Copy + Default>(numbers: &[T]) -> [T; LANES] {
    if let Some(lanes) = numbers.first_chunk() {
        return *lanes;
    }
    let mut lanes = [T::default(); LANES];
    lanes[..numbers.len()].copy_from_slice(numbers);
    lanes
}

/// Keeps the compiler from computing several passes of the loop around it at once. Where a pass is
/// a vector of channels, a vector of several passes has to be collected from distant numbers, which
/// takes longer, and several times the code.
#[inline(always)]
fn by_lanes() {
    compiler_fence(Ordering::AcqRel);
}

/// A quantizer for a number of channels.
#[derive(Debug, Clone)]
pub(super) struct Coder {
    quantizer: Quantizer,
    channels: usize,
    /// Present if there are few levels.
    few: Option<Few>,
    /// The formula of the codes, if there is one and comparisons take longer.
    even: Option<Formula>,
    /// A line for each group, if there are many levels and each group has one.
    guesses: Option<PerThreshold<Guess>>,
}

/// A formula, with the divisor of each channel.
#[derive(Debug, Clone)]
struct Formula {
    even: Even,
    divisors: PerThreshold<f32>,
}

/// The largest number of levels whose thresholds are compared although a formula exists.
const FEW_COMPARED: usize = 8;

/// The thresholds of a quantizer with few levels.
#[derive(Debug, Clone)]
struct Few {
    thresholds: PerThreshold<f32>,
    /// The value of the lowest code.
    lowest: PerThreshold<f32>,
    /// The value above each threshold.
    values: PerThreshold<f32>,
}

impl Coder {
    pub(super) fn new(quantizer: &Quantizer, channels: usize) -> Self {
        let levels = quantizer.levels;
        let width = if quantizer.groups == 1 { 1 } else { channels };
        let group = |channel: usize| quantizer.group_of(channel, width);
        let few = (levels <= MOST_COMPARED).then(|| {
            let thresholds = PerThreshold::new(levels - 1, width, |k, channel| {
                quantizer.thresholds[group(channel) * (levels - 1) + k]
            });
            let value = |code: usize, channel| quantizer.values[group(channel) * levels + code];
            let lowest = PerThreshold::new(1, width, value);
            let values = PerThreshold::new(levels - 1, width, |k, channel| value(k + 1, channel));
            Few { thresholds, lowest, values }
        });
        let even = Some(quantizer).filter(|quantizer| quantizer.levels > FEW_COMPARED);
        let even = even.and_then(Even::new).map(|even| {
            let divisors = PerThreshold::new(1, width, |_, channel| even.divisors[group(channel)]);
            Formula { even, divisors }
        });
        let lines = || (0..quantizer.groups).map(|group| Guess::new(quantizer, group)).collect();
        let lines: Option<Vec<Guess>> = if few.is_none() { lines() } else { None };
        let guesses =
            lines.map(|lines| PerThreshold::new(1, width, |_, channel| lines[group(channel)]));
        Self { quantizer: quantizer.clone(), channels, few, even, guesses }
    }

    pub(super) fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// Returns the group of a channel.
    pub(super) fn group(&self, channel: usize) -> usize {
        self.quantizer.group_of(channel, self.channels)
    }

    /// Returns whether comparing numbers with all thresholds is the fastest way to their codes.
    pub(super) fn compares(&self) -> bool {
        self.few.is_some() && self.even.is_none()
    }

    /// Returns the code of a number.
    pub(super) fn code(&self, channel: usize, x: f32) -> u8 {
        self.quantizer.code_of(self.group(channel), x)
    }

    /// Returns the value of a number's code.
    pub(super) fn value(&self, channel: usize, x: f32) -> f32 {
        let group = self.group(channel);
        self.quantizer.value_of(group, self.quantizer.code_of(group, x))
    }

    /// Returns the codes of numbers of one position, whose first channel is `first`.
    #[inline(always)]
    fn codes(&self, numbers: &[f32; LANES], first: usize, count: usize) -> [u8; LANES] {
        let mut codes = [0; LANES];
        let of_group = self.quantizer.levels - 1;
        let group = |lane: usize| {
            if self.quantizer.groups == 1 { 0 } else { self.group(first + lane) }
        };
        if let Some(Formula { even, divisors }) = &self.even {
            let divisors = &divisors.lanes(first)[0];
            for lane in 0..LANES {
                codes[lane] = even.code(numbers[lane], divisors[lane]) as u8;
            }
            return codes;
        }
        let Some(guesses) = &self.guesses else {
            for (lane, code) in codes.iter_mut().enumerate().take(count) {
                *code = self.quantizer.code_of(group(lane), numbers[lane]);
            }
            return codes;
        };
        let guesses = &guesses.lanes(first)[0];
        let places: [usize; LANES] =
            core::array::from_fn(|lane| guesses[lane].threshold(numbers[lane], of_group));
        for (lane, code) in codes.iter_mut().enumerate().take(count) {
            let threshold = self.quantizer.thresholds[group(lane) * of_group + places[lane]];
            *code = places[lane] as u8 + u8::from(numbers[lane] >= threshold);
        }
        codes
    }

    /// Returns the lowest code that has a value.
    pub(super) fn code_of_value(&self, channel: usize, value: f32) -> u8 {
        let group = self.group(channel);
        let levels = self.quantizer.levels;
        let values = &self.quantizer.values[group * levels..][..levels];
        values.iter().position(|other| *other == value).map_or(u8::MAX, |code| code as u8)
    }

    /// Replaces numbers `[positions, channels]` by the values of their codes.
    pub(super) fn values(&self, set: InstructionSet, x: &mut [f32]) {
        let Some(Few { thresholds, lowest, values }) = &self.few else {
            return set.vectorize(
                #[inline(always)]
                || {
                    for x in x.chunks_exact_mut(self.channels) {
                        for (index, x) in x.chunks_mut(LANES).enumerate() {
                            let first = index * LANES;
                            let codes = self.codes(&padded(x), first, x.len());
                            for (lane, (x, code)) in x.iter_mut().zip(codes).enumerate() {
                                *x = self.quantizer.value_of(self.group(first + lane), code);
                            }
                        }
                    }
                },
            );
        };
        set.vectorize(
            #[inline(always)]
            || {
                for x in x.chunks_exact_mut(self.channels) {
                    for (index, x) in x.chunks_mut(LANES).enumerate() {
                        let numbers = padded(x);
                        let first = index * LANES;
                        let mut result = lowest.lanes(first)[0];
                        let each = thresholds.lanes(first).iter().zip(values.lanes(first));
                        for (thresholds, values) in each {
                            for lane in 0..LANES {
                                if numbers[lane] >= thresholds[lane] {
                                    result[lane] = values[lane];
                                }
                            }
                            by_lanes();
                        }
                        x.copy_from_slice(&result[..x.len()]);
                    }
                }
            },
        );
    }
}

/// The stored numbers of one term of a quantizer, as the sum of steps at its thresholds.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    encoding: Encoding,
    channels: usize,
    /// The number of the lowest code.
    lowest: PerThreshold<i32>,
    /// What each threshold adds.
    steps: PerThreshold<i32>,
    /// The numbers of all codes, `[groups, levels]`, or `[1, levels]` if all groups have the same.
    numbers: Vec<i32>,
    levels: usize,
    /// The number of the lowest code and the difference of two numbers, if all codes of all
    /// channels have the same one.
    line: Option<[i32; 2]>,
    is_constant: bool,
}

impl Integers {
    pub(super) fn new(coder: &Coder, term: &Term, encoding: Encoding) -> Self {
        let levels = coder.quantizer.levels;
        let numbers: Vec<i32> =
            term.integers.iter().map(|integer| encoding.number(*integer)).collect();
        let width = if numbers.len() == levels { 1 } else { coder.channels };
        let number = |channel: usize, code: usize| {
            let group = if width == 1 { 0 } else { coder.group(channel) };
            numbers[group * levels + code]
        };
        let steps = PerThreshold::new(levels - 1, width, |k, channel| {
            number(channel, k + 1) - number(channel, k)
        });
        let lowest = PerThreshold::new(1, width, |_, channel| number(channel, 0));
        let is_constant = numbers.iter().all(|other| *other == numbers[0]);
        let channels = coder.channels;
        let difference = numbers[1] - numbers[0];
        let is_line = numbers.len() == levels
            && numbers.windows(2).all(|pair| pair[1] - pair[0] == difference);
        let line = is_line.then_some([numbers[0], difference]);
        Self { encoding, channels, lowest, steps, numbers, levels, line, is_constant }
    }

    /// Returns whether all codes of all channels have the same integer. It is not stored for each
    /// image.
    pub(super) fn is_constant(&self) -> bool {
        self.is_constant
    }

    /// Returns the words of each position, if all codes of all channels have the same integer.
    pub(super) fn constant(&self) -> Option<Vec<u32>> {
        self.is_constant.then(|| self.words(|_| self.numbers[0]))
    }

    /// Returns how the numbers lie in words.
    pub(super) fn packing(&self) -> Packing {
        self.encoding.packing
    }

    /// Returns the words of a position whose channels have these numbers.
    pub(super) fn words(&self, numbers: impl Fn(usize) -> i32) -> Vec<u32> {
        self.encoding.words(numbers, self.channels)
    }

    /// Returns the number of a code.
    pub(super) fn of_code(&self, coder: &Coder, channel: usize, code: u8) -> i32 {
        let group = if self.numbers.len() == self.levels { 0 } else { coder.group(channel) };
        self.numbers[group * self.levels + usize::from(code)]
    }

    /// Returns the number of the integer 0.
    pub(super) fn number_of_zero(&self) -> i32 {
        self.encoding.number(0)
    }

    /// Returns the number that is stored for a channel of a position.
    pub(super) fn read(&self, words: &[u32], channel: usize) -> i32 {
        self.encoding.read(words, channel)
    }

    /// Returns the stored numbers of floats as vectors compute them, if they can.
    pub(super) fn rule<'a>(&'a self, coder: &'a Coder) -> Option<elementwise::Integers<'a>> {
        match (&coder.even, self.line, &coder.few) {
            (Some(Formula { even, divisors }), Some([first, difference]), _) => {
                Some(even.rule(divisors.table(), first, difference))
            }
            (_, _, Some(few)) => {
                let [steps, lowest] = self.steps();
                let thresholds = few.thresholds.table();
                Some(elementwise::Integers::Thresholds { thresholds, steps, lowest })
            }
            _ => None,
        }
    }

    /// Returns what each threshold adds, and the numbers of the lowest code.
    pub(super) fn steps(&self) -> [Table<'_, i32>; 2] {
        [self.steps.table(), self.lowest.table()]
    }

    /// Returns words in the form in which numbers are stored in them.
    pub(super) fn stored<'a>(&self, words: &'a mut [u32]) -> Stored<'a> {
        match self.packing() {
            Packing::Pairs => Stored::Shorts(bytemuck::cast_slice_mut(words)),
            Packing::Bytes => Stored::Bytes(bytemuck::cast_slice_mut(words)),
            Packing::Signs => Stored::Bits(words),
            Packing::Ternary => Stored::TwoBits(words),
        }
    }

    /// Returns whether the numbers do not depend on the channel.
    pub(super) fn is_uniform(&self, coder: &Coder) -> bool {
        coder.quantizer.groups == 1 && self.numbers.len() == self.levels
    }

    /// Writes the numbers of the channels from `first` on: the lowest ones, and the steps of the
    /// thresholds that are passed.
    #[inline(always)]
    fn add_steps<T: Copy + Default>(
        &self,
        x: &[T],
        first: usize,
        thresholds: &PerThreshold<T>,
        passes: impl Fn(T, T) -> bool,
        numbers: &mut [i32],
    ) {
        let each = x.chunks(LANES).zip(numbers.chunks_exact_mut(LANES)).enumerate();
        for (block, (x, numbers)) in each {
            let (x, first) = (padded(x), first + block * LANES);
            let mut result = self.lowest.lanes(first)[0];
            for (thresholds, steps) in thresholds.lanes(first).iter().zip(self.steps.lanes(first)) {
                for lane in 0..LANES {
                    // A mask, because conditions are not always compiled to vectors.
                    let mask = -i32::from(passes(x[lane], thresholds[lane]));
                    result[lane] += steps[lane] & mask;
                }
                by_lanes();
            }
            numbers.copy_from_slice(&result);
        }
    }

    /// Writes the words of a position for the numbers of its channels. If the numbers are
    /// [uniform](Self::is_uniform), and their channels fill all words, they may be those of several
    /// positions.
    #[inline(always)]
    pub(super) fn of_floats(
        &self,
        coder: &Coder,
        x: &[f32],
        words: &mut [u32],
        numbers: &mut [i32; CHUNK],
    ) {
        self.encoding.write(
            words,
            x.len(),
            numbers,
            #[inline(always)]
            |first, numbers| self.numbers_of(coder, &x[first..], first, numbers),
        );
    }

    /// Writes the numbers of the channels from `first` on, as far as x and the numbers reach.
    #[inline(always)]
    fn numbers_of(&self, coder: &Coder, x: &[f32], first: usize, numbers: &mut [i32]) {
        match (&coder.even, self.line, &coder.few) {
            (Some(Formula { even, divisors }), Some([lowest, difference]), _) => {
                let each = x.chunks(LANES).zip(numbers.chunks_exact_mut(LANES)).enumerate();
                for (block, (x, numbers)) in each {
                    let (x, divisors) = (padded(x), &divisors.lanes(first + block * LANES)[0]);
                    for lane in 0..LANES {
                        numbers[lane] = lowest + difference * even.code(x[lane], divisors[lane]);
                    }
                }
            }
            (_, _, Some(few)) => self.add_steps(
                x,
                first,
                &few.thresholds,
                #[inline(always)]
                |x, threshold| x >= threshold,
                numbers,
            ),
            _ => {
                let each = x.chunks(LANES).zip(numbers.chunks_exact_mut(LANES)).enumerate();
                for (block, (x, numbers)) in each {
                    let first = first + block * LANES;
                    let codes = coder.codes(&padded(x), first, x.len());
                    let each = numbers.iter_mut().zip(codes).enumerate().take(x.len());
                    for (lane, (number, code)) in each {
                        *number = self.of_code(coder, first + lane, code);
                    }
                }
            }
        }
    }

    /// Writes the words of a position for the sums of its channels. A threshold counts for sums
    /// above it.
    #[inline(always)]
    pub(super) fn of_sums(
        &self,
        sums: &[i32],
        words: &mut [u32],
        thresholds: &PerThreshold<i32>,
        numbers: &mut [i32; CHUNK],
    ) {
        self.encoding.write(
            words,
            sums.len(),
            numbers,
            #[inline(always)]
            |first, numbers| {
                self.add_steps(
                    &sums[first..],
                    first,
                    thresholds,
                    #[inline(always)]
                    |sum, threshold| sum > threshold,
                    numbers,
                );
            },
        );
    }
}
