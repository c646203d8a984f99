//! Formulas of the quantizers that are trained with a clipping value or a step size. The engine
//! computes codes with them, and files have their parameters in place of thresholds. So files that
//! exist depend on every rounding here.

/// A formula for the code of a number x: R(clamp((x/a + c)·b, lo, hi)) - lo, where a is a parameter
/// of the quantizer, and R rounds to the nearest integer, and half to even. All operations are
/// those of 32-bit floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    /// The summand c.
    pub(crate) shift: f32,
    /// The factor b.
    pub(crate) factor: f32,
    /// The lower bound lo, an integer.
    pub(crate) lowest: f32,
    /// The upper bound hi.
    pub(crate) highest: f32,
}

impl Grid {
    /// Returns the grid of the numbers from 0 to a, divided into `steps`.
    pub(crate) fn unsigned(steps: f32) -> Self {
        Self { shift: 0.0, factor: steps, lowest: 0.0, highest: steps }
    }

    /// Returns the grid of the numbers from -a to a, divided into `steps`.
    pub(crate) fn signed(steps: f32) -> Self {
        Self { shift: 1.0, factor: steps / 2.0, lowest: 0.0, highest: steps }
    }

    /// Returns the grid of the multiples of a, from the one of `lowest` on.
    pub(crate) fn multiples(lowest: f32, steps: f32) -> Self {
        Self { shift: 0.0, factor: 1.0, lowest, highest: lowest + steps }
    }

    /// Returns (x/a + c)·b, which is clamped and rounded then.
    #[inline(always)]
    pub(crate) fn position(&self, x: f32, a: f32) -> f32 {
        (x / a + self.shift) * self.factor
    }
}

/// A float whose last bit counts 1, so that a sum with it is rounded to an integer.
const ROUND: f32 = 1.5 * (1 << 23) as f32;

/// Returns the nearest integer of a number of magnitude below 2²², and of two the even one.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// Returns what [`round`] returns, as an integer. Unlike a cast, it is compiled to vectors.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> i32 {
    (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
}
