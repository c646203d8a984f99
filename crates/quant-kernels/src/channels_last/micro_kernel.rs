//! The inner loop, which keeps the sums of several positions and blocks of outputs in registers.

use super::weights::{Run, blocks};
use crate::simd::{InstructionSet, Job, Simd};

/// An element of an image: a float, or a pair of integers of 16 bits.
pub trait Element: Copy + Default + Send + Sync + sealed::Sealed {
    /// The sum of products of elements: a float, or an integer of 32 bits.
    type Sum: Copy + Default + Send + Sync;
}

impl Element for f32 {
    type Sum = f32;
}

impl Element for [i16; 2] {
    type Sum = i32;
}

mod sealed {
    use super::{Element, InstructionSet, Multiply};

    /// How sums are computed.
    pub trait Sealed: Sized {
        #[expect(private_interfaces, reason = "only this crate implements elements")]
        fn run(set: InstructionSet, job: Multiply<'_, Self>)
        where
            Self: Element;
    }
}

impl sealed::Sealed for f32 {
    #[expect(private_interfaces, reason = "only this crate implements elements")]
    fn run(set: InstructionSet, job: Multiply<'_, Self>) {
        set.run(job);
    }
}

impl sealed::Sealed for [i16; 2] {
    #[expect(private_interfaces, reason = "only this crate implements elements")]
    fn run(set: InstructionSet, job: Multiply<'_, Self>) {
        set.run_dot_products(job);
    }
}

/// The vectors of an instruction set that hold elements and sums.
trait Products<S: Simd>: Element {
    type Vector: Copy;

    fn zero(simd: S) -> Self::Vector;

    /// Returns a vector of copies of the element at a pointer.
    ///
    /// # Safety
    /// The pointer must be valid for reads of one element.
    unsafe fn splat(simd: S, from: *const Self) -> Self::Vector;

    /// # Safety
    /// The pointer must be valid for reads of a vector.
    unsafe fn load(simd: S, from: *const Self) -> Self::Vector;

    /// # Safety
    /// The pointer must be valid for writes of a vector.
    unsafe fn store(simd: S, sums: Self::Vector, to: *mut Self::Sum);

    fn add_product(simd: S, sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
}

impl<S: Simd> Products<S> for f32 {
    type Vector = S::Floats;

    #[inline(always)]
    fn zero(simd: S) -> S::Floats {
        simd.splat(0.0)
    }

    #[inline(always)]
    unsafe fn splat(simd: S, from: *const f32) -> S::Floats {
        // SAFETY: the caller guarantees a float.
        simd.splat(unsafe { *from })
    }

    #[inline(always)]
    unsafe fn load(simd: S, from: *const f32) -> S::Floats {
        // SAFETY: the caller guarantees the floats.
        unsafe { simd.load(from) }
    }

    #[inline(always)]
    unsafe fn store(simd: S, sums: S::Floats, to: *mut f32) {
        // SAFETY: the caller guarantees the floats.
        unsafe { simd.store(sums, to) }
    }

    #[inline(always)]
    fn add_product(simd: S, sum: S::Floats, a: S::Floats, b: S::Floats) -> S::Floats {
        simd.add_rounded_product(sum, a, b)
    }
}

impl<S: Simd> Products<S> for [i16; 2] {
    type Vector = S::Integers;

    #[inline(always)]
    fn zero(simd: S) -> S::Integers {
        simd.splat_integer(0)
    }

