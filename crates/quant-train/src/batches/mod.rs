//! Batches on their way into a step: to the device, normalised, mixed.

pub mod mixing;
pub mod upload;
