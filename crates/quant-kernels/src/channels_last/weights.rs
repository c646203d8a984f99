//! Weights in the order in which the inner loop reads them.

use alloc::vec::Vec;

use super::micro_kernel::{Element, Multiply};
use crate::simd::InstructionSet;

/// Taps that lie at equal distances in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The distance of the first tap from the start of a position, in elements.
    pub start: u32,
    /// The number of taps.
    pub length: u32,
    /// The distance between two taps.
    pub step: u32,
}

/// The weights of a convolution: for each tap and output channel an element.
#[derive(Debug, Clone)]
pub struct Weights<E> {
    set: InstructionSet,
    elements: Vec<E>,
    taps: usize,
    /// Number of vectors of outputs.
    vectors: usize,
}

/// Returns the numbers of vectors of outputs that are computed together.
pub(super) fn blocks(vectors: usize, registers: usize) -> impl Iterator<Item = usize> {
    let most = if registers >= 32 { 4 } else { 2 };
    let mut left = vectors;
    core::iter::from_fn(move || {
        let block = if left >= most { most } else { 1 << left.checked_ilog2()? };
        left -= block;
        Some(block)
    })
}

impl<E: Element> Weights<E> {
    /// Packs the weights for an instruction set. `weight` returns that of an output and a tap.
    pub fn pack(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weight: impl Fn(usize, usize) -> E,
    ) -> Self {
        let lanes = set.lanes();
        let vectors = outputs.div_ceil(lanes);
        let mut elements = Vec::with_capacity(vectors * lanes * taps);
        let mut first = 0;
        for block in blocks(vectors, set.registers()) {
            let outputs_of_block = first..first + block * lanes;
            first = outputs_of_block.end;
            for tap in 0..taps {
                elements.extend((outputs_of_block.clone()).map(|output| {
                    if output < outputs { weight(output, tap) } else { E::default() }
                }));
            }
        }
        Self { set, elements, taps, vectors }
    }

    /// Returns the number of sums of each position, which is the number of outputs rounded up to
    /// whole vectors. The sums of outputs that do not exist are 0.
    pub fn sums(&self) -> usize {
        self.vectors * self.set.lanes()
    }

    /// Returns the number of taps.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Writes the sums of each position: `sums[p·stride + o]` becomes the sum over the taps of all
    /// runs, in this order, of the element of the input times the weight of output o. `starts` has
    /// the index of the input at which each position begins.
    ///
    /// # Panics
    /// If the runs do not have as many taps as the weights, if a tap lies beyond the input, or if
    /// the sums do not fit.
    pub fn multiply(
        &self,
        input: &[E],
        runs: &[Run],
        starts: &[u32],
        sums: &mut [E::Sum],
        stride: usize,
    ) {
        let Some(last) = starts.iter().max() else { return };
        let taps: u64 = runs.iter().map(|run| u64::from(run.length)).sum();
        assert_eq!(taps, self.taps as u64, "every tap has a weight");
        let reach = (runs.iter().filter(|run| run.length > 0))
            .map(|run| u64::from(run.start) + u64::from(run.length - 1) * u64::from(run.step) + 1)
            .max()
            .unwrap_or(0);
        assert!(u64::from(*last) + reach <= input.len() as u64, "taps lie within the input");
        assert!(self.sums() <= stride, "the sums of a position fit its place");
        assert!(
            (starts.len() - 1).checked_mul(stride).and_then(|at| at.checked_add(self.sums()))
                <= Some(sums.len())
                && starts.len().checked_mul(stride).is_some(),
            "the sums of all positions fit"
        );
        let (weights, vectors, taps) = (&self.elements[..], self.vectors, self.taps);
        let job = Multiply { input, runs, starts, weights, vectors, taps, sums, stride };
        E::run(self.set, job);
    }
}