    #[inline(always)]
    unsafe fn splat(simd: S, from: *const [i16; 2]) -> S::Integers {
        // SAFETY: the caller guarantees a pair, which has the size of the integer.
        simd.splat_integer(unsafe { from.cast::<i32>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load(simd: S, from: *const [i16; 2]) -> S::Integers {
        // SAFETY: the caller guarantees the pairs.
        unsafe { simd.load_integers(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(simd: S, sums: S::Integers, to: *mut i32) {
        // SAFETY: the caller guarantees the integers.
        unsafe { simd.store_integers(sums, to) }
    }

    #[inline(always)]
    fn add_product(simd: S, sum: S::Integers, a: S::Integers, b: S::Integers) -> S::Integers {
        simd.add_pair_product(sum, a, b)
    }
}

/// Sums for every start position and output. `Weights::multiply` is the only place that creates it,
/// after it has checked all lengths.
pub(super) struct Multiply<'a, E: Element> {
    pub(super) input: &'a [E],
    pub(super) runs: &'a [Run],
    pub(super) starts: &'a [u32],
    pub(super) weights: &'a [E],
    /// Number of vectors of outputs.
    pub(super) vectors: usize,
    pub(super) taps: usize,
    pub(super) sums: &'a mut [E::Sum],
    /// Distance between the sums of two positions.
    pub(super) stride: usize,
}

/// Implements the job for each element. Its vectors exist for every set, which a generic
/// implementation cannot say.
macro_rules! jobs {
    ($($element:ty),*) => {
        $(
            impl Job for Multiply<'_, $element> {
                type Output = ();

                #[inline(always)]
                fn run<S: Simd>(mut self, simd: S) {
                    // SAFETY: `Weights::multiply`, the only place that creates this job, has
                    // checked that every tap of every position lies in the input, that the weights
                    // are those of all taps and vectors, and that the sums hold all vectors of all
                    // positions.
                    unsafe { multiply_all(simd, &mut self) }
                }
            }
        )*
    };
}

jobs!(f32, [i16; 2]);

/// Number of positions that are computed together.
const POSITIONS: usize = 6;

#[inline(always)]
unsafe fn multiply_all<S: Simd, E: Products<S>>(simd: S, job: &mut Multiply<'_, E>) {
    let mut first = 0;
    for count in blocks(job.vectors, S::REGISTERS) {
        for (tile, starts) in job.starts.chunks(POSITIONS).enumerate() {
            // SAFETY: the caller guarantees the reads and writes of all positions and vectors.
            unsafe {
                let weights = job.weights.as_ptr().add(first * job.taps * S::LANES);
                let at = tile * POSITIONS * job.stride + first * S::LANES;
                let sums = job.sums.as_mut_ptr().add(at);
                match count {
                    4 => tile_of::<S, E, 4>(simd, job, starts, weights, sums),
                    2 => tile_of::<S, E, 2>(simd, job, starts, weights, sums),
                    _ => tile_of::<S, E, 1>(simd, job, starts, weights, sums),
                }
            }
        }
        first += count;
    }
}

#[inline(always)]
unsafe fn tile_of<S: Simd, E: Products<S>, const VECTORS: usize>(
    simd: S,
    job: &Multiply<'_, E>,
    starts: &[u32],
    weights: *const E,
    sums: *mut E::Sum,
) {
    // SAFETY: the caller guarantees the same.
    unsafe {
        match *starts {
            [a, b, c, d, e, f] => {
                tile::<S, E, VECTORS, 6>(simd, job, [a, b, c, d, e, f], weights, sums);
            }
            [a, b, c, d, e] => tile::<S, E, VECTORS, 5>(simd, job, [a, b, c, d, e], weights, sums),
            [a, b, c, d] => tile::<S, E, VECTORS, 4>(simd, job, [a, b, c, d], weights, sums),
            [a, b, c] => tile::<S, E, VECTORS, 3>(simd, job, [a, b, c], weights, sums),
            [a, b] => tile::<S, E, VECTORS, 2>(simd, job, [a, b], weights, sums),
            [a] => tile::<S, E, VECTORS, 1>(simd, job, [a], weights, sums),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, E: Products<S>, const VECTORS: usize, const POSITIONS: usize>(
    simd: S,
    job: &Multiply<'_, E>,
    starts: [u32; POSITIONS],
    mut weights: *const E,
    to: *mut E::Sum,
) {
    // SAFETY: the caller guarantees the same.
    unsafe {
        let mut sums = [[E::zero(simd); VECTORS]; POSITIONS];
        let input = starts.map(|start| job.input.as_ptr().add(start as usize));
        for run in job.runs {
            let mut at = run.start as usize;
            for _ in 0..run.length {
                let mut weight = [E::zero(simd); VECTORS];
                for (vector, weight) in weight.iter_mut().enumerate() {
                    *weight = E::load(simd, weights.add(vector * S::LANES));
                }
                for (sums, input) in sums.iter_mut().zip(input) {
                    let x = E::splat(simd, input.add(at));
                    for (sum, weight) in sums.iter_mut().zip(weight) {
                        *sum = E::add_product(simd, *sum, x, weight);
                    }
                }
                weights = weights.add(VECTORS * S::LANES);
                at += run.step as usize;
            }
        }
        for (position, sums) in sums.iter().enumerate() {
            for (vector, sums) in sums.iter().enumerate() {
                E::store(simd, *sums, to.add(position * job.stride + vector * S::LANES));
            }
        }
    }
}
