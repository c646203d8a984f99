//! Two-dimensional convolution, forward and backward.
//!
//! Burn's CPU backend convolves by copying (im2col, channels-last) around a matrix product, and
//! computes a weight's gradient as a convolution with a kernel as large as the output. Here every
//! pass is one loop over registers: images are copied once, with their padding, into planes on
//! which each tap of the kernel is an offset. The forward pass and the input's gradient then read
//! neighbouring pixels as vectors, and the weight's gradient reads neighbouring output channels.

mod geometry;
#[expect(unsafe_code, reason = "inner loops read and write through pointers")]
#[expect(
    clippy::needless_range_loop,
    reason = "registers are counted by constants, which loops are unrolled by"
)]
mod micro_kernels;
mod passes;
mod planes;
#[cfg(test)]
mod tests;

pub use geometry::{Geometry, GeometryError};
pub use passes::{forward, input_gradient, weight_gradient};
