//! Numbers in JSON. JSON has no NaN and no infinity: serde_json writes `null` for them, and reads
//! them back with these functions as NaN. For the attribute `serde(deserialize_with = "...")`.

use serde::{Deserialize, Deserializer};

/// A number, or NaN for `null`.
///
/// # Errors
/// Those of the format, for anything else.
pub fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// The same in 32 bits.
///
/// # Errors
/// As [`or_nan`].
pub fn or_nan_f32<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
    Ok(Option::<f32>::deserialize(from)?.unwrap_or(f32::NAN))
}

/// The same of a list.
///
/// # Errors
/// As [`or_nan`].
pub fn all_or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
    let values = Vec::<Option<f32>>::deserialize(from)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect())
}
