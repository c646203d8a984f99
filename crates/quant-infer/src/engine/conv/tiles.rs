//! The kernels whose vectors run over output channels, with the weights of a convolution.

use core::ops::Range;

use quant_kernels::{
    channels_last::{Bytes, Finish, Finishing, Pairs, Run, Signs, SmallBytes, Ternary, Weights},
    simd::InstructionSet,
};

use crate::engine::packing::{Packing, line};

/// The weights of some output channels for an operand of a packing.
#[derive(Debug, Clone)]
pub(super) struct Tiles {
    kernel: TileKernel,
    line: Line,
}

#[derive(Debug, Clone)]
enum TileKernel {
    Pairs(Weights<Pairs>),
    Bytes(Weights<Bytes>),
    SmallBytes(Weights<SmallBytes>),
    Signs(Weights<Signs>),
    Ternary(Weights<Ternary>),
}

/// How the integers of weights are stored: as (integer - offset)/step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) offset: i32,
    pub(super) step: i32,
}

impl Line {
    /// Returns how integers are stored for a packing, if they can be. Where that is possible, the
    /// offset is 0.
    pub(super) fn new(
        packing: Packing,
        integers: impl Iterator<Item = i16> + Clone,
    ) -> Option<Self> {
        let integers = integers.map(i32::from);
        let plain = Self { offset: 0, step: 1 };
        let largest = integers.clone().map(i32::abs).max().unwrap_or(0);
        match packing {
            Packing::Pairs => Some(plain),
            Packing::Bytes => {
                let is_byte = |integer: i32| i8::try_from(integer).is_ok();
                if integers.clone().all(is_byte) {
                    return Some(plain);
                }
                let (lowest, step) = line(integers.clone());
                // The numbers lie around 0, so that their sums are small.
                let highest = integers.max().unwrap_or(lowest);
                let middle = (highest - lowest) / step / 2 + 1;
                let offset = lowest + step * middle;
                let fits = |integer| is_byte((integer - offset) / step);
                (fits(lowest) && fits(highest)).then_some(Self { offset, step })
            }
            Packing::Signs if largest > 0 && integers.clone().all(|x| x.abs() == largest) => {
                Some(Self { offset: 0, step: largest })
            }
            Packing::Ternary if integers.clone().all(|x| x == 0 || x.abs() == largest) => {
                Some(Self { offset: 0, step: largest.max(1) })
            }
            _ => None,
        }
    }
}

impl Line {
    /// Returns what is stored for an integer.
    pub(super) fn number(self, integer: i16) -> i16 {
        ((i32::from(integer) - self.offset) / self.step) as i16
    }
}

impl Tiles {
    /// Packs weights. `weights` returns a function that returns the stored number at an index of an
    /// output `[taps, channels of a tap]`; `largest` is the largest number that the operand has.
    pub(super) fn new<W: Fn(usize) -> i16>(
        set: InstructionSet,
        (packing, line): (Packing, Line),
        (outputs, taps): (usize, usize),
        largest: i32,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        let bytes = |output| {
            let weight = weights(output);
            move |tap| [0, 1, 2, 3].map(|index| weight(4 * tap + index) as i8)
        };
        let bits = |weight: &W, tap: usize, is_set: fn(i16) -> bool| {
            let bit = |channel| u32::from(is_set(weight(32 * tap + channel))) << channel;
            (0..32).map(bit).sum::<u32>()
        };
        let kernel = match packing {
            Packing::Pairs => TileKernel::Pairs(Weights::pairs(set, outputs, taps, |output| {
                let weight = weights(output);
                move |tap| [weight(2 * tap), weight(2 * tap + 1)]
            })),
            Packing::Bytes => {
                let largest = u8::try_from(largest).ok().filter(|_| !set.has_dot_products());
                let small = largest
                    .and_then(|largest| Weights::small_bytes(set, (outputs, taps), largest, bytes));
                match small {
                    Some(small) => TileKernel::SmallBytes(small),
                    None => TileKernel::Bytes(Weights::bytes(set, outputs, taps, bytes)),
                }
            }
            Packing::Signs => TileKernel::Signs(Weights::signs(set, outputs, taps, |output| {
                let weight = weights(output);
                move |tap| bits(&weight, tap, |x| x > 0)
            })),
            Packing::Ternary => {
                TileKernel::Ternary(Weights::ternary(set, outputs, taps, |output| {
                    let weight = weights(output);
                    move |tap| [bits(&weight, tap, |x| x != 0), bits(&weight, tap, |x| x < 0)]
                }))
            }
        };
        Self { kernel, line }
    }

    pub(super) fn line(&self) -> Line {
        self.line
    }

    /// Returns the number of sums of each position.
    pub(super) fn sums(&self) -> usize {
        match &self.kernel {
            TileKernel::Pairs(weights) => weights.sums(),
            TileKernel::Bytes(weights) => weights.sums(),
            TileKernel::SmallBytes(weights) => weights.sums(),
            TileKernel::Signs(weights) => weights.sums(),
            TileKernel::Ternary(weights) => weights.sums(),
        }
    }

    /// Returns what makes sum·factor + base(output) of each sum.
    pub(super) fn finish(&self, factor: i32, base: impl Fn(usize) -> i32) -> Finish<i32> {
        match &self.kernel {
            TileKernel::Pairs(weights) => weights.finish(factor, base),
            TileKernel::Bytes(weights) => weights.finish(factor, base),
            TileKernel::SmallBytes(weights) => weights.finish(factor, base),
            TileKernel::Signs(weights) => weights.finish(factor, base),
            TileKernel::Ternary(weights) => weights.finish(factor, base),
        }
    }

    /// Writes the sums of each position, `sums` of them after each other.
    pub(super) fn multiply(
        &self,
        input: &[u32],
        runs: &[Run],
        starts: &[u32],
        finish: Finishing<'_, i32>,
        sums: &mut [i32],
    ) {
        let stride = self.sums();
        match &self.kernel {
            TileKernel::Pairs(weights) => {
                weights.multiply(input, runs, starts, finish, sums, stride);
            }
            TileKernel::Bytes(weights) => {
                weights.multiply(input, runs, starts, finish, sums, stride);
            }
            TileKernel::SmallBytes(weights) => {
                weights.multiply(input, runs, starts, finish, sums, stride);
            }
            TileKernel::Signs(weights) => {
                weights.multiply(input, runs, starts, finish, sums, stride);
            }
            TileKernel::Ternary(weights) => {
                weights.multiply(input, runs, starts, finish, sums, stride);
            }
        }
    }
}

/// Adds up the bytes of some words of each element of an operand `[elements, words]`.
pub(super) fn add_bytes(
    set: InstructionSet,
    operand: &[u32],
    (words, taps): (usize, Range<usize>),
    sums: &mut [i32],
) {
    set.vectorize(
        #[inline(always)]
        || {
            let (first, count) = (taps.start, taps.len());
            for (words, sum) in operand.chunks_exact(words).zip(sums) {
                // The sums of the even bytes, and of the odd ones, fit into 16 bits each as long as
                // there are at most 128 words.
                *sum = words[first..][..count]
                    .chunks(128)
                    .map(|words| {
                        let pairs = |word: &u32| (word & 0xFF_00FF) + (word >> 8 & 0xFF_00FF);
                        let pairs: u32 = words.iter().map(pairs).sum();
                        (pairs & 0xFFFF) + (pairs >> 16)
                    })
                    .sum::<u32>() as i32;
            }
        },
    );
}
