//! Weights in the order in which the inner loop reads them.

use alloc::vec::Vec;

use super::{
    arithmetic::{Arithmetic, Bytes, Floats, Pairs, Signs, SmallBytes, Ternary},
    sums::{Finish, Finishing, Run, Sums},
};
use crate::{Aligned, simd::InstructionSet};

/// The weights of a convolution: for each tap and output channel their words.
#[derive(Debug, Clone)]
pub struct Weights<A: Arithmetic> {
    set: InstructionSet,
    words: Aligned<A::Word>,
    taps: usize,
    /// Number of vectors of outputs.
    vectors: usize,
    /// The number of taps after which products must be widened.
    widen_after: usize,
    /// What makes the sums right, if the kernel computes others.
    correction: Option<Finish<A::Sum>>,
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

impl<A: Arithmetic> Weights<A> {
    /// Packs the weights for an instruction set. `weights` returns a function of the taps of an
    /// output.
    fn new<W: Fn(usize) -> A::Tap>(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        let lanes = set.lanes();
        let vectors = outputs.div_ceil(lanes);
        let words_of_tap = A::Tap::default().as_ref().len();
        let count = vectors * lanes * taps * words_of_tap;
        let mut packed = Aligned::filled(count, A::Word::default());
        let mut places = packed.iter_mut();
        // The taps of the outputs of a block, output by output.
        let mut rows = Vec::new();
        let mut first = 0;
        for block in blocks(vectors, set.registers()) {
            let outputs_of_block = first..first + block * lanes;
            first = outputs_of_block.end;
            rows.clear();
            for output in outputs_of_block.start..outputs_of_block.end.min(outputs) {
                rows.extend((0..taps).map(weights(output)));
            }
            rows.resize(block * lanes * taps, A::Tap::default());
            for tap in 0..taps {
                for word in 0..words_of_tap {
                    let all = (0..block * lanes).map(|lane| rows[lane * taps + tap]);
                    all.zip(&mut places).for_each(|(tap, place)| *place = tap.as_ref()[word]);
                }
            }
        }
        Self { set, words: packed, taps, vectors, widen_after: usize::MAX, correction: None }
    }

    /// Returns the number of sums of each position, which is the number of outputs rounded up to
    /// whole vectors. The sums of outputs that do not exist have no meaning.
    pub fn sums(&self) -> usize {
        self.vectors * self.set.lanes()
    }

