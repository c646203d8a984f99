//! Two-dimensional convolution, forward and backward.
//!
//! Burn's CPU backend convolves by copying (im2col, channels-last) around a matrix product, and
//! computes the gradient of a weight as a convolution with a kernel as large as the output. Here
//! every pass is one loop over registers. Images are copied once, with their padding, into planes
//! in which each tap of the kernel corresponds to an offset. The forward pass and the gradient of
//! the input then read neighbouring pixels as vectors, and the gradient of the weight reads
//! neighbouring output channels.

mod geometry;
#[expect(unsafe_code, reason = "inner loops read and write through pointers")]
#[expect(
    clippy::needless_range_loop,
    reason = "loops are unrolled by constants that count registers"
)]
mod micro_kernels;
mod passes;
mod planes;
#[cfg(test)]
mod tests;

pub use geometry::{Geometry, GeometryError};
pub use passes::{forward, input_gradient, weight_gradient};
