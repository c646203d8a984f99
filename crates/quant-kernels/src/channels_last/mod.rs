//! Convolutions of images whose channels are neighbours in memory, for serving: sums over the taps
//! of a kernel, of floats or of pairs of 16-bit integers.
//!
//! An image is a slice of elements of 32 bits, `[height, width, channels]` with its padding written
//! out. An element is a float, or two neighbouring channels as integers. A *tap* is an element of
//! the image below the kernel; it lies at the same distance from the start of each output position.
//! The sums of an output position are kept in vectors over output channels, so each tap is read
//! once per block of outputs, and the weights lie in the order in which they are read.
//!
//! Integers are summed exactly (modulo 2³²). The sum of floats begins with 0 and runs in the order
//! of the taps, and products and sums are rounded on their own, so results are identical on every
//! instruction set.

mod depthwise;
#[expect(unsafe_code, reason = "inner loops read and write through pointers")]
mod micro_kernel;
#[cfg(test)]
mod tests;
mod weights;

pub use depthwise::{depthwise_floats, depthwise_integers};
pub use micro_kernel::Element;
pub use weights::{Run, Weights};
