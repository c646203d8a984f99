//! The inner loop, which keeps the sums of several positions and blocks of outputs in registers.

use super::{
    arithmetic::{Arithmetic, Bytes, Floats, Pairs, Products, Sealed, Signs, SmallBytes, Ternary},
    sums::{Run, Sums},
    weights::blocks,
};
use crate::{
    aligned::LINE,
    simd::{InstructionSet, Job, Simd},
};

/// The job that computes sums with the products of an arithmetic.
struct Multiply<'a, A: Arithmetic>(Sums<'a, A::Word, A::Sum>);

/// Implements the job for each arithmetic, and runs it with the instructions that it needs. Its
/// vectors exist for every set, which a generic implementation cannot say.
macro_rules! jobs {
    ($($arithmetic:ident by $run:ident),*) => {
        $(
            impl Job for Multiply<'_, $arithmetic> {
                type Output = ();

                #[inline(always)]
                fn run<S: Simd>(mut self, simd: S) {
                    // SAFETY: `Weights::multiply`, the only place that creates these sums, has
                    // checked that every tap of every position lies in the input, that the weights
                    // are those of all taps and vectors, that the sums hold all vectors of all
                    // positions, and that there is a base for each vector and an extra number for
                    // each position.
                    unsafe { multiply_all::<S, $arithmetic>(simd, &mut self.0) }
                }
            }

            impl Sealed for $arithmetic {
                #[expect(private_interfaces, reason = "only this crate implements arithmetics")]
                fn run(
                    set: InstructionSet,
                    sums: Sums<'_, <Self as Arithmetic>::Word, <Self as Arithmetic>::Sum>,
                ) {
                    set.$run(Multiply::<Self>(sums));
                }
            }
        )*
    };
}

jobs!(
    Floats by run,
    Pairs by run_dot_products,
    Bytes by run_dot_products,
    SmallBytes by run,
    Signs by run_counts,
    Ternary by run_counts
);

/// Number of positions that are computed together.
const POSITIONS: usize = 6;

/// The number of bytes of weights that are read for all positions before the next ones, about. They
/// stay in the first cache meanwhile.
const SLAB: usize = 24 * 1024;

#[inline(always)]
unsafe fn multiply_all<S: Simd, A: Products<S>>(simd: S, job: &mut Sums<'_, A::Word, A::Sum>) {
    let words = size_of::<A::Tap>() / size_of::<A::Word>();
    let mut vector = 0;
    for count in blocks(job.vectors, S::REGISTERS) {
        let of_tap = count * words * S::LANES;
        let slabs = match job.starts.len() {
            // No weight is read twice.
            ..=POSITIONS => 1,
            _ => (job.taps * of_tap * size_of::<A::Word>()).div_ceil(SLAB).max(1),
        };
        let most = job.taps.div_ceil(slabs);
        let tiles = job.starts.len().div_ceil(POSITIONS).max(1);
        // All positions together ask for the weights that follow, up to a line at each tap.
        let following_step = (of_tap / tiles).min(LINE / size_of::<A::Word>());
        let mut part =
            Part { run: 0, skipped: 0, taps: most.min(job.taps), is_first: true, left: 0 };
        part.left = job.taps - part.taps;
        loop {
            let done = job.taps - part.left - part.taps;
            // SAFETY: the caller guarantees the reads and writes of all positions and vectors.
            unsafe {
                let weights = job.weights.as_ptr().add((vector * job.taps * words) * S::LANES);
                let weights = weights.add(done * of_tap);
                let following = weights.add(part.taps * of_tap);
                let mut tile = Tile { vector, first: 0, weights, following, following_step, part };
                while tile.first < job.starts.len() {
                    tile.first += match count {
                        4 => positions::<S, A, 4>(simd, job, &tile),
                        2 => positions::<S, A, 2>(simd, job, &tile),
                        _ => positions::<S, A, 1>(simd, job, &tile),
                    };
                    tile.following = tile.following.wrapping_add(part.taps * following_step);
                }
            }
            if part.left == 0 {
                break;
            }
            part = part.next(job.runs, most);
        }
        vector += count;
    }
}

/// Some of the taps, whose products are added to the sums of all positions before the next ones.
#[derive(Clone, Copy)]
struct Part {
    /// The first run, and the number of its taps that are skipped.
    run: usize,
    skipped: usize,
    taps: usize,
    /// Whether it has the first taps, so that there are no sums yet.
    is_first: bool,
    /// The number of taps that follow.
    left: usize,
}

