//! Thresholds from the parameters of a quantizer.
//!
//! A quantizer computes a code from x by a few operations that round. Its thresholds are the
//! smallest numbers with each code, which its parameters say completely.

use alloc::vec::Vec;

use super::distance::{near, number, order};
use crate::grid::{Grid, round};

/// How a quantizer computes a code, where n is the number of thresholds of a row and s and o are
/// the parameters. R rounds to the nearest integer, and half way to the even one. All operations
/// are those of 32-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Formula {
    /// R(x/s·n).
    Unsigned,
    /// R((x/s + 1)·0.5·n).
    Signed,
    /// R(x/s) + n - (n/2 rounded down).
    SignedSteps,
    /// R((x - o)/s).
    Steps,
    /// The number of k with x/s > (u + (v - u)/2), where u and v are the units of the values of
    /// codes k and k + 1.
    Table,
}

/// A search takes this many comparisons for each number of a row, and [`MORE`] for the row: enough
/// for parameters as training finds them, and a bound on the time that a file can take.
const COMPARISONS: usize = 8;
const MORE: usize = 256;

/// A formula with the numbers of a row.
#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    scale: f32,
    kind: Kind<'a>,
}

/// What the scale of a row belongs to.
#[derive(Debug, Clone, Copy)]
enum Kind<'a> {
    Grid(Grid),
    /// The number that is subtracted first.
    Offset(f32),
    /// The units of the values.
    Table(&'a [f32]),
}

impl Row<'_> {
    /// Whether the code of x is above k.
    fn is_above(&self, x: f32, k: usize) -> bool {
        let (s, above) = (self.scale, k as f32);
        match self.kind {
            Kind::Grid(grid) => round(grid.position(x, s)) > above + grid.lowest,
            Kind::Offset(offset) => round((x - offset) / s) > above,
            Kind::Table(units) => x / s > between(units, k),
        }
    }

    /// About where threshold k is.
    fn guess(&self, k: usize) -> f32 {
        let (s, at) = (f64::from(self.scale), k as f64 + 0.5);
        let guess = match self.kind {
            Kind::Grid(grid) => {
                let [shift, factor, lowest] = [grid.shift, grid.factor, grid.lowest].map(f64::from);
                ((at + lowest) / factor - shift) * s
            }
            Kind::Offset(offset) => at * s + f64::from(offset),
            Kind::Table(units) => f64::from(between(units, k)) * s,
        };
        guess as f32
    }

    /// The smallest number whose code is above k. None if that takes more comparisons than `left`.
    fn threshold(&self, k: usize, left: &mut usize) -> Option<f32> {
        let ends = [f32::MIN, f32::MAX].map(order);
        let mut above = |at: i32| {
            *left = left.checked_sub(1)?;
            Some(self.is_above(number(at), k))
        };
        let guess = order(self.guess(k)).clamp(ends[0], ends[1]);
        // Everything up to `low` is below the threshold, and `high` is not.
        let (mut low, mut high);
        let mut step = 1;
        if above(guess)? {
            (low, high) = (guess.saturating_sub(step), guess);
            while above(low)? {
                if low <= ends[0] {
                    return None;
                }
                high = low;
                step *= 2;
                low = low.saturating_sub(step).max(ends[0]);
            }
        } else {
            (low, high) = (guess, guess.saturating_add(step));
            while !above(high)? {
                if high >= ends[1] {
                    return None;
                }
                low = high;
                step *= 2;
                high = high.saturating_add(step).min(ends[1]);
            }
        }
        while i64::from(high) - i64::from(low) > 1 {
            let middle = low.midpoint(high);
            if above(middle)? { high = middle } else { low = middle }
        }
        // -0 is 0.
        Some(number(high) + 0.0)
    }
}

/// The threshold between the units of codes k and k + 1.
fn between(units: &[f32], k: usize) -> f32 {
    units[k] + (units[k + 1] - units[k]) / 2.0
}

impl Formula {
    /// All formulas; their places are their numbers in the file.
    pub(super) const ALL: [Self; 5] =
        [Self::Unsigned, Self::Signed, Self::SignedSteps, Self::Steps, Self::Table];

    /// The number of parameters of a row.
    pub(super) fn parameters(self) -> usize {
        if self == Self::Steps { 2 } else { 1 }
    }

    fn row<'a>(self, parameters: &[f32], length: usize, units: &'a [f32]) -> Option<Row<'a>> {
        let (scale, offset) = (parameters[0], parameters.get(1).copied().unwrap_or(0.0));
        // A divisor of 0 or of no number gives no codes, and far from 1 the formulas overflow.
        let is_usual = (1e-30..=1e30).contains(&scale) && offset.abs() <= 1e30;
        let n = length as f32;
        let kind = match self {
            Self::Unsigned => Kind::Grid(Grid::unsigned(n)),
            Self::Signed => Kind::Grid(Grid::signed(n)),
            Self::SignedSteps => Kind::Grid(Grid::multiples((length / 2) as f32 - n, n)),
            Self::Steps => Kind::Offset(offset),
            Self::Table if units.len() == length + 1 => Kind::Table(units),
            Self::Table => return None,
        };
        is_usual.then_some(Row { scale, kind })
    }

    /// The thresholds of a row of `length` numbers, where codes have these units. None if the
    /// parameters are not usual ones.
    pub(super) fn numbers(
        self,
        parameters: &[f32],
        length: usize,
        units: &[f32],
    ) -> Option<Vec<f32>> {
        let row = self.row(parameters, length, units)?;
        let mut left = COMPARISONS * length + MORE;
        (0..length).map(|k| row.threshold(k, &mut left)).collect()
    }

    /// Parameters with which these are exactly the thresholds of a row whose codes have these
    /// values and units. None if the formula has none.
    pub(super) fn found(self, row: &[f32], values: &[f32], units: &[f32]) -> Option<[f32; 2]> {
        let length = row.len();
        let (first, last, n) = (f64::from(row[0]), f64::from(row[length - 1]), length as f64);
        // With one threshold, the signed formulas have it at 0, whatever the parameters.
        if length < 2 || self == Self::Table && units.len() != length + 1 {
            return None;
        }
        let scale = match self {
            Self::Unsigned => last * n / (n - 0.5),
            Self::Signed => last * n / (n - 1.0),
            Self::SignedSteps => last / ((length / 2) as f64 - 0.5),
            Self::Steps => (last - first) / (n - 1.0),
            Self::Table => last / f64::from(between(units, length - 1)),
        };
        // The value of code 0 is the offset.
        let offset = if self == Self::Steps { values.first().copied()? } else { 0.0 };
        let scales = near(scale as f32, NEAR);
        let mut parameters = scales.map(|scale| [scale, offset]);
        parameters.find(|parameters| self.gives(parameters, row, units))
    }

    /// Whether these are exactly the thresholds.
    fn gives(self, parameters: &[f32], thresholds: &[f32], units: &[f32]) -> bool {
        let Some(row) = self.row(parameters, thresholds.len(), units) else { return false };
        thresholds.iter().enumerate().all(|(k, &threshold)| {
            threshold.is_finite()
                && row.is_above(threshold, k)
                && !row.is_above(threshold.next_down(), k)
                && threshold.to_bits() != (-0.0f32).to_bits()
        })
    }
}

/// Parameters are tried this many units in the last place beside the likeliest ones.
const NEAR: i32 = 24;
