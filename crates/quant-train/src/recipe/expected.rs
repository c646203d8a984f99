//! Known scores of a recipe: published scores, and scores of our own runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// A published accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The top-1 accuracy in percent.
    #[schemars(range(min = 0, max = 100))]
    pub top1: f64,
    /// The source that reports it: the paper and the table.
    pub source: String,
}

/// A measured accuracy, for `quant recipe verify`: the mean of `runs` runs with different seeds.
/// Either `spread`, for two or more runs, or `tolerance` is required.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The top-1 accuracy of the last network of the last phase, in percent. It is the mean of the
    /// runs.
    #[schemars(range(min = 0, max = 100))]
    pub top1: f64,
    /// The standard deviation of the runs, in percentage points. By default it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub spread: Option<f64>,
    /// The number of runs that were measured, each with its own seed.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub runs: usize,
    /// The number of percentage points by which another run may differ. By default it follows from
    /// `spread` and `runs`: 99 of 100 further runs differ by less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub tolerance: Option<f64>,
}

fn one() -> usize {
    1
}

/// The two-sided 99 % quantile of Student's t distribution for 1 to 10 degrees of freedom. The last
/// one is also used for more degrees, whose quantiles are smaller.
const STUDENT_99: [f64; 10] =
    [63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169];

/// The smallest tolerance that follows from a spread, in percentage points. Runs that happen to
/// agree closely do not prove that another machine, which adds in another order, gives the same
/// scores.
const LEAST_TOLERANCE: f64 = 0.5;

impl Expected {
    /// Returns the number of percentage points by which another run may differ. It is `tolerance`
    /// where that is given. Otherwise it is the half width of the 99 % prediction interval for one
    /// more run of a normal distribution, t·s·sqrt(1 + 1/n), with s = `spread`, n = `runs` and t
    /// for n - 1 degrees of freedom, and at least half a point.
    ///
    /// # Errors
    /// [`TrainError::Field`] where there is neither a tolerance nor a spread of at least two runs.
    pub fn tolerance(&self) -> Result<f64, TrainError> {
        let unknown = TrainError::Field {
            field: "expected.tolerance".into(),
            value: "none".into(),
            accepted: "a number of percentage points, unless `spread` is given and `runs` is 2 or \
                       more",
        };
        match (self.tolerance, self.spread, self.runs) {
            (Some(tolerance), _, _) => Ok(tolerance),
            (None, Some(spread), runs @ 2..) => {
                let quantile = STUDENT_99[(runs - 2).min(STUDENT_99.len() - 1)];
                let half_width = quantile * spread * (1.0 + 1.0 / runs as f64).sqrt();
                Ok(half_width.max(LEAST_TOLERANCE))
            }
            _ => Err(unknown),
        }
    }

    /// Returns the score and its origin as text, such as `94.31 % (mean of 5 runs, spread 0.42)`.
    pub fn text(&self) -> String {
        let Self { top1, spread, runs, .. } = self;
        match (runs, spread) {
            (1, _) => format!("{top1:.2} % (one run)"),
            (_, Some(spread)) => format!("{top1:.2} % (mean of {runs} runs, spread {spread:.2})"),
            (_, None) => format!("{top1:.2} % (mean of {runs} runs)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spread: Option<f64>, runs: usize, tolerance: Option<f64>) -> Expected {
        Expected { top1: 90.0, spread, runs, tolerance }
    }

    /// For five runs with deviation 0.5, t(4) = 4.604, so the tolerance is
    /// 4.604 · 0.5 · sqrt(1.2) = 2.5217.
    #[test]
    fn the_tolerance_follows_from_the_spread() {
        let tolerance = of(Some(0.5), 5, None).tolerance().unwrap();
        assert!((tolerance - 2.5217).abs() < 1e-3, "{tolerance}");
        let more = of(Some(0.5), 40, None).tolerance().unwrap();
        assert!(more < tolerance);
        assert_eq!(of(Some(0.0), 5, None).tolerance().unwrap(), LEAST_TOLERANCE);
        assert_eq!(of(Some(0.5), 5, Some(1.0)).tolerance().unwrap(), 1.0);
    }

    #[test]
    fn one_run_has_no_spread() {
        for expected in [of(None, 1, None), of(Some(0.5), 1, None), of(None, 5, None)] {
            let error = expected.tolerance().unwrap_err().to_string();
            assert!(error.contains("expected.tolerance"), "{error}");
        }
    }

    #[test]
    fn says_how_many_runs_it_comes_from() {
        assert_eq!(of(Some(0.5), 5, None).text(), "90.00 % (mean of 5 runs, spread 0.50)");
        assert_eq!(of(None, 1, Some(1.5)).text(), "90.00 % (one run)");
    }
}
