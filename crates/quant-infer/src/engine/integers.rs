//! The integers that are stored for the numbers or the sums of an operand's channels.

use alloc::vec::Vec;

use quant_kernels::elementwise::{self, Stored, Table};

use super::{
    coder::{Coder, Formula},
    packing::{CHUNK, Encoding, Packing},
    per_threshold::{LANES, PerThreshold, by_lanes, padded},
};
use crate::model::Term;

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
        let levels = coder.quantizer().levels;
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
        coder.quantizer().groups == 1 && self.numbers.len() == self.levels
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
