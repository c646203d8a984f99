//! The arithmetic of the rules on blocks of numbers, in the order of operations in which [`Rule`]
//! gives the formulas.

use super::rule::Rule;
use clip::Clip;
use intervals::Intervals;
use sign::Sign;
use slopes::{SignedSlopes, Slopes};
use step::Step;
use table::Table;
use ternary::Ternary;

mod clip;
mod formula;
mod intervals;
mod number;
mod sign;
mod slopes;
mod step;
mod table;
mod ternary;

pub(super) use formula::{Arithmetic, WithArithmetic};

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
