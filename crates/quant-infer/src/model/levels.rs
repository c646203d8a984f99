//! The values of codes as sums of integers times scales.

use alloc::vec::Vec;

/// The values that codes stand for, as a sum of terms: the value of code c in group g is the sum
/// over the terms t of `scale[t][g]·integer[t][g][c]`.
///
/// Evenly spaced values around 0 have one term; evenly spaced values with an offset have a second
/// term whose integers are all 1; a basis of floats, as that of LQ-Nets, has a term for each
/// element of the basis.
///
/// There are as many groups as in the quantizer or weight, or 1 if all its groups are the same. All
/// terms have the same number of groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms(pub Vec<Term>);

/// One term of [`Terms`].
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// The scale of each group, finite and not 0.
    pub scales: Vec<f32>,
    /// The integers, `[groups, levels]` row-major, or `[1, levels]` where all groups have the same.
    pub integers: Vec<i16>,
}

impl Terms {
    /// Returns the values of all codes, `[groups, levels]`: for each, the sum over the terms of
    /// scale times integer, in 32 bits with a rounding after each operation, from the first
    /// product. `None` if the lengths of the lists do not fit each other.
    pub fn values(&self, levels: usize) -> Option<Vec<f32>> {
        values(&self.0, levels)
    }
}

impl Term {
    /// Returns the scale of a group.
    pub fn scale_of(&self, group: usize) -> f32 {
        self.scales[if self.scales.len() == 1 { 0 } else { group }]
    }

    /// Returns the integers of a group's codes.
    pub fn integers_of(&self, group: usize, levels: usize) -> &[i16] {
        let row = if self.integers.len() == levels { 0 } else { group };
        &self.integers[row * levels..][..levels]
    }
}

/// The values of all codes, `[groups, levels]`: for each, the sum over the terms of scale times
/// integer, in 32 bits with a rounding after each operation, from the first product. None if the
/// lengths of the lists do not fit each other.
///
/// All terms have equally many scales, so that the work is bounded by the terms' own length.
pub(crate) fn values(terms: &[Term], levels: usize) -> Option<Vec<f32>> {
    let groups = terms.first()?.scales.len();
    let count = groups.checked_mul(levels)?;
    let fits =
        |term: &Term| term.scales.len() == groups && [levels, count].contains(&term.integers.len());
    if !terms.iter().all(fits) {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    for group in 0..groups {
        for code in 0..levels {
            let products = terms.iter().map(|term| {
                let row = if term.integers.len() == levels { 0 } else { group * levels };
                term.scales[group] * f32::from(term.integers[row + code])
            });
            values.push(products.reduce(|sum, product| sum + product)?);
        }
    }
    Some(values)
}
