//! The one way to the processor's vectors: an [`InstructionSet`] runs code that was compiled for
//! it.
//!
//! A closure whose loops the compiler vectorises:
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

#[expect(unsafe_code, reason = "vectors of an instruction set")]
mod sets;

use sets::Set;
pub(crate) use sets::Simd;

/// An instruction set that the processor has. A value is the proof of that: only detection makes
/// one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstructionSet(Set);

impl InstructionSet {
    /// Those that the processor has, the best first. The last one is portable code, which needs
    /// none.
    ///
    /// They are detected when the program runs; without the feature `std`, they are those that the
    /// program is compiled for.
    pub fn available() -> impl Iterator<Item = Self> {
        Set::available().map(Self)
    }

    /// The best that the processor has.
    #[inline]
    pub fn detect() -> Self {
        Self(Set::detect())
    }

    /// `avx512`, `avx2`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        self.run(Name)
    }

    /// Floats of a vector.
    pub(crate) fn lanes(self) -> usize {
        self.run(Sizes).0
    }

    /// Vectors that the processor has registers for.
    pub(crate) fn registers(self) -> usize {
        self.run(Sizes).1
    }

    /// Runs `job` as it was compiled for the instruction set.
    #[inline(always)]
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        self.0.run(job)
    }

    /// Calls `f` as it was compiled for the instruction set, with loops that the compiler
    /// vectorised. What `f` calls is part of that if it is inlined: mark it, and the closure,
    /// `#[inline(always)]`.
    ///
    /// Results are the same to the bit on every instruction set: nothing is contracted or
    /// reordered.
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

/// Calls `f` as it was compiled for the best instruction set of the processor: see
/// [`InstructionSet::vectorize`].
#[inline]
pub fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    InstructionSet::detect().vectorize(f)
}

/// [`vectorize`] with vectors of at most eight floats. For loops whose sums the compiler keeps in
/// registers that way alone: with sixteen, it leaves those of batch norms in memory, which takes
/// them 1.2 times as long.
#[inline]
pub(crate) fn vectorize_narrow<R>(f: impl FnOnce() -> R) -> R {
    InstructionSet(Set::detect_narrow()).vectorize(f)
}

/// x, as a number that is stored whatever was there before: -0 becomes 0.
///
/// Where a loop keeps or clears numbers in place, compilers leave out the stores of those that are
/// kept, and write the others under a mask, which takes some processors longer than all the rest.
#[inline(always)]
pub(crate) fn stored(x: f32) -> f32 {
    x + 0.0
}

/// Code that is compiled for each instruction set.
pub(crate) trait Job {
    /// What it returns.
    type Output;

    /// Runs it. Implementations are `#[inline(always)]`, and so is what they call: only then are
    /// they compiled for the instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A closure, which needs no vectors by name.
struct Closure<F>(F);

impl<R, F: FnOnce() -> R> Job for Closure<F> {
    type Output = R;

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> R {
        (self.0)()
    }
}

/// Floats of a vector, and registers.
struct Sizes;

impl Job for Sizes {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> (usize, usize) {
        (S::LANES, S::REGISTERS)
    }
}

struct Name;

impl Job for Name {
    type Output = &'static str;

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> &'static str {
        S::NAME
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
