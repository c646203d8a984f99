//! Learning rate schedules.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The learning rate as a function of the epoch e and the iteration i, both counted from 0.
///
/// `steps` are epochs that divide the run into intervals [a, b), the last of which ends with the
/// run. k is the number of steps that are passed, lr is the initial rate, and d is `factor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// lr·d^e.
    Decay {
        /// The factor d of `decay` and `fix_step`.
        #[schemars(extend("exclusiveMinimum" = 0))]
        factor: f64,
    },
    /// lr, for the whole phase.
    Fix,
    /// lr·d^(e div `every`).
    FixStep {
        /// The number of epochs between the steps of `fix_step`.
        #[schemars(range(min = 1, max = 1_000_000))]
        every: usize,
        /// The factor d of `decay` and `fix_step`.
        #[schemars(extend("exclusiveMinimum" = 0))]
        factor: f64,
    },
    /// lr·d^k.
    CustomStep {
        /// The epochs at which the learning rate of `custom_step` drops.
        #[schemars(inner(range(min = 0, max = 1_000_000)))]
        steps: Vec<usize>,
        /// The factor d of `custom_step` and `sgdr_step`.
        #[serde(default = "tenth")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        factor: f64,
    },
    /// eta_min + (lr - eta_min)·(1 - t/T)^power, where t of the T epochs of the interval have
    /// passed.
    Poly {
        /// The epochs at which the learning rate restarts.
        #[serde(default)]
        #[schemars(inner(range(min = 0, max = 1_000_000)))]
        steps: Vec<usize>,
        /// The power of `poly`. 1 gives a straight line.
        #[serde(default = "one")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        power: f64,
        /// The learning rate at the end of an interval. Set it above 0 if `extra_epochs` follow.
        #[serde(default)]
        #[schemars(range(min = 0))]
        eta_min: f64,
    },
    /// A cosine from lr to eta_min within each interval, which falls with every iteration
    /// (Loshchilov and Hutter 2017).
    Sgdr {
        /// The epochs at which the learning rate restarts.
        #[serde(default)]
        #[schemars(inner(range(min = 0, max = 1_000_000)))]
        steps: Vec<usize>,
        /// The learning rate at the end of an interval. Set it above 0 if `extra_epochs` follow.
        #[serde(default)]
        #[schemars(range(min = 0))]
        eta_min: f64,
        /// Whether an interval starts again at its initial rate. QTool's `sgdr` and `sgdr_step`
        /// continue at the rate of the interval before it, which is eta_min.
        #[serde(default = "yes")]
        restarts: bool,
    },
    /// As `sgdr`, but interval k starts from lr·d^k.
    SgdrStep {
        /// The epochs at which the learning rate restarts.
        #[serde(default)]
        #[schemars(inner(range(min = 0, max = 1_000_000)))]
        steps: Vec<usize>,
        /// The factor d of `custom_step` and `sgdr_step`.
        #[serde(default = "tenth")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        factor: f64,
        /// The learning rate at the end of an interval. Set it above 0 if `extra_epochs` follow.
        #[serde(default)]
        #[schemars(range(min = 0))]
        eta_min: f64,
        /// Whether an interval starts again at its initial rate. QTool's `sgdr` and `sgdr_step`
        /// continue at the rate of the interval before it, which is eta_min.
        #[serde(default = "yes")]
        restarts: bool,
    },
    /// A cosine from lr to eta_min within each interval, which falls with every epoch.
    Cos {
        /// The epochs at which the learning rate restarts.
        #[serde(default)]
        #[schemars(inner(range(min = 0, max = 1_000_000)))]
        steps: Vec<usize>,
        /// The learning rate at the end of an interval. Set it above 0 if `extra_epochs` follow.
        #[serde(default)]
        #[schemars(range(min = 0))]
        eta_min: f64,
        /// Whether an interval starts again at its initial rate. QTool's `cos` continues at the
        /// rate of the epoch before it.
        #[serde(default = "yes")]
        restarts: bool,
    },
}

impl Default for Schedule {
    /// One cosine from the initial rate to 0.
    fn default() -> Self {
        Self::Sgdr { steps: Vec::new(), eta_min: 0.0, restarts: true }
    }
}

fn tenth() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

/// The length of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct Length {
    /// The number of epochs.
    pub epochs: usize,
    /// The number of iterations per epoch.
    pub iterations: usize,
}

