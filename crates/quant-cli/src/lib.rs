//! Command lines: [`networks`] is what the `quant` program tells, [`train`] a training program for those
//! that bring a recipe and data of their own.

pub mod networks;
pub mod train;
