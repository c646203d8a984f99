//! Codes of quantizers with evenly spaced thresholds, computed instead of compared.

use alloc::vec::Vec;

use quant_kernels::elementwise::{Integers, Table};

use crate::{
    grid::{Grid, rounded},
    model::Quantizer,
};

/// A grid, with a divisor for each group of a quantizer. It often has the same rounding as the
/// quantizer, to the last bit, and only then it is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Even {
    /// The divisor a of each group.
    pub(super) divisors: Vec<f32>,
    grid: Grid,
    /// The lower bound as an integer.
    offset: i32,
}

/// How far the divisor may be from that of the values, in units of the last place. The values of a
/// model are rounded, and so is their difference.
const NEAR: i32 = 4;

impl Even {
    /// Returns the formula of a quantizer, if there is one that is right for all numbers.
    pub(super) fn new(quantizer: &Quantizer) -> Option<Self> {
        let steps = (quantizer.levels - 1) as f32;
        let values = |group: usize| &quantizer.values[group * quantizer.levels..];
        let (first, last) = (values(0)[0], values(0)[quantizer.levels - 1]);
        // There are at most 256 levels, so larger numbers belong to no grid around 0.
        let in_steps = (first / ((last - first) / steps)).clamp(-1000.0, 1000.0);
        let lowest = rounded(in_steps) as f32;
        let of_last = |group: usize| values(group)[quantizer.levels - 1];
        let of_step = |group: usize| (of_last(group) - values(group)[0]) / steps;
        let grids: [(Grid, &dyn Fn(usize) -> f32); 3] = [
            (Grid::unsigned(steps), &of_last),
            (Grid::signed(steps), &of_last),
            (Grid::multiples(lowest, steps), &of_step),
        ];
        grids.into_iter().find_map(|(grid, divisor)| {
            let formula = Self { divisors: Vec::new(), grid, offset: grid.lowest as i32 };
            let of_group = |group| formula.divisor(quantizer, group, divisor(group));
            let divisors = (0..quantizer.groups).map(of_group).collect::<Option<_>>()?;
            Some(Self { divisors, ..formula })
        })
    }

    /// Returns the divisor near a number with which the formula is right for all numbers of a
    /// group.
    fn divisor(&self, quantizer: &Quantizer, group: usize, near: f32) -> Option<f32> {
        let count = quantizer.levels - 1;
        let thresholds = &quantizer.thresholds[group * count..][..count];
        // The formula rises with x, so it is right for all numbers if it is right where codes
        // change: at each threshold, and just below it.
        let is_right = |divisor: f32| {
            thresholds.iter().all(|threshold| {
                [*threshold, threshold.next_down()]
                    .iter()
                    .all(|x| self.code(*x, divisor) == i32::from(quantizer.code_of(group, *x)))
            })
        };
        let is_usual = near.is_normal() && near > 0.0 && near < f32::MAX / 2.0;
        (-NEAR..=NEAR)
            .filter(|_| is_usual && self.grid.lowest.abs() <= 255.0)
            .map(|distance| f32::from_bits(near.to_bits().wrapping_add_signed(distance)))
            .find(|divisor| is_right(*divisor))
    }

    /// Returns the formula for vectors. The codes become `first` plus multiples of `difference`.
    pub(super) fn rule<'a>(
        &self,
        divisors: Table<'a, f32>,
        first: i32,
        difference: i32,
    ) -> Integers<'a> {
        let Grid { shift, factor, lowest, highest } = self.grid;
        Integers::Formula { divisors, shift, factor, lowest, highest, first, difference }
    }

    /// Returns the code of a number.
    #[inline(always)]
    pub(super) fn code(&self, x: f32, divisor: f32) -> i32 {
        let x = self.grid.position(x, divisor);
        let x = if x > self.grid.lowest { x } else { self.grid.lowest };
        let x = if x < self.grid.highest { x } else { self.grid.highest };
        rounded(x) - self.offset
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::model::Dynamic;

    /// A quantizer whose codes are given by a rising function.
    fn quantizer(values: Vec<f32>, code: impl Fn(f32) -> f32) -> Quantizer {
        let levels = values.len();
        // The code of `below` is at most k, and that of `above` is more.
        let threshold = |k: usize| {
            let (mut below, mut above) = (values[k], values[k + 1]);
            while below.next_up() < above {
                let half = below + (above - below) / 2.0;
                // Close to 0, halves are rounded to one of the ends.
                let middle = half.clamp(below.next_up(), above.next_down());
                if code(middle) > k as f32 { above = middle } else { below = middle }
            }
            above
        };
        let thresholds = (0..levels - 1).map(threshold).collect();
        Quantizer { groups: 1, levels, thresholds, values, terms: None, dynamic: Dynamic::None }
    }

    fn check(quantizer: &Quantizer) {
        let even = Even::new(quantizer).unwrap();
        let unusual = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN];
        for x in (-4000..4000).map(|index| index as f32 * 0.000_7).chain(unusual) {
            assert_eq!(even.code(x, even.divisors[0]), i32::from(quantizer.code_of(0, x)), "{x}");
        }
    }

    #[test]
    fn formulas_of_clipping_values_and_step_sizes_are_found() {
        for (levels, s) in [(256, 1.37f32), (16, 0.123_456), (255, 2.0), (200, 0.917_3)] {
            let n = (levels - 1) as f32;
            let codes = || (0..levels).map(|code| code as f32);
            let unsigned = quantizer(codes().map(|code| code * (s / n)).collect(), |x| {
                ((x / s).clamp(0.0, 1.0) * n).round_ties_even()
            });
            check(&unsigned);
            let signed = quantizer(codes().map(|code| (2.0 * code / n - 1.0) * s).collect(), |x| {
                (((x / s).clamp(-1.0, 1.0) + 1.0) / 2.0 * n).round_ties_even()
            });
            check(&signed);
            let lowest = -(levels as f32 / 2.0).floor();
            let step = s / n;
            let stepped = quantizer(codes().map(|code| (code + lowest) * step).collect(), |x| {
                (x / step).clamp(lowest, lowest + n).round_ties_even() - lowest
            });
            check(&stepped);
        }
    }

    #[test]
    fn each_group_has_its_divisor() {
        let mut both = quantizer(vec![0.0, 1.0, 2.0, 3.0], |x| x.clamp(0.0, 3.0).round_ties_even());
        both.groups = 2;
        both.thresholds.extend_from_within(..);
        both.values.extend_from_within(..);
        both.thresholds[3..].iter_mut().for_each(|x| *x *= 4.0);
        both.values[4..].iter_mut().for_each(|x| *x *= 4.0);
        assert_eq!(Even::new(&both).unwrap().divisors, [3.0, 12.0]);
    }

    #[test]
    fn other_thresholds_have_no_formula() {
        let of = |thresholds: Vec<f32>| {
            let levels = thresholds.len() + 1;
            let values = (0..levels).map(|code| code as f32).collect();
            Even::new(&Quantizer {
                groups: 1,
                levels,
                thresholds,
                values,
                terms: None,
                dynamic: Dynamic::None,
            })
        };
        assert_eq!(of((0..30).map(|k| (k * k) as f32).collect()), None);
        assert_eq!(of(vec![1.0; 20]), None);
        assert_eq!(of(vec![0.5, 1.5, f32::INFINITY]), None);
        // Half of a step is above the threshold, and not below it as the formula has it.
        assert_eq!(of(vec![0.5, 1.5, 2.5]), None);
    }
}