impl Schedule {
    /// Returns the schedule's `steps`, which are empty for policies without them.
    pub fn steps(&self) -> &[usize] {
        match self {
            Schedule::Decay { .. } | Schedule::Fix | Schedule::FixStep { .. } => &[],
            Schedule::CustomStep { steps, .. }
            | Schedule::Poly { steps, .. }
            | Schedule::Sgdr { steps, .. }
            | Schedule::SgdrStep { steps, .. }
            | Schedule::Cos { steps, .. } => steps,
        }
    }

    /// Returns the learning rate at an iteration of an epoch.
    pub fn rate(&self, initial: f64, epoch: usize, iteration: usize, length: Length) -> f64 {
        let power = |factor: f64, count: usize| initial * factor.powi(count as i32);
        match self {
            Schedule::Decay { factor } => power(*factor, epoch),
            Schedule::Fix => initial,
            Schedule::FixStep { every, factor } => power(*factor, epoch / (*every).max(1)),
            Schedule::CustomStep { steps, factor } => power(*factor, passed(steps, epoch)),
            Schedule::Poly { steps, power, eta_min } => {
                let (start, end) = interval(steps, epoch, length.epochs);
                let gone = (epoch - start) as f64 / (end - start).max(1) as f64;
                eta_min + (initial - eta_min) * (1.0 - gone).powf(*power)
            }
            Schedule::Sgdr { steps, eta_min, restarts } => match passed(steps, epoch) {
                1.. if !restarts => *eta_min,
                _ => cosine(initial, *eta_min, iterations_gone(steps, epoch, iteration, length)),
            },
            Schedule::SgdrStep { steps, factor, eta_min, restarts } => match passed(steps, epoch) {
                1.. if !restarts => *eta_min,
                count => {
                    let gone = iterations_gone(steps, epoch, iteration, length);
                    cosine(power(*factor, count), *eta_min, gone)
                }
            },
            Schedule::Cos { steps, eta_min, restarts } => {
                let (start, end) = interval(steps, epoch, length.epochs);
                let (initial, gone) = match start {
                    1.. if !restarts => {
                        (self.rate(initial, start - 1, 0, length), epoch - start + 1)
                    }
                    _ => (initial, epoch - start),
                };
                cosine(initial, *eta_min, gone as f64 / (end - start).max(1) as f64)
            }
        }
    }
}

fn passed(steps: &[usize], epoch: usize) -> usize {
    steps.iter().filter(|step| **step <= epoch).count()
}

/// Returns the interval that contains an epoch, as its first epoch and the epoch after its last.
fn interval(steps: &[usize], epoch: usize, epochs: usize) -> (usize, usize) {
    let start = steps.iter().copied().filter(|step| *step <= epoch).max();
    let end = steps.iter().copied().filter(|step| *step > epoch).min();
    (start.unwrap_or(0), end.unwrap_or(epochs.max(epoch + 1)))
}

fn iterations_gone(steps: &[usize], epoch: usize, iteration: usize, length: Length) -> f64 {
    let (start, end) = interval(steps, epoch, length.epochs);
    let gone = (epoch - start) * length.iterations + iteration;
    gone as f64 / ((end - start) * length.iterations).max(1) as f64
}

fn cosine(initial: f64, eta_min: f64, gone: f64) -> f64 {
    eta_min + (initial - eta_min) * (1.0 + (PI * gone).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_step_drops_at_its_epochs() {
        let schedule = Schedule::CustomStep { steps: vec![2, 4], factor: 0.5 };
        let length = Length { epochs: 6, iterations: 1 };
        let rates: Vec<f64> = (0..6).map(|epoch| schedule.rate(1.0, epoch, 0, length)).collect();
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn a_restart_starts_again_at_the_initial_rate() {
        let schedule = Schedule::Sgdr { steps: vec![2], eta_min: 0.0, restarts: true };
        let length = Length { epochs: 4, iterations: 10 };
        assert!(schedule.rate(0.1, 1, 9, length) < 0.001);
        assert_eq!(schedule.rate(0.1, 2, 0, length), 0.1);
    }

    #[test]
    fn a_cosine_starts_at_the_initial_rate_and_is_half_way_in_the_middle() {
        let schedule = Schedule::Cos { steps: Vec::new(), eta_min: 0.0, restarts: true };
        let length = Length { epochs: 10, iterations: 7 };
        assert_eq!(schedule.rate(0.1, 0, 0, length), 0.1);
        assert!((schedule.rate(0.1, 5, 3, length) - 0.05).abs() < 1e-12);
    }
}
