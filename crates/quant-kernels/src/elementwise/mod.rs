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
mod operation;
#[cfg(test)]
mod tests;

use crate::simd::InstructionSet;

pub use operation::{BLOCK, Integers, Operation, Size, Stored, Table};

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
