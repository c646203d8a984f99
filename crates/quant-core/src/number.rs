//! Numbers in JSON and in messages.
//!
//! JSON has no NaN and no infinity: serde_json writes `null` for them, and the functions for the
//! attribute `serde(deserialize_with = "...")` read `null` as NaN.

use serde::{Deserialize, Deserializer};

/// Reads a number, or NaN for `null`.
///
/// # Errors
/// The error of the format for anything else.
pub fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Reads a 32-bit number, or NaN for `null`.
///
/// # Errors
/// The errors of [`or_nan`].
pub fn or_nan_f32<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
    Ok(Option::<f32>::deserialize(from)?.unwrap_or(f32::NAN))
}

/// Reads a list of 32-bit numbers, with NaN for each `null`.
///
/// # Errors
/// The errors of [`or_nan`].
pub fn all_or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
    let values = Vec::<Option<f32>>::deserialize(from)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect())
}

/// Returns a number with this many significant digits, for messages: in decimal notation from 0.001
/// to below a million, and otherwise in scientific notation.
///
/// ```
/// use quant_core::number::significant;
///
/// assert_eq!(significant(0.012345, 2), "0.012");
/// assert_eq!(significant(0.000031, 2), "3.1e-5");
/// ```
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let after_first = digits.saturating_sub(1);
    let scientific = format!("{value:.after_first$e}");
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    match exponent.unwrap_or(0_i32) {
        exponent @ -3..=5 => {
            let decimals = (after_first as i32 - exponent).max(0) as usize;
            format!("{value:.decimals$}")
        }
        _ => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn small_numbers_keep_their_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1.00"),
            (0.25, "0.250"),
            (-0.0125, "-0.0125"),
            (0.001, "0.00100"),
            (0.000_999_9, "0.00100"),
            (0.000_123_4, "1.23e-4"),
            (123.4, "123"),
            (123_456.0, "123456"),
            (2.5e7, "2.50e7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value, 3), text);
        }
    }
}
