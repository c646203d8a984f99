//! The sums of a convolution: from which taps they are computed, and what becomes of them.

use alloc::vec::Vec;

/// Taps that lie at equal distances in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The distance of the first tap from the start of a position, in words.
    pub start: u32,
    /// The number of taps.
    pub length: u32,
    /// The distance between two taps, in words.
    pub step: u32,
}

/// What becomes of sums of integers: sum·factor + base, modulo 2³², with a base for each output.
#[derive(Debug, Clone)]
pub struct Finish<T> {
    pub(super) factor: T,
    /// The exponent of the factor, if it is a power of 2.
    pub(super) exponent: Option<T>,
    pub(super) base: Vec<T>,
}

/// How sums are finished, if they are, and a number for each position, which is added in the end.
pub type Finishing<'a, T> = (Option<&'a Finish<T>>, Option<&'a [T]>);

/// The sums of a convolution for every start position and output: what they are computed from, and
/// where they are written. `Weights::multiply` is the only place that creates it, after it has
/// checked all lengths.
pub(super) struct Sums<'a, W, T> {
    pub(super) input: &'a [W],
    pub(super) runs: &'a [Run],
    pub(super) starts: &'a [u32],
    pub(super) weights: &'a [W],
    /// Number of vectors of outputs.
    pub(super) vectors: usize,
    pub(super) taps: usize,
    /// The number of taps after which products must be widened.
    pub(super) widen_after: usize,
    /// What becomes of the sums, unless they stay as they are.
    pub(super) finish: Option<&'a Finish<T>>,
    /// What is then added, for each position.
    pub(super) extra: Option<&'a [T]>,
    pub(super) sums: &'a mut [T],
    /// Distance between the sums of two positions.
    pub(super) stride: usize,
}
