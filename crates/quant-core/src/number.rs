//! Reads numbers from JSON. JSON has no NaN and no infinity: serde_json writes `null` for them, and
//! these functions read `null` as NaN. Use them in the attribute `serde(deserialize_with = "...")`.

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
