//! [`Rule::Step`](super::super::Rule::Step): rounding with a step size and an offset.

use super::{
    formula::Arithmetic,
    number::{between, only, round, sign_of},
};
use crate::quantize::lanes::{Lanes, add, map};

/// The arithmetic of [`Rule::Step`](super::super::Rule::Step).
#[derive(Clone, Copy)]
pub(super) struct Step<const EWGS: bool> {
    pub(super) lowest: f32,
    pub(super) highest: f32,
    pub(super) ewgs: f32,
}

impl<const EWGS: bool> Arithmetic<2> for Step<EWGS> {
    type Group<'a> = (f32, f32);

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> (f32, f32) {
        (parameters[0], parameters[1])
    }

    #[inline(always)]
    fn quantize(self, (step, offset): (f32, f32), x: Lanes) -> Lanes {
        map(|lane| {
            let v = ((x[lane] - offset) / step).clamp(self.lowest, self.highest);
            round(v) * step + offset
        })
    }

    #[inline(always)]
    fn backward(
        self,
        (step, offset): (f32, f32),
        x: Lanes,
        g: Lanes,
        terms: &mut [Lanes; 2],
    ) -> Lanes {
        let at = map(|lane| (x[lane] - offset) / step);
        let v = map(|lane| at[lane].clamp(self.lowest, self.highest));
        let passed = map(|lane| {
            let (v, g) = (v[lane], g[lane]);
            let g = if EWGS {
                let error = (v - round(v)) * (self.ewgs / (self.highest - self.lowest));
                g * (sign_of(g) * error + 1.0)
            } else {
                g
            };
            only(between(at[lane], self.lowest, self.highest), g)
        });
        add(&mut terms[0], map(|lane| g[lane] * round(v[lane]) - passed[lane] * v[lane]));
        add(&mut terms[1], map(|lane| g[lane] - passed[lane]));
        passed
    }
}
