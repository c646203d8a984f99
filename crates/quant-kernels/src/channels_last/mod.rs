//! Convolutions of images whose channels are neighbours in memory, for serving: sums over the taps
//! of a kernel, of floats or of small integers.
//!
//! An image is a slice of words, `[height, width, channels]` with its padding written out. A word
//! is a float, or several neighbouring channels as small integers: what words stand for is an
//! [`Arithmetic`]. A *tap* is what lies in the image below one place of the kernel: a word, or two.
//! It lies at the same distance from the start of each output position. The sums of an output
//! position are kept in vectors over output channels, so each tap is read once per block of
//! outputs, and the weights lie in the order in which they are read.
//!
//! Integers are summed exactly (modulo 2³²), so results are identical on every instruction set and
//! with every arithmetic that can hold the numbers.

#[expect(unsafe_code, reason = "vectors are read and written through pointers")]
mod arithmetic;
#[expect(unsafe_code, reason = "vectors are read and written through pointers")]
mod depthwise;
#[expect(unsafe_code, reason = "inner loops read and write through pointers")]
mod micro_kernel;
mod sums;
#[cfg(test)]
mod tests;
mod weights;

pub use arithmetic::{Arithmetic, Bytes, Floats, Pairs, Signs, SmallBytes, Ternary};
pub use depthwise::{depthwise_floats, depthwise_integers};
pub use sums::{Finish, Finishing, Run};
pub use weights::Weights;
