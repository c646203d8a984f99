//! Checks of sizes, numbers and quantizers.

use alloc::format;

use super::problem::{Problem, ensure};
use crate::model::{Dynamic, Quantizer, Terms};

/// The largest side, stride, padding, dilation or factor that a layer may have.
const MAX_EXTENT: usize = 1 << 15;

/// The largest number of terms of a quantizer or a weight.
const MAX_TERMS: usize = 16;

/// The largest magnitude of an integer: the lowest integer of 16 bits has no negative.
const MAX_INTEGER: i16 = i16::MAX;

pub(super) fn check_extent(name: &str, value: usize, lowest: usize) -> Result<(), Problem> {
    ensure((lowest..=MAX_EXTENT).contains(&value), || {
        format!("has the {name} {value}, which must lie from {lowest} to {MAX_EXTENT}")
    })
}

pub(super) fn check_finite(name: &str, numbers: &[f32]) -> Result<(), Problem> {
    match numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(format!("has the {name} {number}, which must be finite")),
        None => Ok(()),
    }
}

pub(super) fn check_length(name: &str, found: usize, wanted: usize) -> Result<(), Problem> {
    ensure(found == wanted, || format!("has {found} {name}, and must have {wanted}"))
}

pub(super) fn check_levels(levels: usize) -> Result<(), Problem> {
    ensure((2..=256).contains(&levels), || {
        format!("has {levels} levels, and must have from 2 to 256")
    })
}

/// Returns a product, or a problem if it is too large for this machine.
pub(super) fn product(factors: &[usize]) -> Result<usize, Problem> {
    factors
        .iter()
        .try_fold(1usize, |product, factor| product.checked_mul(*factor))
        .ok_or_else(|| format!("has sizes whose product is too large: {factors:?}"))
}

pub(super) fn check_quantizer(quantizer: &Quantizer) -> Result<(), Problem> {
    let (groups, levels) = (quantizer.groups, quantizer.levels);
    check_levels(levels)?;
    ensure(groups > 0, || "has a quantizer with 0 groups, and must have at least 1".into())?;
    check_length("thresholds", quantizer.thresholds.len(), product(&[groups, levels - 1])?)?;
    check_length("values of its quantizer", quantizer.values.len(), product(&[groups, levels])?)?;
    for thresholds in quantizer.thresholds.chunks(levels - 1) {
        ensure(
            thresholds.iter().all(|threshold| !threshold.is_nan()) && thresholds.is_sorted(),
            || "has thresholds that are not in ascending order".into(),
        )?;
    }
    check_finite("value", &quantizer.values)?;
    for values in quantizer.values.chunks(levels) {
        ensure(values.is_sorted(), || "has values that are not in ascending order".into())?;
    }
    let Some(terms) = &quantizer.terms else { return Ok(()) };
    ensure(quantizer.dynamic == Dynamic::None, || {
        "has integers for a quantizer that depends on the image".into()
    })?;
    check_terms(terms, groups, levels)
}

pub(super) fn check_terms(terms: &Terms, groups: usize, levels: usize) -> Result<(), Problem> {
    let count = terms.0.len();
    ensure((1..=MAX_TERMS).contains(&count), || {
        format!("has values of {count} terms, and must have from 1 to {MAX_TERMS}")
    })?;
    let term_groups = terms.0[0].scales.len();
    ensure(term_groups == 1 || term_groups == groups, || {
        format!("has {term_groups} scales for {groups} groups")
    })?;
    for term in &terms.0 {
        check_length("scales of a term", term.scales.len(), term_groups)?;
        check_finite("scale", &term.scales)?;
        ensure(term.scales.iter().all(|scale| *scale != 0.0), || "has the scale 0".into())?;
        let integers = term.integers.len();
        let all = product(&[term_groups, levels])?;
        ensure(integers == levels || integers == all, || {
            format!("has {integers} integers for {levels} levels and {term_groups} groups")
        })?;
        let largest = |integer: &i16| integer.unsigned_abs() <= MAX_INTEGER.unsigned_abs();
        ensure(term.integers.iter().all(largest), || {
            format!("has an integer that does not lie from -{MAX_INTEGER} to {MAX_INTEGER}")
        })?;
    }
    Ok(())
}
