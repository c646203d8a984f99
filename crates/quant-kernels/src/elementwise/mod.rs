//! What is computed from each number alone, in one pass: numbers stay in registers from the sums of
//! a convolution to the packed integers of the next one.
//!
//! Every product, quotient and sum is rounded on its own, so all instruction sets compute the same
//! bits as plain code.
//!
//! ```
//! use quant_kernels::{elementwise::{Operation, Size, apply}, simd::InstructionSet};
//!
//! let (sums, scales, mut numbers) = ([-4; 48], [0.5; 16], [0.0; 48]);
//! let operations = &mut [
//!     Operation::AddScaled { sums: &sums, scales: &scales },
//!     Operation::AddScalar(3.0),
//!     Operation::Write(&mut numbers),
//! ];
//! let size = Size { count: 48, channels: 16, period: 16 };
//! apply(InstructionSet::detect(), size, operations);
//! assert_eq!(numbers, [1.0; 48]);
//! ```

#[expect(unsafe_code, reason = "vectors are read and written through pointers")]
mod kernel;

use crate::simd::InstructionSet;

/// Number of channels whose numbers lie together in a [`Table`]. It is a multiple of the number of
/// lanes of every instruction set.
pub const BLOCK: usize = 16;

/// Numbers of channels, several for each: `[blocks, count, BLOCK]`, with the channels of a block
/// next to each other.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a, T> {
    /// The numbers. There is one block if all channels have the same ones, which fill it.
    pub blocks: &'a [[T; BLOCK]],
    /// The count of numbers of a channel.
    pub count: usize,
}

impl<T> Table<'_, T> {
    fn is_uniform(&self) -> bool {
        self.blocks.len() == self.count
    }
}

/// The integer that is stored for a number.
#[derive(Debug, Clone, Copy)]
pub enum Integers<'a> {
    /// The lowest integer, plus a step for each threshold that the number reaches: x ≥ threshold.
    Thresholds {
        /// The thresholds of each channel.
        thresholds: Table<'a, f32>,
        /// The step of each threshold, as many as there are thresholds.
        steps: Table<'a, i32>,
        /// One integer for each channel.
        lowest: Table<'a, i32>,
    },
    /// first + difference·(R(clamp((x/divisor + shift)·factor, lowest, highest)) - lowest), where R
    /// rounds to the nearest integer, and half to even. The bounds are integers of magnitude below
    /// 2²².
    Formula {
        /// One divisor for each channel.
        divisors: Table<'a, f32>,
        /// What is added to the quotient.
        shift: f32,
        /// What the sum is multiplied by.
        factor: f32,
        /// The lower bound, which an x that is NaN becomes too.
        lowest: f32,
        /// The upper bound.
        highest: f32,
        /// The integer of the lower bound.
        first: i32,
        /// The difference between the integers of two neighbours.
        difference: i32,
    },
}

