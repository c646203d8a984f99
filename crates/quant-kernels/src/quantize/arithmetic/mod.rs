//! The arithmetic of the rules on blocks of numbers, in the order of operations in which [`Rule`]
//! gives the formulas.

use super::{Rule, lanes::Lanes};
use clip::Clip;
use intervals::Intervals;
use sign::Sign;
use slopes::{SignedSlopes, Slopes};
use step::Step;
use table::Table;
use ternary::Ternary;

mod clip;
mod intervals;
mod sign;
mod slopes;
mod step;
mod table;
mod ternary;

/// The arithmetic of a rule; its first `T` parameters have gradients.
pub(super) trait Arithmetic<const T: usize>: Copy + Send + Sync {
    /// The constants that are computed from the parameters of a group.
    type Group<'a>: Copy;

    fn group(self, parameters: &[f32]) -> Self::Group<'_>;

    fn quantize(self, group: Self::Group<'_>, x: Lanes) -> Lanes;

    /// Returns the gradient of x, and adds the gradients of the parameters to `terms`.
    fn backward(self, group: Self::Group<'_>, x: Lanes, g: Lanes, terms: &mut [Lanes; T]) -> Lanes;
}

/// A loop that is compiled for the arithmetic of every rule.
pub(super) trait WithArithmetic {
    type Output;

    fn run<const T: usize>(self, arithmetic: impl Arithmetic<T>) -> Self::Output;
}

/// Runs a loop with the arithmetic of `rule`. `factor` is the number by which [`Rule::Clip`]
/// rescales gradients.
pub(super) fn with_arithmetic<W: WithArithmetic>(rule: Rule, factor: f32, job: W) -> W::Output {
    match rule {
        Rule::Clip { steps, signed, learned_bound, ewgs, .. } => {
            let numbers = clip::Numbers { steps, ewgs, factor };
            match (signed, learned_bound, ewgs != 0.0) {
                (false, false, false) => job.run(Clip::<false, false, false>(numbers)),
                (false, false, true) => job.run(Clip::<false, false, true>(numbers)),
                (false, true, false) => job.run(Clip::<false, true, false>(numbers)),
                (false, true, true) => job.run(Clip::<false, true, true>(numbers)),
                (true, false, false) => job.run(Clip::<true, false, false>(numbers)),
                (true, false, true) => job.run(Clip::<true, false, true>(numbers)),
                (true, true, false) => job.run(Clip::<true, true, false>(numbers)),
                (true, true, true) => job.run(Clip::<true, true, true>(numbers)),
            }
        }
        Rule::Step { lowest, highest, ewgs } if ewgs == 0.0 => {
            job.run(Step::<false> { lowest, highest, ewgs })
        }
        Rule::Step { lowest, highest, ewgs } => job.run(Step::<true> { lowest, highest, ewgs }),
        Rule::Slopes { signed: true, .. } => job.run(SignedSlopes),
        Rule::Slopes { pieces: 1, .. } => job.run(Slopes::<1>),
        Rule::Slopes { pieces: 2, .. } => job.run(Slopes::<2>),
        Rule::Slopes { .. } => job.run(Slopes::<3>),
        Rule::Intervals { pieces } => job.run(Intervals { pieces }),
        Rule::Ternary => job.run(Ternary),
        Rule::Table { thresholds: 1 } => job.run(Table::<1> { thresholds: 1 }),
        Rule::Table { thresholds: 2 } => job.run(Table::<2> { thresholds: 2 }),
        Rule::Table { thresholds: 3 } => job.run(Table::<3> { thresholds: 3 }),
        Rule::Table { thresholds: 7 } => job.run(Table::<7> { thresholds: 7 }),
        Rule::Table { thresholds: 15 } => job.run(Table::<15> { thresholds: 15 }),
        Rule::Table { thresholds } => job.run(Table::<0> { thresholds }),
        Rule::Sign { slope } => job.run(Sign { slope }),
    }
}

/// The number 1.5·2^23. Adding it to a float below 2^22 and subtracting it again rounds half to
/// even.
const ROUNDING: f32 = 12_582_912.0;

#[inline(always)]
fn round(x: f32) -> f32 {
    (x + ROUNDING) - ROUNDING
}

/// Returns whether a clamp passes the gradient, which it does strictly between its bounds.
#[inline(always)]
fn between(v: f32, lowest: f32, highest: f32) -> bool {
    (v > lowest) & (v < highest)
}

#[inline(always)]
fn only(passed: bool, x: f32) -> f32 {
    if passed { x } else { 0.0 }
}

/// Returns the sign of x, which is 1 or -1, or 0 for zeros.
#[inline(always)]
fn sign_of(x: f32) -> f32 {
    only(x > 0.0, 1.0) - only(x < 0.0, 1.0)
}
