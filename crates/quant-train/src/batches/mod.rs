//! Batches before a step: they are moved to the device, normalised and mixed.

pub mod mixing;
pub(crate) mod upload;
