//! Access to the processor's vectors: an [`InstructionSet`] runs code that was compiled for it.
//!
//! In this example, the compiler vectorises the loop of a closure:
//!
//! ```
//! let mut y = [1.0f32; 100];
//! let x = [2.0f32; 100];
//! quant_kernels::simd::vectorize(
//!     #[inline(always)]
//!     || y.iter_mut().zip(&x).for_each(|(y, x)| *y += 3.0 * x),
//! );
//! assert_eq!(y[0], 7.0);
//! ```

use core::fmt;

mod choice;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "intrinsics")]
mod neon;
#[expect(unsafe_code, reason = "a token is a proof, and vectors lie in memory")]
mod operations;
#[expect(unsafe_code, reason = "vectors of portable code")]
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(unsafe_code, reason = "vectors of an instruction set")]
mod sets;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics")]
mod x86;

use choice::Set;
pub(crate) use operations::{Job, Simd};

/// An instruction set that the processor has. A value proves this, because only detection creates
/// one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstructionSet(Set);

impl InstructionSet {
    /// Returns the instruction sets that the processor has, the best first. The last one is
    /// portable code, which works on every processor.
    ///
    /// The sets are detected when the program runs. Without the feature `std`, they are those for
    /// which the program is compiled.
    pub fn available() -> impl Iterator<Item = Self> {
        Set::available().map(Self)
    }

    /// Returns the best instruction set that the processor has.
    #[inline]
    pub fn detect() -> Self {
        Self(Set::detect())
    }

    /// Returns the name: `avx512vpopcntdq` (with VNNI too), `avx512vnni`, `avx512`, `avx2vnni`,
    /// `avx2`, `neoni8mm`, `neondot`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Returns the number of floats in a vector.
    pub(crate) fn lanes(self) -> usize {
        self.run(Sizes).0
    }

    /// Returns the number of vector registers of the processor.
    pub(crate) fn registers(self) -> usize {
        self.run(Sizes).1
    }

    /// Returns whether 128 is subtracted from the bytes of images in dot products.
    pub(crate) fn shifts_quads(self) -> bool {
        self.run_dot_products(Sizes).2
    }

    /// Returns how often bits are counted before the counts are widened.
    pub(crate) fn counts(self) -> usize {
        self.run_counts(Sizes).3
    }

    /// Runs `job` as it was compiled for the instruction set.
    #[inline(always)]
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        self.0.run(job)
    }

    /// Runs `job` with the instructions for dot products of integers, if the set has any.
    #[inline(always)]
    pub(crate) fn run_dot_products<J: Job>(self, job: J) -> J::Output {
        self.0.run_dot_products(job)
    }

    /// Runs `job` with the instructions that count the bits of vectors, if the set has any.
    #[inline(always)]
    pub(crate) fn run_counts<J: Job>(self, job: J) -> J::Output {
        self.0.run_counts(job)
    }

    /// Returns whether the set has instructions for dot products of bytes.
    pub fn has_dot_products(self) -> bool {
        self.0.has_dot_products()
    }

    /// Calls `f` as it was compiled for the instruction set, with the loops that the compiler
    /// vectorised. Functions that `f` calls are included if they are inlined: mark them, and the
    /// closure, with `#[inline(always)]`.
    ///
    /// Results are identical on every instruction set, because nothing is contracted or reordered.
    #[inline(always)]
    pub fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.run(Closure(f))
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Calls `f` as it was compiled for the best instruction set of the processor. See
/// [`InstructionSet::vectorize`].
#[inline]
pub fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    InstructionSet::detect().vectorize(f)
}

/// Does the same as [`vectorize`] with vectors of at most eight floats. This is for loops whose
/// sums the compiler only keeps in registers at this width: with sixteen floats, it leaves the sums
/// of batch norms in memory, which makes them take 1.2 times as long.
#[cfg(feature = "training")]
#[inline]
pub(crate) fn vectorize_narrow<R>(f: impl FnOnce() -> R) -> R {
    InstructionSet(Set::detect_narrow()).vectorize(f)
}

/// Returns x, except that -0 becomes 0, in a form that the compiler stores unconditionally.
///
/// If a loop keeps or clears numbers in place, compilers omit the stores of the numbers that are
/// kept, and write the others under a mask. On some processors, such masked stores take longer than
/// everything else.
#[cfg(feature = "training")]
#[inline(always)]
pub(crate) fn stored(x: f32) -> f32 {
    x + 0.0
}

/// A job that is a closure, which does not use vectors explicitly.
struct Closure<F>(F);

impl<R, F: FnOnce() -> R> Job for Closure<F> {
    type Output = R;

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> R {
        (self.0)()
    }
}

/// A job that returns the constants of an instruction set.
struct Sizes;

impl Job for Sizes {
    type Output = (usize, usize, bool, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> Self::Output {
        (S::LANES, S::REGISTERS, S::SHIFTS_QUADS, S::COUNTS)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn closures_compute_the_same_bits_on_every_instruction_set() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32).sin() * 1e3).collect();
        let f = || x.iter().map(|x| x * 1.1 + 0.3 / (x - 0.7)).collect::<Vec<f32>>();
        for set in InstructionSet::available() {
            assert_eq!(f(), set.vectorize(f), "{set:?}");
        }
    }

    #[test]
    fn the_last_instruction_set_is_portable_code() {
        let names: Vec<_> = InstructionSet::available().map(InstructionSet::name).collect();
        assert_eq!(names.last(), Some(&"portable"));
        assert_eq!(InstructionSet::detect().name(), names[0]);
    }
}
