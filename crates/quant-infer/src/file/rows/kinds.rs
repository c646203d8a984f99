//! The ways in which rows are written, by the number that stands for each in a file.

/// The numbers follow as they are.
pub(super) const RAW: u8 = 0;
/// Predictions and distances.
pub(super) const EVEN: u8 = 1;
/// Nothing follows: the numbers are the sums of the terms that come before them.
pub(in crate::file) const TERMS: u8 = 2;
/// Thresholds from the parameters of each row.
pub(super) const FORMULA: u8 = 3;
/// Thresholds half way between values, and their distances.
pub(super) const MIDPOINTS: u8 = 4;
/// Values from the parameters of each row.
pub(super) const UNITS: u8 = 5;
/// Several lists of rows, each of which is written in a way of its own.
pub(super) const PARTS: u8 = 6;

/// The numbers half way between values.
pub(super) fn midpoints(values: &[f32]) -> impl Iterator<Item = f32> {
    values.windows(2).map(|pair| ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32)
}
