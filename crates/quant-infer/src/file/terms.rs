//! The values of codes, computed from their terms.

use alloc::vec::Vec;

use crate::model::Term;

/// The values of all codes, `[groups, levels]`: for each, the sum over the terms of scale times
/// integer, in 32 bits with a rounding after each operation, from the first product. None if the
/// lengths of the lists do not fit each other.
///
/// All terms have equally many scales, so that the work is bounded by the terms' own length.
pub(super) fn values(terms: &[Term], levels: usize) -> Option<Vec<f32>> {
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
