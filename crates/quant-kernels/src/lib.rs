//! Loops over slices of numbers, independent of Burn: convolution, batch normalisation and
//! quantizers for training on the CPU, with their gradients.
//!
//! - [`conv`]: two-dimensional convolution.
//! - [`channels_last`]: sums of floats and integers for serving, over images with their channels
//!   last.
//! - [`elementwise`]: what serving computes from each number alone, from sums to packed integers.
//! - [`batch_norm`]: batch normalisation, with the addition and the ReLU that may follow it.
//! - [`relu`]: the rectified linear unit.
//! - [`quantize`]: the formulas that quantizers apply to each number, and their gradients.
//! - [`simd`]: the instruction sets, and how code is compiled for each of them.
//!
//! # Why a crate of its own
//!
//! Programs that serve a trained network do not use Burn, but run the same loops. So nothing here
//! depends on tensors: a function takes slices and sizes. The crate is `no_std` with `alloc`. The
//! feature `std` detects instruction sets when the program runs, and `rayon` (which is on by
//! default and includes `std`) distributes tasks over the threads of rayon's pool.
//!
//! # How the processor's vectors are reached
//!
//! A program compiled for x86-64 may only use the instructions of the oldest such processor:
//! vectors of four floats, without fused multiplication and addition. So frequently executed code
//! is compiled several times, and the program chooses one version when it runs: AVX-512 (with the
//! extensions BW, DQ and VL), AVX2 with FMA, NEON, or portable code, which WebAssembly uses with
//! and without `simd128`. Sums of small integers have versions for VNNI, the population count of
//! vectors, and NEON's dot products too.
//!
//! There is one way to do this. An [`InstructionSet`](simd::InstructionSet) is a value that is only
//! created by detection, so it proves that the processor can execute its instructions. It runs a
//! job, which is written once and compiled for every set. A job is one of two things:
//!
//! - A closure of plain loops over arrays, which the compiler vectorises. Quantizers and batch
//!   norms are of this kind, because their arithmetic is short and varied. Results are identical on
//!   every set, because Rust neither contracts nor reorders floating point operations.
//! - Code that uses the vectors of the set explicitly. The inner loops of a convolution and
//!   [`elementwise`] are of this kind, because their speed depends on how many numbers stay in
//!   registers, which compilers do not optimise well. The convolutions of training fuse products
//!   and sums where the set has such an instruction, so the last bit of a sum depends on the set.
//!   All code for serving rounds each product and each sum, so its results do not.
//!
//! Closures use the widest vectors, except loops that were measured to be faster with at most eight
//! floats: batch norms, LQ-Nets' fit and the counting of thresholds.
//!
//! The crate `pulp` works in the same way. Its version of a convolution's inner loop takes the same
//! time (3.74 µs, and this crate's takes 3.76 µs, for 576 taps of 8 rows by 48 pixels). This crate
//! has its own hundred lines instead, because `pulp` has no proof for the integer instructions that
//! packed networks need (VNNI, and the population count of vectors), and because a crate that
//! others depend on should compile in seconds. `rten-simd` has proofs in the same form, but its own
//! set of operations.
//!
//! # Unsafe code
//!
//! The files in `simd` call intrinsics and functions with target features. The tokens are private
//! values that are only created by detection, which proves that the processor has the instructions.
//! Reading and writing vectors through pointers remains `unsafe`, which `conv/micro_kernels.rs`,
//! `channels_last` (its arithmetic, micro kernel and depthwise sums) and `elementwise/kernel.rs`
//! do. Before their loops run, every offset, size and length that they rely on is checked. The
//! first is only called by `conv/passes.rs`, which checks where results are written. All other code
//! is safe code over slices.

#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod aligned;
#[cfg(feature = "training")]
pub mod batch_norm;
pub mod channels_last;
#[cfg(feature = "training")]
pub mod conv;
pub mod elementwise;
#[cfg(feature = "training")]
mod parallel;
#[cfg(feature = "training")]
pub mod quantize;
#[cfg(feature = "training")]
pub mod relu;
pub mod simd;

pub use aligned::Aligned;

/// Returns the square root of a number, rounded to the nearest float.
#[inline]
pub fn square_root(x: f32) -> f32 {
    libm::sqrtf(x)
}

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