/// How integers are stored.
#[derive(Debug)]
pub enum Stored<'a> {
    /// The lowest byte of each.
    Bytes(&'a mut [u8]),
    /// The lowest 16 bits of each.
    Shorts(&'a mut [i16]),
    /// The lowest bit of each, 32 in a word, from the lowest bit of the word on.
    Bits(&'a mut [u32]),
    /// The lowest bits of 32 integers in a word, and their second bits in the next word.
    TwoBits(&'a mut [u32]),
}

/// The numbers of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many there are: `[positions, channels]`.
    pub count: usize,
    /// The number of channels, a multiple of [`BLOCK`].
    pub channels: usize,
    /// The number of elements after which those of channels begin again. They are repeated for
    /// several positions, so that loops are long: it is a multiple of the number of channels.
    pub period: usize,
}

/// An operation on numbers. Slices have at least one element for each of them, except those of
/// channels, which have the elements of a [period](Size::period).
#[derive(Debug)]
pub enum Operation<'a> {
    /// Adds the float of an integer times the scale of its channel.
    AddScaled {
        /// The integers.
        sums: &'a [i32],
        /// The scales of channels.
        scales: &'a [f32],
    },
    /// Adds a row of numbers to each position, one for each channel.
    AddRows {
        /// The numbers of all rows.
        rows: &'a [f32],
        /// The index of each position's row, a multiple of [`BLOCK`].
        starts: &'a [u32],
    },
    /// The number becomes that of a slice.
    Read(&'a [f32]),
    /// x + a.
    Add(&'a [f32]),
    /// x + a, for the numbers a of channels.
    AddChannels(&'a [f32]),
    /// x·scale + shift.
    Affine {
        /// The factors of channels.
        scale: &'a [f32],
        /// The summands of channels.
        shift: &'a [f32],
    },
    /// x + a.
    AddScalar(f32),
    /// x·a.
    MultiplyScalar(f32),
    /// x where x > 0, else 0.
    Relu,
    /// x where 0 < x < 6, else the nearest of both; 0 for NaN.
    Relu6,
    /// x where x > 0, else x·slope.
    LeakyRelu(f32),
    /// y + after, where y is d = x - before where d > 0, and else d·slope.
    RPRelu {
        /// What is subtracted first, for each channel, as all others.
        before: &'a [f32],
        /// The slopes below 0.
        slope: &'a [f32],
        /// What is added last.
        after: &'a [f32],
    },
    /// Writes the numbers.
    Write(&'a mut [f32]),
    /// Writes integers of the numbers.
    Store(Integers<'a>, Stored<'a>),
    /// Writes integers of sums: the lowest one, plus a step for each threshold that the sum is
    /// above. The numbers stay.
    StoreSums {
        /// The sums.
        sums: &'a [i32],
        /// The thresholds of each channel.
        thresholds: Table<'a, i32>,
        /// The step of each threshold, as many as there are thresholds.
        steps: Table<'a, i32>,
        /// One integer for each channel.
        lowest: Table<'a, i32>,
        /// Where the integers are written.
        to: Stored<'a>,
    },
}

/// Whether [`apply`] takes numbers of so many channels, and can store them in this form: bits need
/// whole words.
pub fn is_supported(channels: usize, needs_words: bool) -> bool {
    channels.is_multiple_of(if needs_words { 32 } else { BLOCK })
}

/// Applies operations, one after another, to numbers `[positions, channels]`. They are -0 at first,
/// whose sum with any number is that number.
///
/// # Panics
/// If a slice is too short, a table lacks blocks, or the size is not [supported](is_supported).
pub fn apply(set: InstructionSet, size: Size, operations: &mut [Operation<'_>]) {
    let Size { count, channels, period } = size;
    let is_valid = channels > 0
        && channels.is_multiple_of(BLOCK)
        && count.is_multiple_of(channels)
        && period > 0
        && period.is_multiple_of(channels);
    assert!(is_valid, "{size:?} fills no vectors");
    for operation in operations.iter() {
        size.check(operation);
    }
    set.run(kernel::Apply { operations, size });
}

impl Size {
    /// Checks everything that the loops rely on.
    fn check(self, operation: &Operation<'_>) {
        match operation {
            Operation::AddScaled { sums, scales } => {
                self.has(sums.len());
                self.has_channels(scales.len());
            }
            Operation::AddRows { rows, starts } => {
                self.has(starts.len() * self.channels);
                let starts = &starts[..self.count / self.channels];
                let last = starts.iter().fold(0, |last, start| last.max(*start)) as usize;
                let is_in = last.checked_add(self.channels).is_some_and(|end| end <= rows.len());
                assert!(is_in || starts.is_empty(), "no row at {last} of {}", rows.len());
            }
            Operation::Read(numbers) | Operation::Add(numbers) => self.has(numbers.len()),
            Operation::AddChannels(numbers) => self.has_channels(numbers.len()),
            Operation::Affine { scale, shift } => {
                self.has_channels(scale.len());
                self.has_channels(shift.len());
            }
            Operation::RPRelu { before, slope, after } => {
                [before, slope, after].iter().for_each(|numbers| self.has_channels(numbers.len()));
            }
            Operation::Write(numbers) => self.has(numbers.len()),
            Operation::Store(integers, to) => {
                self.has_stored(to);
                match integers {
                    Integers::Thresholds { thresholds, steps, lowest } => {
                        self.has_thresholds(thresholds, steps, lowest);
                    }
                    Integers::Formula { divisors, .. } => {
                        assert_eq!(divisors.count, 1, "divisors");
                        self.has_table(divisors);
                    }
                }
            }
            Operation::StoreSums { sums, thresholds, steps, lowest, to } => {
                self.has(sums.len());
                self.has_stored(to);
                self.has_thresholds(thresholds, steps, lowest);
            }
            Operation::AddScalar(_)
            | Operation::MultiplyScalar(_)
            | Operation::Relu
            | Operation::Relu6
            | Operation::LeakyRelu(_) => {}
        }
    }

    fn has(self, length: usize) {
        assert!(length >= self.count, "{length} elements for {} numbers", self.count);
    }

    fn has_channels(self, length: usize) {
        let most = self.count.min(self.period);
        assert!(length >= most, "{length} elements for a period of {most} numbers");
    }

    fn has_table<T>(self, table: &Table<'_, T>) {
        let (blocks, channels) = (table.blocks.len(), self.channels);
        let is_complete =
            blocks > 0 && (table.is_uniform() || blocks == channels / BLOCK * table.count);
        assert!(is_complete || table.count == 0, "{blocks} blocks for {channels} channels");
    }

    fn has_thresholds<T>(
        self,
        thresholds: &Table<'_, T>,
        steps: &Table<'_, i32>,
        lowest: &Table<'_, i32>,
    ) {
        assert_eq!((thresholds.count, 1), (steps.count, lowest.count), "steps");
        self.has_table(thresholds);
        self.has_table(steps);
        self.has_table(lowest);
    }

    fn has_stored(self, stored: &Stored<'_>) {
        let needs_words = matches!(stored, Stored::Bits(_) | Stored::TwoBits(_));
        assert!(!needs_words || self.channels.is_multiple_of(32), "{self:?} fills no words");
        match stored {
            Stored::Bytes(to) => self.has(to.len()),
            Stored::Shorts(to) => self.has(to.len()),
            Stored::Bits(to) => self.has(32 * to.len()),
            Stored::TwoBits(to) => self.has(16 * to.len()),
        }
    }
}

#[cfg(test)]
mod tests;
