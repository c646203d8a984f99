//! Loops over slices of numbers, without Burn: convolution, batch normalisation and quantizers for
//! training on the CPU, forward and backward.
//!
//! - [`conv`]: two-dimensional convolution.
//! - [`batch_norm`]: batch normalisation with the addition and the ReLU that follow it.
//! - [`relu`]: the rectified linear unit.
//! - [`quantize`]: what quantizers do to each number, and their gradients.
//! - [`simd`]: the instruction sets, and how code is compiled for each.
//!
//! # Why a crate of its own
//!
//! A trained network is served by programs that know no Burn, and they run the same loops. So
//! nothing here knows tensors: a pass takes slices and sizes. The crate is `no_std` with `alloc`.
//! Feature `std` detects instruction sets when the program runs, and `rayon` (the default, with
//! `std`) spreads tasks over the threads of rayon's pool.
//!
//! # How the processor's vectors are reached
//!
//! A program for x86-64 may use no more than the oldest processor of that kind has: vectors of four
//! floats, without fused multiplication and addition. So hot code is compiled several times, and
//! the program chooses when it runs: AVX-512 (with the extensions BW, DQ and VL), AVX2 with FMA,
//! NEON, or portable code, which WebAssembly uses with and without `simd128`.
//!
//! There is one way to do that. An [`InstructionSet`](simd::InstructionSet) is a value that only
//! detection makes, so whoever has one has the proof that the processor can run it. It runs a job,
//! which is written once and compiled for every set. A job is one of two things:
//!
//! - a closure of plain loops over arrays, which the compiler vectorises: quantizers and batch
//!   norms, whose arithmetic is short and varies. Every set gives the same bits, because Rust
//!   neither contracts nor reorders floating point operations.
//! - code over the vectors of the set, by name: the inner loops of a convolution, whose speed
//!   depends on how many sums stay in registers, which compilers do not find by themselves.
//!   Products are fused with sums where the set has the instruction, so the last bit of a sum
//!   depends on the set.
//!
//! Closures get the widest vectors, except loops that were measured to be faster with at most eight
//! floats: batch norms, LQ-Nets' fit and the counting of thresholds.
//!
//! The crate `pulp` works in the same way. Its inner loop of a convolution takes the same time
//! (3.74 µs where this crate's takes 3.76, for 576 taps of 8 rows by 48 pixels). This crate has its
//! own hundred lines for that, because `pulp` has no proof for the integer instructions that packed
//! networks need (VNNI, the population count of vectors), and because a crate that others build on
//! should compile in seconds. `rten-simd` has its proofs in the same form, and its own set of
//! operations.
//!
//! # Unsafe code
//!
//! `simd/sets.rs` calls intrinsics and functions with target features. Their tokens are private
//! values that only detection makes, which proves that the processor has the instructions; reading
//! and writing vectors through pointers stays `unsafe`. `conv/micro_kernels.rs` does that: before
//! its loops run, every offset, size and length that they rely on is checked. Where results are
//! written is checked by the one caller, in `conv/passes.rs`. All else is safe code over slices.

#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod batch_norm;
pub mod conv;
mod parallel;
pub mod quantize;
pub mod relu;
pub mod simd;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
