//! Formulas of rounding that reproduce the thresholds of a quantizer.
//!
//! A model has the thresholds of its quantizers as numbers. The formats have an operation that
//! divides by a scale, adds a zero point and rounds half to even. This module looks for the numbers
//! with which such a formula gives the same codes, and checks them at each threshold and beside it.

use quant_infer::model::Quantizer;

/// The code of x is R(clamp(((x - sub)/div + add)·mul + zero, low, low + levels - 1)) - low, where
/// each operation is rounded to 32 bits. What is `None` is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Formula {
    pub(super) sub: Option<f32>,
    pub(super) div: f32,
    pub(super) add: Option<f32>,
    pub(super) mul: Option<f32>,
    pub(super) zero: f32,
    pub(super) low: f32,
    /// The number of levels less one.
    steps: f32,
}

/// How far the thresholds of a formula may be from the quantizer's, in units in the last place of
/// the largest threshold.
const TOLERANCE: f32 = 4.0;

impl Formula {
    fn code(&self, x: f32) -> f32 {
        let x = self.sub.map_or(x, |sub| x - sub) / self.div;
        let x = self.add.map_or(x, |add| x + add);
        let x = self.mul.map_or(x, |mul| x * mul) + self.zero;
        x.clamp(self.low, self.low + self.steps).round_ties_even() - self.low
    }

    /// Returns whether all codes are those of the thresholds, with a distance of up to `slack`
    /// around each threshold in which they may differ. Without slack they are equal for every
    /// number.
    fn fits(&self, thresholds: &[f32], slack: f32) -> bool {
        let rises = self.div > 0.0 && self.mul.is_none_or(|mul| mul > 0.0);
        rises
            && thresholds.iter().enumerate().all(|(code, threshold)| {
                if !threshold.is_finite() {
                    return false;
                }
                let above = if slack > 0.0 { threshold + slack } else { *threshold };
                let below = if slack > 0.0 { threshold - slack } else { threshold.next_down() };
                self.code(above) > code as f32 && self.code(below) <= code as f32
            })
    }
}

/// The formulas of a quantizer's groups, which differ by their numbers alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Formulas {
    pub(super) groups: Vec<Formula>,
    /// Whether they give the quantizer's code for every number. Otherwise they may differ for
    /// numbers within a few units in the last place of a threshold.
    pub(super) exact: bool,
}

/// A shape of formulas. They are tried in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// x/step + zero.
    Step,
    /// (x - offset)/step.
    Offset,
    /// x/bound·count + zero.
    Bound,
    /// (x/bound + 1)·count.
    Shifted,
    /// (x + step/2)/step.
    Half,
}

/// Returns formulas for all groups, or `None` where none fits: for uneven thresholds, and for two
/// levels, which a comparison tells apart.
pub(super) fn formulas(quantizer: &Quantizer) -> Option<Formulas> {
    find(quantizer, &[Kind::Step, Kind::Offset, Kind::Bound, Kind::Shifted])
}

/// As [`formulas`], for an operation that divides, rounds, and then adds an integer.
pub(super) fn rounding(quantizer: &Quantizer) -> Option<Formulas> {
    let found = find(quantizer, &[Kind::Step])?;
    let fits = |formula: &Formula| formula.zero == 0.0;
    found.groups.iter().all(fits).then_some(found)
}

/// As [`rounding`], after half a step is added: for values that lie half a step beside 0.
pub(super) fn rounding_of_halves(quantizer: &Quantizer) -> Option<Formulas> {
    find(quantizer, &[Kind::Half])
}

fn find(quantizer: &Quantizer, kinds: &[Kind]) -> Option<Formulas> {
    if quantizer.levels < 3 {
        return None;
    }
    let groups: Vec<Group<'_>> =
        (0..quantizer.groups).map(|at| Group::new(quantizer, at)).collect();
    for exact in [true, false] {
        for kind in kinds {
            for low in lows(quantizer.levels) {
                let found: Option<Vec<_>> =
                    groups.iter().map(|group| group.formula(*kind, low, exact)).collect();
                if let Some(groups) = found {
                    return Some(Formulas { groups, exact });
                }
            }
        }
    }
    None
}

/// The lowest integers that a rounded number may have: 0, and those of a signed range.
fn lows(levels: usize) -> Vec<f32> {
    let half = (levels / 2) as f32;
    vec![0.0, -half]
}

struct Group<'a> {
    thresholds: &'a [f32],
    values: &'a [f32],
    steps: f32,
}

impl<'a> Group<'a> {
    fn new(quantizer: &'a Quantizer, group: usize) -> Self {
        let levels = quantizer.levels;
        Self {
            thresholds: &quantizer.thresholds[group * (levels - 1)..][..levels - 1],
            values: &quantizer.values[group * levels..][..levels],
            steps: (levels - 1) as f32,
        }
    }

    /// Returns a formula of this kind with the lowest integer `low`.
    fn formula(&self, kind: Kind, low: f32, exact: bool) -> Option<Formula> {
        let (first, last) = (self.thresholds[0], self.thresholds[self.thresholds.len() - 1]);
        let count = self.thresholds.len() as f64 - 1.0;
        let by_thresholds = (f64::from(last) - f64::from(first)) / count;
        if !by_thresholds.is_finite() || by_thresholds <= 0.0 {
            return None;
        }
        let largest = self.thresholds.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let slack = if exact { 0.0 } else { TOLERANCE * (largest.next_up() - largest) };
        let (v0, v1) = (self.values[0], self.values[self.values.len() - 1]);
        let by_values = (f64::from(v1) - f64::from(v0)) / f64::from(self.steps);
        let ends: Vec<f32> = [v1 / self.steps, v1 / self.steps * 2.0].to_vec();
        let steps = [by_values as f32, by_thresholds as f32].into_iter().chain(ends);
        let near = |x: f32| [x, x.next_up(), x.next_down(), x.next_up().next_up()];
        // The zero point at which the first threshold is where code 0 becomes 1.
        let zero = 0.5 - f64::from(first) / by_thresholds + f64::from(low);
        let halves = (2.0 * zero).round() / 2.0;
        // Not the negative zero.
        let zero = 0.0 + if (zero - halves).abs() < 1e-3 { halves as f32 } else { zero as f32 };
        let plain = Formula {
            sub: None,
            div: by_thresholds as f32,
            add: None,
            mul: None,
            zero,
            low,
            steps: self.steps,
        };
        let fits = |formula: &Formula| formula.fits(self.thresholds, slack);
        match kind {
            Kind::Step => steps.flat_map(near).map(|div| Formula { div, ..plain }).find(fits),
            Kind::Offset => {
                let offset = self.values[(-low) as usize];
                let of = |div| Formula { sub: Some(offset), div, zero: 0.0, ..plain };
                steps.flat_map(near).map(of).find(fits)
            }
            Kind::Half => {
                let of = |div: f32| Formula { sub: Some(-div / 2.0), div, zero: 0.0, ..plain };
                steps.flat_map(near).map(of).find(fits)
            }
            Kind::Bound => {
                let signed = f64::from(v0) < -0.25 * f64::from(v1);
                let count = if signed { self.steps / 2.0 } else { self.steps };
                near(v1)
                    .into_iter()
                    .map(|div| Formula { div, mul: Some(count), ..plain })
                    .find(fits)
            }
            Kind::Shifted => {
                if low != 0.0 {
                    return None;
                }
                let mul = Some(self.steps / 2.0);
                let of = |div| Formula { div, add: Some(1.0), mul, zero: 0.0, ..plain };
                near(v1).into_iter().map(of).find(fits)
            }
        }
    }
}
