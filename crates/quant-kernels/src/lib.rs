//! Loops over slices of floats, without Burn: convolution, batch normalisation and quantizers for training on the CPU, forward and
//! backward.
//!
//! - [`conv`]: two-dimensional convolution.
//! - [`batch_norm`]: batch normalisation with the sum and the ReLU behind it.
//! - [`quantize`]: what quantizers do to each number, and their gradients.
//! - [`simd`]: loops compiled for the processor's vectors.

pub mod batch_norm;
pub mod conv;
pub mod quantize;
pub mod simd;
