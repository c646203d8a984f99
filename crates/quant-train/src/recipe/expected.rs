//! Scores that are known of a recipe: published ones, and those of our own runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// A reported accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Top-1 accuracy in percent.
    #[schemars(range(min = 0, max = 100))]
    pub top1: f64,
    /// Where it is reported: paper and table.
    pub source: String,
}

/// A measured accuracy, for `quant recipe verify`: the mean of `runs` runs with different seeds.
/// Either `spread`, of two runs or more, or `tolerance` has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Top-1 accuracy of the last phase's last network, in percent: the mean of the runs.
    #[schemars(range(min = 0, max = 100))]
    pub top1: f64,
    /// The standard deviation of the runs, in percentage points. By default it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub spread: Option<f64>,
    /// How many runs were measured, each with a seed of its own.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub runs: usize,
    /// By how many percentage points another run may differ. By default it follows from `spread`
    /// and `runs`: 99 of 100 further runs differ by less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub tolerance: Option<f64>,
}

fn one() -> usize {
    1
}

/// The two-sided 99 % quantile of Student's t distribution for 1 to 10 degrees of freedom. The last
/// serves more degrees too, for which the quantile is smaller.
const STUDENT_99: [f64; 10] =
    [63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169];

/// The smallest tolerance that follows from a spread, in percentage points: runs that happen to
/// agree closely are no proof that another machine's order of sums changes nothing.
const LEAST_TOLERANCE: f64 = 0.5;

impl Expected {
    /// By how many percentage points another run may differ: `tolerance` where it is given, else
    /// the half width of the 99 % prediction interval for one more run of a normal distribution,
    /// t·s·sqrt(1 + 1/n), with s = `spread`, n = `runs` and t of n - 1 degrees of freedom, and at
    /// least half a point.
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

    /// The score and where it comes from, such as `94.31 % (mean of 5 runs, spread 0.42)`.
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

    /// Five runs with deviation 0.5: t(4) = 4.604, so 4.604 · 0.5 · sqrt(1.2) = 2.5217.
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
