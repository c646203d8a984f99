//! Two-dimensional convolution, and the batch normalisation that follows it, for training on the CPU.
//!
//! Burn's CPU backend convolves by copying (im2col, channels-last) around a matrix product, and computes a weight's
//! gradient as a convolution with a kernel as large as the output. Here every pass is one loop over registers: images are
//! copied once, with their padding, into planes on which each tap of the kernel is an offset, so that the
//! forward pass and the input's gradient read neighbouring pixels as vectors, and the weight's gradient reads
//! neighbouring outputs. Loops exist for AVX-512, AVX2, NEON and any other processor, chosen when the program runs.
//!
//! [`batch_norm`](fn@batch_norm) is what Burn's backend composes of some twenty tensor operations, in three passes forward and two backward.
//!
//! [`conv2d`] is the differentiable operation on Burn's tensors: these passes on the CPU for contiguous 32-bit floats, Burn's own
//! convolution for all else. [`forward`], [`input_gradient`] and [`weight_gradient`] are the passes on slices.

mod batch_norm;
mod geometry;
#[expect(unsafe_code, reason = "vectors of an instruction set, and pointers into planes")]
#[expect(
    clippy::needless_range_loop,
    reason = "registers are counted by constants, which loops are unrolled by"
)]
mod kernels;
mod ops;
mod passes;
mod planes;
#[cfg(test)]
mod tests;
#[expect(unsafe_code, reason = "vectors of an instruction set")]
#[expect(clippy::needless_range_loop, reason = "as in the kernels")]
mod vector;

pub use batch_norm::{After, Norm, NormGradients, Normalized};
pub use geometry::{Geometry, GeometryError};
pub use kernels::instruction_set;
pub use ops::{BatchNormOutput, batch_norm, batch_norm_then, conv2d, conv2d_filled, relu};
pub use passes::{forward, input_gradient, weight_gradient};