    /// Returns the number of taps.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Writes the sums of each position: `sums[p·stride + o]` becomes the sum over the taps of all
    /// runs, in this order, of the product of the tap of the input and the weight of output o.
    /// `starts` has the index of the input at which each position begins.
    ///
    /// Sums of integers are then finished: `finish` is made by [`finish`](Weights::finish) of these
    /// weights, and `extra` has a number for each position, which is added in the end.
    ///
    /// # Panics
    /// If the runs do not have as many taps as the weights, if a tap lies beyond the input, if the
    /// sums do not fit, or if numbers to finish them are missing.
    pub fn multiply(
        &self,
        input: &[A::Word],
        runs: &[Run],
        starts: &[u32],
        (finish, extra): Finishing<'_, A::Sum>,
        sums: &mut [A::Sum],
        stride: usize,
    ) {
        let Some(last) = starts.iter().max() else { return };
        let taps: u64 = runs.iter().map(|run| u64::from(run.length)).sum();
        assert_eq!(taps, self.taps as u64, "every tap has a weight");
        let words = A::Tap::default().as_ref().len() as u64;
        let reach = (runs.iter().filter(|run| run.length > 0))
            .map(|run| {
                u64::from(run.start) + u64::from(run.length - 1) * u64::from(run.step) + words
            })
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
        assert!(extra.is_none_or(|extra| extra.len() == starts.len()), "a number per position");
        let finish = finish.or(self.correction.as_ref());
        assert!(finish.is_none_or(|finish| finish.base.len() == self.sums()), "a base per output");
        assert!(extra.is_none() || finish.is_some(), "sums with extra numbers are finished");
        let Self { words: weights, vectors, taps, widen_after, .. } = self;
        let (vectors, taps, widen_after) = (*vectors, *taps, *widen_after);
        A::run(
            self.set,
            Sums {
                input,
                runs,
                starts,
                weights,
                vectors,
                taps,
                widen_after,
                finish,
                extra,
                sums,
                stride,
            },
        );
    }
}

impl<A: Arithmetic<Sum = i32>> Weights<A> {
    /// Returns what makes sum·factor + base(output) of each sum.
    pub fn finish(&self, factor: i32, base: impl Fn(usize) -> i32) -> Finish<i32> {
        let corrected = |output: usize| match &self.correction {
            Some(correction) => correction.base[output].wrapping_mul(factor),
            None => 0,
        };
        let base = (0..self.sums()).map(|output| corrected(output).wrapping_add(base(output)));
        let is_power = factor > 0 && factor & (factor - 1) == 0;
        let exponent = is_power.then(|| factor.trailing_zeros() as i32);
        Finish { factor, exponent, base: base.collect() }
    }
}

impl Weights<Floats> {
    /// Packs floats. `weights` returns a function of the taps of an output.
    pub fn floats<W: Fn(usize) -> f32>(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        Self::new(set, outputs, taps, |output| {
            let weight = weights(output);
            move |tap| [weight(tap)]
        })
    }
}

impl Weights<Pairs> {
    /// Packs pairs of integers. `weights` returns a function of the taps of an output.
    pub fn pairs<W: Fn(usize) -> [i16; 2]>(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        Self::new(set, outputs, taps, |output| {
            let weight = weights(output);
            move |tap| [word_of_pair(weight(tap))]
        })
    }
}

impl Weights<Bytes> {
    /// Packs bytes. `weights` returns a function of the taps of an output.
    pub fn bytes<W: Fn(usize) -> [i8; 4]>(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        let mut packed = Self::new(set, outputs, taps, |output| {
            let weight = weights(output);
            move |tap| [word_of_bytes(weight(tap))]
        });
        if set.shifts_quads() {
            // The kernel subtracts 128 from the bytes of the image.
            packed.correction = Some(packed.finish(1, |output| {
                if output >= outputs {
                    return 0;
                }
                let bytes = (0..taps).flat_map(weights(output));
                let sum = |sum: i32, byte: i8| sum.wrapping_add(i32::from(byte));
                bytes.fold(0, sum).wrapping_mul(128)
            }));
        }
        packed
    }
}

impl Weights<SmallBytes> {
    /// Packs bytes. `weights` returns a function of the taps of an output, and `largest` is the
    /// largest byte of the image. Returns `None` if the sum of two products can exceed 16 bits.
    pub fn small_bytes<W: Fn(usize) -> [i8; 4]>(
        set: InstructionSet,
        (outputs, taps): (usize, usize),
        largest: u8,
        weights: impl Fn(usize) -> W,
    ) -> Option<Self> {
        let mut most: i32 = 0;
        for output in 0..outputs {
            for [a, b, c, d] in (0..taps).map(weights(output)) {
                let of_pair = |a: i8, b: i8| {
                    let [a, b] = [a, b].map(i32::from);
                    (a.max(0) + b.max(0)).max(-(a.min(0) + b.min(0)))
                };
                most = most.max(of_pair(a, b)).max(of_pair(c, d));
            }
        }
        // The sums of 16 bits are widened after so many taps that none of them can exceed its bits.
        let product = i32::from(largest).max(1) * most.max(1);
        let widen_after = (i32::from(i16::MAX) / product) as usize;
        if widen_after == 0 {
            return None;
        }
        let packed = Self::new(set, outputs, taps, |output| {
            let weight = weights(output);
            move |tap| [word_of_bytes(weight(tap))]
        });
        Some(Self { widen_after, ..packed })
    }
}

impl Weights<Signs> {
    /// Packs bits. `weights` returns a function of the taps of an output.
    pub fn signs<W: Fn(usize) -> u32>(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        let packed = Self::new(set, outputs, taps, |output| {
            let weight = weights(output);
            move |tap| [weight(tap)]
        });
        Self { widen_after: set.counts(), ..packed }
    }
}

impl Weights<Ternary> {
    /// Packs numbers that are -1, 0 or 1: the bits of those that are not 0, and of the negative
    /// ones. `weights` returns a function of the taps of an output.
    pub fn ternary<W: Fn(usize) -> [u32; 2]>(
        set: InstructionSet,
        outputs: usize,
        taps: usize,
        weights: impl Fn(usize) -> W,
    ) -> Self {
        Self { widen_after: set.counts(), ..Self::new(set, outputs, taps, weights) }
    }
}

pub(super) fn word_of_pair([a, b]: [i16; 2]) -> u32 {
    let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

fn word_of_bytes(bytes: [i8; 4]) -> u32 {
    u32::from_ne_bytes(bytes.map(|byte| byte as u8))
}