impl Part {
    /// Returns the next taps, at most `most`.
    fn next(self, runs: &[Run], most: usize) -> Self {
        let Self { mut run, mut skipped, taps, left, .. } = self;
        skipped += taps;
        while runs.get(run).is_some_and(|content| skipped >= content.length as usize) {
            skipped -= runs[run].length as usize;
            run += 1;
        }
        let taps = most.min(left);
        Self { run, skipped, taps, is_first: false, left: left - taps }
    }
}

/// Some vectors of outputs at some positions.
struct Tile<T> {
    /// The first vector of outputs.
    vector: usize,
    /// The first position.
    first: usize,
    /// The weights of the part's first tap.
    weights: *const T,
    /// The first of the weights behind those of the part that are asked for at these positions, and
    /// how many of them at each tap.
    following: *const T,
    following_step: usize,
    part: Part,
}

/// Computes as many positions as fit, and returns their number.
#[inline(always)]
unsafe fn positions<S: Simd, A: Products<S>, const VECTORS: usize>(
    simd: S,
    job: &mut Sums<'_, A::Word, A::Sum>,
    at: &Tile<A::Word>,
) -> usize {
    // SAFETY: the caller guarantees the same.
    unsafe {
        match job.starts.len() - at.first {
            POSITIONS.. if A::TILES => tile::<S, A, VECTORS, POSITIONS>(simd, job, at),
            4.. if A::TILES => tile::<S, A, VECTORS, 4>(simd, job, at),
            2.. if A::TILES => tile::<S, A, VECTORS, 2>(simd, job, at),
            _ => tile::<S, A, VECTORS, 1>(simd, job, at),
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, A: Products<S>, const VECTORS: usize, const POSITIONS: usize>(
    simd: S,
    job: &mut Sums<'_, A::Word, A::Sum>,
    at: &Tile<A::Word>,
) -> usize {
    let words = size_of::<A::Tap>() / size_of::<A::Word>();
    // SAFETY: the caller guarantees the same.
    unsafe {
        let to = job.sums.as_mut_ptr().add(at.first * job.stride + at.vector * S::LANES);
        let (mut weights, mut following) = (at.weights, at.following);
        let mut products = [[A::zero(simd); VECTORS]; POSITIONS];
        let mut sums = products;
        if !at.part.is_first {
            let initial = if A::WIDENS { &mut sums } else { &mut products };
            for (position, initial) in initial.iter_mut().enumerate() {
                for (vector, sum) in initial.iter_mut().enumerate() {
                    *sum = A::load_sums(simd, to.add(position * job.stride + vector * S::LANES));
                }
            }
        }
        let mut left = job.widen_after;
        let starts = job.starts.as_ptr().add(at.first);
        let input: [_; POSITIONS] =
            core::array::from_fn(|position| job.input.as_ptr().add(*starts.add(position) as usize));
        let (mut run, mut skipped, mut missing) = (at.part.run, at.part.skipped, at.part.taps);
        while missing > 0 {
            let Run { start, length, step } = *job.runs.get_unchecked(run);
            let count = (length as usize - skipped).min(missing);
            let mut tap = start as usize + skipped * step as usize;
            (run, skipped, missing) = (run + 1, 0, missing - count);
            for _ in 0..count {
                let weight: [_; VECTORS] = core::array::from_fn(|vector| {
                    A::load(simd, weights.add(vector * S::LANES), VECTORS * S::LANES)
                });
                for (products, input) in products.iter_mut().zip(input) {
                    let x = A::splat(simd, input.add(tap));
                    for (product, weight) in products.iter_mut().zip(weight) {
                        *product = A::add(simd, *product, x, weight);
                    }
                }
                if at.following_step > 0 {
                    simd.prefetch(following);
                    following = following.wrapping_add(at.following_step);
                }
                weights = weights.add(VECTORS * S::LANES * words);
                tap += step as usize;
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
        if let Some(finish) = job.finish.filter(|_| at.part.left == 0) {
            // A shift takes less time than a product.
            let factor = A::splat_sum(simd, finish.exponent.unwrap_or(finish.factor));
            for (position, sums) in sums.iter_mut().enumerate() {
                let extra = match job.extra {
                    Some(extra) => *extra.get_unchecked(at.first + position),
                    None => A::Sum::default(),
                };
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let base = finish.base.as_ptr().add((at.vector + vector) * S::LANES);
                    let scaled = match finish.exponent {
                        Some(_) => A::shifted(simd, *sum, factor),
                        None => A::times(simd, *sum, factor),
                    };
                    *sum = A::plus(simd, scaled, base, extra);
                }
            }
        }
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
