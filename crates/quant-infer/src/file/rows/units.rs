//! Values from the parameters of a quantizer.

use alloc::vec::Vec;

use super::distance::near;
use crate::model::Term;

/// How the value of code c is computed, where n is the largest code and s and o are the parameters
/// of a row. All operations are those of 32-bit floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    /// c/n·s.
    Parts,
    /// (c/n·2 - 1)·s.
    SignedParts,
    /// (c - (n - (n/2 rounded down)))·s.
    SignedSteps,
    /// c·s.
    Steps,
    /// c·s + o.
    Offset,
    /// u·s, where u is integer c of a list divided by the largest magnitude in it, in 64 bits, and
    /// rounded to 32 bits.
    Table(Vec<i16>),
}

impl Unit {
    /// Those without a list; their places are their numbers in the file. The next number is that of
    /// [`Unit::Table`].
    pub(super) const SIMPLE: [Self; 5] =
        [Self::Parts, Self::SignedParts, Self::SignedSteps, Self::Steps, Self::Offset];

    /// The number of parameters of a row.
    pub(super) fn parameters(&self) -> usize {
        if *self == Self::Offset { 2 } else { 1 }
    }

    /// The values in units of s, of a row of `levels` values. None if a list does not fit.
    pub(super) fn units(&self, levels: usize) -> Option<Vec<f32>> {
        let n = levels as f32 - 1.0;
        let below = n - (n as usize / 2) as f32;
        let of = |unit: &dyn Fn(f32) -> f32| Some((0..levels).map(|c| unit(c as f32)).collect());
        match self {
            Self::Parts => of(&|c| c / n),
            Self::SignedParts => of(&|c| c / n * 2.0 - 1.0),
            Self::SignedSteps => of(&|c| c - below),
            Self::Steps | Self::Offset => of(&|c| c),
            Self::Table(integers) => table(integers).filter(|units| units.len() == levels),
        }
    }

    /// The values of codes with these units.
    pub(super) fn values(&self, units: &[f32], parameters: &[f32]) -> Vec<f32> {
        let scaled = units.iter().map(|unit| unit * parameters[0]);
        match parameters.get(1) {
            Some(offset) => scaled.map(|value| value + offset).collect(),
            None => scaled.collect(),
        }
    }

    /// Parameters with which the values of these units are exactly those of a row.
    pub(super) fn found(&self, row: &[f32], units: &[f32]) -> Option<[f32; 2]> {
        let (first, last) = (row[0], row[row.len() - 1]);
        let (scale, offset) = match self {
            Self::Offset => ((last - first) / (row.len() - 1) as f32, first),
            // The unit that is furthest from 0 has the most exact quotient.
            _ if first.abs() > last.abs() => (first / units[0], 0.0),
            _ => (last / units[units.len() - 1], 0.0),
        };
        if !scale.is_finite() || scale <= 0.0 {
            return None;
        }
        near(scale, NEAR).map(|scale| [scale, offset]).find(|parameters| {
            let values = self.values(units, &parameters[..self.parameters()]);
            values.iter().zip(row).all(|(found, wanted)| found.to_bits() == wanted.to_bits())
        })
    }
}

/// Integers in units of the largest magnitude. None if all are 0.
pub(super) fn table(integers: &[i16]) -> Option<Vec<f32>> {
    let largest = integers.iter().map(|integer| integer.unsigned_abs()).max()?;
    let unit = |integer: &i16| (f64::from(*integer) / f64::from(largest)) as f32;
    (largest > 0).then(|| integers.iter().map(unit).collect())
}

/// The units of the values of codes, which some thresholds follow from. Empty if there are none.
pub(super) fn of_terms(terms: &[Term], levels: usize) -> Vec<f32> {
    match terms {
        [term] if term.integers.len() == levels => table(&term.integers).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The list of [`Unit::Table`] with which a row is written. None if there is none.
pub(super) fn integers(row: &[f32]) -> Option<Vec<i16>> {
    let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if !(largest.is_finite() && largest > 0.0) {
        return None;
    }
    // Within this of an integer, a quotient may be that integer: it has two roundings.
    let near = f64::from(f32::EPSILON);
    (1..=i16::MAX).find_map(|parts| {
        let integer = |value: &f32| {
            let at = f64::from(*value) / f64::from(largest) * f64::from(parts);
            let nearest = if at < 0.0 { at - 0.5 } else { at + 0.5 } as i16;
            ((at - f64::from(nearest)).abs() <= near * at.abs()).then_some(nearest)
        };
        let integers = row.iter().map(integer).collect::<Option<Vec<_>>>()?;
        let unit = Unit::Table(integers);
        let units = unit.units(row.len())?;
        unit.found(row, &units)?;
        let Unit::Table(integers) = unit else { return None };
        Some(integers)
    })
}

/// Parameters are tried this many units in the last place beside the likeliest ones.
const NEAR: i32 = 4;
