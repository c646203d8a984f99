//! Codes of quantizers with many, nearly evenly spaced thresholds.

use crate::{grid::rounded, model::Quantizer};

/// A line that tells the code of a number up to one threshold, with which the number is then
/// compared: with g = x·factor + shift, rounded and at most the last threshold, the code is g
/// or, if x reaches threshold g, g + 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Guess {
    pub(super) factor: f32,
    pub(super) shift: f32,
}

impl Guess {
    /// Returns the line of a group, if it is right for all numbers.
    pub(super) fn new(quantizer: &Quantizer, group: usize) -> Option<Self> {
        let count = quantizer.levels - 1;
        let thresholds = &quantizer.thresholds[group * count..][..count];
        let (first, last) = (thresholds[0], thresholds[count - 1]);
        let factor = (count - 1) as f32 / (last - first);
        let guess = Self { factor, shift: -first * factor };
        // The guess rises with x, so that it is right for all numbers if it is right where codes
        // change: at each threshold, and just below it.
        let is_line = factor > 0.0 && factor.is_finite() && guess.shift.is_finite();
        let is_right = |x: f32| {
            let code = usize::from(quantizer.code_of(group, x));
            let place = guess.threshold(x, count);
            code == place + usize::from(x >= thresholds[place])
        };
        let is_right_at = |threshold: &f32| is_right(*threshold) && is_right(threshold.next_down());
        (is_line && thresholds.iter().all(is_right_at)).then_some(guess)
    }

    /// Returns the threshold that a number is compared with.
    #[inline(always)]
    pub(super) fn threshold(self, x: f32, count: usize) -> usize {
        let (x, most) = (x * self.factor + self.shift, (count - 1) as f32);
        let x = if x > 0.0 { x } else { 0.0 };
        rounded(if x < most { x } else { most }) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::model::Dynamic;

    fn quantizer(thresholds: Vec<f32>) -> Quantizer {
        let levels = thresholds.len() + 1;
        Quantizer {
            groups: 1,
            levels,
            thresholds,
            values: vec![0.0; levels],
            terms: None,
            dynamic: Dynamic::None,
        }
    }

    #[test]
    fn evenly_spaced_thresholds_have_a_line_and_others_do_not() {
        let evenly = quantizer((0..255).map(|k| (k as f32 + 0.5) * 0.0173).collect());
        let guess = Guess::new(&evenly, 0).unwrap();
        for index in -1000..10_000 {
            let x = index as f32 * 0.000_5;
            let place = guess.threshold(x, 255);
            let code = place + usize::from(x >= evenly.thresholds[place]);
            assert_eq!(code, usize::from(evenly.code_of(0, x)), "{x}");
        }
        assert_eq!(guess.threshold(f32::NAN, 255), 0);
        assert_eq!(guess.threshold(f32::INFINITY, 255), 254);
        assert_eq!(guess.threshold(f32::NEG_INFINITY, 255), 0);
        let squares = quantizer((0..30).map(|k| (k * k) as f32).collect());
        assert_eq!(Guess::new(&squares, 0), None);
        assert_eq!(Guess::new(&quantizer(vec![1.0; 20]), 0), None);
    }
}
