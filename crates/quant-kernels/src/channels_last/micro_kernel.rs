//! The inner loop, which keeps the sums of several positions and blocks of outputs in registers.

use super::{
    arithmetic::{Arithmetic, Bytes, Floats, Pairs, Products, Signs, SmallBytes, Ternary},
    weights::{Finish, Run, blocks},
};
use crate::simd::{Job, Simd};

/// Sums for every start position and output. `Weights::multiply` is the only place that creates it,
/// after it has checked all lengths.
pub(super) struct Multiply<'a, A: Arithmetic> {
    pub(super) input: &'a [A::Word],
    pub(super) runs: &'a [Run],
    pub(super) starts: &'a [u32],
    pub(super) weights: &'a [A::Word],
    /// Number of vectors of outputs.
    pub(super) vectors: usize,
    pub(super) taps: usize,
    /// The number of taps after which products must be widened.
    pub(super) widen_after: usize,
    /// What becomes of the sums, unless they stay as they are.
    pub(super) finish: Option<&'a Finish<A::Sum>>,
    /// What is then added, for each position.
    pub(super) extra: Option<&'a [A::Sum]>,
    pub(super) sums: &'a mut [A::Sum],
    /// Distance between the sums of two positions.
    pub(super) stride: usize,
}

/// Implements the job for each arithmetic. Its vectors exist for every set, which a generic
/// implementation cannot say.
macro_rules! jobs {
    ($($arithmetic:ident),*) => {
        $(
            impl Job for Multiply<'_, $arithmetic> {
                type Output = ();

                #[inline(always)]
                fn run<S: Simd>(mut self, simd: S) {
                    // SAFETY: `Weights::multiply`, the only place that creates this job, has
                    // checked that every tap of every position lies in the input, that the weights
                    // are those of all taps and vectors, that the sums hold all vectors of all
                    // positions, and that there is a base for each vector and an extra number for
                    // each position.
                    unsafe { multiply_all(simd, &mut self) }
                }
            }
        )*
    };
}

jobs!(Floats, Pairs, Bytes, SmallBytes, Signs, Ternary);

/// Number of positions that are computed together.
const POSITIONS: usize = 6;

#[inline(always)]
unsafe fn multiply_all<S: Simd, A: Products<S>>(simd: S, job: &mut Multiply<'_, A>) {
    let words = size_of::<A::Tap>() / size_of::<A::Word>();
    let mut vector = 0;
    for count in blocks(job.vectors, S::REGISTERS) {
        // SAFETY: the caller guarantees the reads and writes of all positions and vectors.
        unsafe {
            let weights = job.weights.as_ptr().add(vector * job.taps * words * S::LANES);
            let mut tile = Tile { vector, first: 0, weights };
            while tile.first < job.starts.len() {
                tile.first += match count {
                    4 => positions::<S, A, 4>(simd, job, &tile),
                    2 => positions::<S, A, 2>(simd, job, &tile),
                    _ => positions::<S, A, 1>(simd, job, &tile),
                }
            }
        }
        vector += count;
    }
}

/// Some vectors of outputs at some positions.
struct Tile<T> {
    /// The first vector of outputs.
    vector: usize,
    /// The first position.
    first: usize,
    weights: *const T,
}

/// Computes as many positions as fit, and returns their number.
#[inline(always)]
unsafe fn positions<S: Simd, A: Products<S>, const VECTORS: usize>(
    simd: S,
    job: &mut Multiply<'_, A>,
    at: &Tile<A::Word>,
) -> usize {
    // SAFETY: the caller guarantees the same.
    unsafe {
        match job.starts.len() - at.first {
            POSITIONS.. => tile::<S, A, VECTORS, POSITIONS>(simd, job, at),
            4.. => tile::<S, A, VECTORS, 4>(simd, job, at),
            2.. => tile::<S, A, VECTORS, 2>(simd, job, at),
            _ => tile::<S, A, VECTORS, 1>(simd, job, at),
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, A: Products<S>, const VECTORS: usize, const POSITIONS: usize>(
    simd: S,
    job: &mut Multiply<'_, A>,
    at: &Tile<A::Word>,
) -> usize {
    let words = size_of::<A::Tap>() / size_of::<A::Word>();
    // SAFETY: the caller guarantees the same.
    unsafe {
        let mut weights = at.weights;
        let mut products = [[A::zero(simd); VECTORS]; POSITIONS];
        let mut sums = products;
        let mut left = job.widen_after;
        let starts = job.starts.as_ptr().add(at.first);
        let input: [_; POSITIONS] =
            core::array::from_fn(|position| job.input.as_ptr().add(*starts.add(position) as usize));
        for run in job.runs {
            let mut tap = run.start as usize;
            for _ in 0..run.length {
                let weight: [_; VECTORS] = core::array::from_fn(|vector| {
                    A::load(simd, weights.add(vector * S::LANES), VECTORS * S::LANES)
                });
                for (products, input) in products.iter_mut().zip(input) {
                    let x = A::splat(simd, input.add(tap));
                    for (product, weight) in products.iter_mut().zip(weight) {
                        *product = A::add(simd, *product, x, weight);
                    }
                }
                weights = weights.add(VECTORS * S::LANES * words);
                tap += run.step as usize;
                if A::WIDENS {
                    left -= 1;
                    if left == 0 {
                        widen::<S, A, VECTORS, POSITIONS>(simd, &mut sums, &mut products);
                        left = job.widen_after;
                    }
                }
            }
        }
        widen::<S, A, VECTORS, POSITIONS>(simd, &mut sums, &mut products);
        if let Some(finish) = job.finish {
            let factor = A::splat_sum(simd, finish.factor);
            for (position, sums) in sums.iter_mut().enumerate() {
                let extra = match job.extra {
                    Some(extra) => *extra.get_unchecked(at.first + position),
                    None => A::Sum::default(),
                };
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let base = finish.base.as_ptr().add((at.vector + vector) * S::LANES);
                    *sum = A::finish(simd, *sum, factor, base, extra);
                }
            }
        }
        let to = job.sums.as_mut_ptr().add(at.first * job.stride + at.vector * S::LANES);
        for (position, sums) in sums.iter().enumerate() {
            for (vector, sums) in sums.iter().enumerate() {
                A::store(simd, *sums, to.add(position * job.stride + vector * S::LANES));
            }
        }
    }
    POSITIONS
}

/// Adds products to the sums, and begins with new products.
#[inline(always)]
fn widen<S: Simd, A: Products<S>, const VECTORS: usize, const POSITIONS: usize>(
    simd: S,
    sums: &mut [[A::Vector; VECTORS]; POSITIONS],
    products: &mut [[A::Vector; VECTORS]; POSITIONS],
) {
    for (sums, products) in sums.iter_mut().zip(products) {
        for (sum, product) in sums.iter_mut().zip(products) {
            *sum = A::widen(simd, *sum, *product);
            *product = A::zero(simd);
        }
    }
}
