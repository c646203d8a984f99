//! Checks of the numbers in configurations.

use std::ops::RangeInclusive;

use crate::error::NetworkError;

/// Checks that a number of a configuration lies in its range, which `accepted` describes.
pub(crate) fn check_range(
    field: &'static str,
    value: usize,
    range: RangeInclusive<usize>,
    accepted: &'static str,
) -> Result<(), NetworkError> {
    check_field(range.contains(&value), field, value, accepted)
}

/// Checks the value of a field, which is `good` or not, and whose accepted values `accepted` says.
pub(crate) fn check_field(
    good: bool,
    field: &'static str,
    value: impl ToString,
    accepted: &'static str,
) -> Result<(), NetworkError> {
    if good {
        return Ok(());
    }
    Err(NetworkError::Field { field, value: value.to_string(), accepted })
}

/// Checks the number of classes and the size of images, which every configuration has.
pub(crate) fn check_data(classes: usize, input_size: usize) -> Result<(), NetworkError> {
    check_range("classes", classes, 1..=1_000_000, "1 to 1000000")?;
    check_range("input_size", input_size, 1..=8192, "1 to 8192 pixels")
}
