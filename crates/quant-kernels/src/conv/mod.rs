//! Two-dimensional convolution, forward and backward.
//!
//! Every pass is one loop over registers: images are copied once, with their padding, into planes on which each tap of the
//! kernel is an offset, so that the forward pass and the input's gradient read neighbouring pixels as vectors, and the weight's
//! gradient reads neighbouring outputs. Loops exist for AVX-512, AVX2, NEON and any other processor, chosen when the program
//! runs.

mod geometry;
#[expect(unsafe_code, reason = "vectors of an instruction set, and pointers into planes")]
#[expect(
    clippy::needless_range_loop,
    reason = "registers are counted by constants, which loops are unrolled by"
)]
mod kernels;
mod passes;
mod planes;
#[cfg(test)]
mod tests;
#[expect(unsafe_code, reason = "vectors of an instruction set")]
#[expect(clippy::needless_range_loop, reason = "as in the kernels")]
mod vector;

pub use geometry::{Geometry, GeometryError};
pub use kernels::instruction_set;
pub use passes::{forward, input_gradient, weight_gradient};
