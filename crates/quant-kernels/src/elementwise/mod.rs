//! What is computed from each number alone, in one pass: numbers stay in registers from the sums of
//! a convolution to the packed integers of the next one.
//!
//! Every product, quotient and sum is rounded on its own, so all instruction sets compute the same
//! bits as plain code.
//!
//! ```
//! use quant_kernels::{elementwise::{Operation, apply}, simd::InstructionSet};
//!
//! let (sums, scales, mut numbers) = ([-4; 16], [0.5; 16], [0.0; 16]);
//! let operations = &mut [
//!     Operation::Scale { sums: &sums, scales: &scales },
//!     Operation::AddScalar(3.0),
//!     Operation::Write(&mut numbers),
//! ];
//! apply(InstructionSet::detect(), 16, 16, operations);
//! assert_eq!(numbers, [1.0; 16]);
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

/// An operation on numbers. All slices have at least one element for each of them.
#[derive(Debug)]
pub enum Operation<'a> {
    /// The number becomes the float of an integer times a scale.
    Scale {
        /// The integers.
        sums: &'a [i32],
        /// The scales.
        scales: &'a [f32],
    },
    /// Adds the float of an integer times a scale.
    AddScaled {
        /// The integers.
        sums: &'a [i32],
        /// The scales.
        scales: &'a [f32],
    },
    /// The number becomes that of a slice.
    Read(&'a [f32]),
    /// x + a.
    Add(&'a [f32]),
    /// x·scale + shift.
    Affine {
        /// The factors.
        scale: &'a [f32],
        /// The summands.
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
        /// What is subtracted first.
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

/// Applies operations, one after another, to `count` numbers `[positions, channels]`. They are 0
/// at first.
///
/// # Panics
/// If a slice is too short, a table lacks blocks, or the sizes are not
/// [supported](is_supported).
pub fn apply(set: InstructionSet, count: usize, channels: usize, operations: &mut [Operation<'_>]) {
    assert!(count.is_multiple_of(BLOCK), "{count} numbers fill no vectors");
    assert!(channels > 0 && channels.is_multiple_of(BLOCK), "{channels} channels fill no blocks");
    for operation in operations.iter() {
        check(operation, count, channels);
    }
    set.run(kernel::Apply { operations, count, channels });
}

/// Checks everything that the loops rely on.
fn check(operation: &Operation<'_>, count: usize, channels: usize) {
    let has = |length: usize| assert!(length >= count, "{length} elements for {count} numbers");
    let of_table = |blocks: usize, of_channel: usize, is_uniform: bool| {
        let is_complete = is_uniform || blocks == channels / BLOCK * of_channel;
        assert!(is_complete, "{blocks} blocks for {channels} channels of {of_channel} numbers");
    };
    fn table<T>(table: &Table<'_, T>) -> (usize, usize, bool) {
        (table.blocks.len(), table.count, table.is_uniform())
    }
    let has_table = |(blocks, of_channel, is_uniform)| of_table(blocks, of_channel, is_uniform);
    let has_stored = |stored: &Stored<'_>| match stored {
        Stored::Bytes(to) => has(to.len()),
        Stored::Shorts(to) => has(to.len()),
        Stored::Bits(to) => {
            assert!(count.is_multiple_of(32), "{count} numbers fill no words");
            has(32 * to.len());
        }
        Stored::TwoBits(to) => {
            assert!(count.is_multiple_of(32), "{count} numbers fill no words");
            has(16 * to.len());
        }
    };
    match operation {
        Operation::Scale { sums, scales } | Operation::AddScaled { sums, scales } => {
            has(sums.len());
            has(scales.len());
        }
        Operation::Read(numbers) | Operation::Add(numbers) => has(numbers.len()),
        Operation::Affine { scale, shift } => {
            has(scale.len());
            has(shift.len());
        }
        Operation::RPRelu { before, slope, after } => {
            [before, slope, after].iter().for_each(|numbers| has(numbers.len()));
        }
        Operation::Write(numbers) => has(numbers.len()),
        Operation::Store(integers, to) => {
            has_stored(to);
            match integers {
                Integers::Thresholds { thresholds, steps, lowest } => {
                    assert_eq!((thresholds.count, 1), (steps.count, lowest.count), "steps");
                    has_table(table(thresholds));
                    has_table(table(steps));
                    has_table(table(lowest));
                }
                Integers::Formula { divisors, .. } => {
                    assert_eq!(divisors.count, 1, "divisors");
                    has_table(table(divisors));
                }
            }
        }
        Operation::StoreSums { sums, thresholds, steps, lowest, to } => {
            has(sums.len());
            has_stored(to);
            assert_eq!((thresholds.count, 1), (steps.count, lowest.count), "steps");
            has_table(table(thresholds));
            has_table(table(steps));
            has_table(table(lowest));
        }
        Operation::AddScalar(_)
        | Operation::MultiplyScalar(_)
        | Operation::Relu
        | Operation::Relu6
        | Operation::LeakyRelu(_) => {}
    }
}

#[cfg(test)]
mod tests;
