//! Lines, which predict the numbers of any row that is nearly evenly spaced.

use super::distance::largest;
use alloc::vec::Vec;

/// The prediction of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) step: f64,
    pub(super) offset: f64,
}

impl Line {
    fn at(self, index: usize) -> f32 {
        ((index as f64 + self.offset) * self.step) as f32
    }

    /// The predictions of a row of `length` numbers.
    pub(super) fn numbers(self, length: usize) -> Vec<f32> {
        (0..length).map(|index| self.at(index)).collect()
    }

    /// The lines that are tried: through both ends, and through the end that is further from 0 and
    /// a zero point that is a multiple of one half. The latter also with a step of 32 bits.
    fn candidates(row: &[f32]) -> [Self; 3] {
        let (first, last) = (f64::from(row[0]), f64::from(row[row.len() - 1]));
        let count = (row.len() - 1) as f64;
        let step = (last - first) / count;
        let exact = Self { step, offset: first / step };
        let offset = half_integer(exact.offset);
        let step = if first.abs() > last.abs() { first / offset } else { last / (count + offset) };
        [exact, Self { step, offset }, Self { step: f64::from(step as f32), offset }]
    }

    /// The best line, and the largest code of a distance from it.
    pub(super) fn best(row: &[f32]) -> Option<(Self, u8)> {
        let lines = Self::candidates(row).into_iter();
        let fitting = lines.filter_map(|line| {
            largest(&line.numbers(row.len()), row).map(|largest| (line, largest))
        });
        fitting.min_by_key(|&(_, largest)| largest)
    }
}

/// The nearest multiple of one half.
fn half_integer(number: f64) -> f64 {
    // The cast saturates. Rows have 256 numbers at most, so that far larger offsets are not of use.
    let doubled = 2.0 * number + if number < 0.0 { -0.5 } else { 0.5 };
    (doubled as i64) as f64 / 2.0
}
