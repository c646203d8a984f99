//! The thresholds of a quantizer, found by bisection through its own codes.

use burn::tensor::Device;
use quant_core::Quantizer;

use crate::error::LowerError;

/// Returns the place of a number among all 32-bit floats in ascending order, where -0 comes before
/// 0.
fn place(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// Returns the number at a place.
fn number(place: u32) -> f32 {
    f32::from_bits(if place >> 31 == 1 { place & !(1 << 31) } else { !place })
}

/// Returns, for each group, the smallest number that gets the code 1 or a larger one, then that of
/// 2, and so on: `[groups, levels - 1]`. A code that no number reaches has the threshold infinity.
///
/// All thresholds are bisected at once, over the floats themselves, so that a number gets the code
/// of the quantizer whatever the quantizer's arithmetic rounds.
///
/// # Errors
/// [`LowerError::NotMonotone`] where the thresholds give a number another code than the quantizer.
pub(super) fn thresholds(
    layer: &str,
    quantizer: &Quantizer,
    levels: usize,
    device: &Device,
) -> Result<Vec<f32>, LowerError> {
    let codes = |numbers: &[f32]| quantizer.codes_by_group(numbers, device);
    of_codes(layer, [quantizer.groups(), levels - 1], codes)
}

/// Returns the thresholds `[groups, count]` of codes. `codes` has the numbers of all groups,
/// equally many of each.
fn of_codes(
    layer: &str,
    [groups, count]: [usize; 2],
    codes: impl Fn(&[f32]) -> Vec<u8>,
) -> Result<Vec<f32>, LowerError> {
    let of_places = |places: &[u32]| {
        let numbers: Vec<f32> = places.iter().map(|place| number(*place)).collect();
        codes(&numbers)
    };
    // The code of a number at `low` is too small, and that of one at `high` is large enough.
    let ends = [f32::NEG_INFINITY, f32::INFINITY].map(place);
    let [mut low, mut high] = ends.map(|end| vec![end; groups * count]);
    let is_enough = |at: usize, code: u8| usize::from(code) > at % count;
    for (at, code) in of_places(&low).into_iter().enumerate() {
        if is_enough(at, code) {
            high[at] = ends[0];
        }
    }
    while (0..low.len()).any(|at| low[at] + 1 < high[at]) {
        let middle: Vec<u32> =
            low.iter().zip(&high).map(|(low, high)| low + (high - low) / 2).collect();
        for (at, code) in of_places(&middle).into_iter().enumerate() {
            if is_enough(at, code) { high[at] = middle[at] } else { low[at] = middle[at] }
        }
    }
    // Comparisons do not tell -0 from 0.
    let thresholds: Vec<f32> = high.into_iter().map(|place| number(place) + 0.0).collect();
    verify(layer, groups, &thresholds, codes)?;
    Ok(thresholds)
}

/// Compares the codes by thresholds with the quantizer's: at every threshold, beside it, at the
/// ends, and at numbers of all magnitudes between.
fn verify(
    layer: &str,
    groups: usize,
    thresholds: &[f32],
    codes: impl Fn(&[f32]) -> Vec<u8>,
) -> Result<(), LowerError> {
    let count = thresholds.len() / groups;
    let common: Vec<f32> = samples().collect();
    let mut numbers = Vec::new();
    for thresholds in thresholds.chunks(count) {
        numbers.extend_from_slice(&common);
        for (index, threshold) in thresholds.iter().enumerate() {
            let next = thresholds.get(index + 1).copied().unwrap_or(*threshold);
            let middle = threshold + (next - threshold) / 2.0;
            let middle = if middle.is_nan() { 0.0 } else { middle };
            numbers.extend([threshold.next_down(), *threshold, threshold.next_up(), middle]);
        }
    }
    let codes = codes(&numbers);
    let of_group = numbers.len() / groups;
    for (index, (x, found)) in numbers.iter().zip(codes).enumerate() {
        let own = &thresholds[index / of_group * count..][..count];
        let expected = own.iter().filter(|threshold| *x >= **threshold).count() as u8;
        // Nothing computes with infinity, which a code that is never reached has as its threshold.
        if expected != found && x.is_finite() {
            return Err(LowerError::NotMonotone {
                layer: layer.to_owned(),
                x: *x,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// Returns both zeros, the ends, and numbers of every sign and exponent.
fn samples() -> impl Iterator<Item = f32> {
    let zeros_and_ends = [0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::INFINITY];
    // A full period over the mantissas, so that no number is like another.
    let of_exponent = |exponent: u32| {
        let mantissa = exponent.wrapping_mul(0x9E37_79B9) >> 9;
        let x = f32::from_bits(exponent << 23 | mantissa);
        [x, -x]
    };
    zeros_and_ends.into_iter().chain((1..255).flat_map(of_exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codes: impl Fn(f32) -> u8) -> Result<Vec<f32>, LowerError> {
        of_codes("layer1.conv", [1, 2], |numbers| numbers.iter().map(|x| codes(*x)).collect())
    }

    #[test]
    fn codes_that_rise_have_thresholds() {
        let rising = |x: f32| u8::from(x > -0.75) + u8::from(x >= 2.5);
        assert_eq!(of(rising), Ok(vec![(-0.75f32).next_up(), 2.5]));
    }

    #[test]
    fn codes_that_fall_are_refused_with_a_number_that_shows_it() {
        let falling: [fn(f32) -> u8; 3] = [
            |x| 2 - u8::from(x > -0.75) - u8::from(x >= 2.5),
            // Only between two thresholds.
            |x| if (0.25..0.5).contains(&x) { 0 } else { u8::from(x > -1.0) + u8::from(x > 1.0) },
            // Only far from 0.
            |x| if x > 1e30 { 0 } else { u8::from(x > -1.0) + u8::from(x > 1.0) },
        ];
        for codes in falling {
            let error = of(codes).unwrap_err();
            let LowerError::NotMonotone { layer, x, found, expected } = &error else {
                panic!("{error}")
            };
            assert_eq!((&layer[..], *found), ("layer1.conv", codes(*x)));
            assert_ne!(found, expected);
            let text = error.to_string();
            assert!(text.starts_with("layer1.conv: its quantizer gives the number "), "{text}");
            assert!(text.contains("whose codes never fall while its input rises"), "{text}");
        }
    }
}
