//! [`Rule::Clip`](super::super::Rule::Clip): clamping and rounding to a uniform grid.

use super::{
    formula::Arithmetic,
    number::{between, only, round, sign_of},
};
use crate::quantize::lanes::{Lanes, add, map};

/// The arithmetic of [`Rule::Clip`](super::super::Rule::Clip).
#[derive(Clone, Copy)]
pub(super) struct Clip<const SIGNED: bool, const BOUND: bool, const EWGS: bool>(pub(super) Numbers);

/// The numbers that all variants of the rule need.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) steps: f32,
    pub(super) ewgs: f32,
    /// The factor by which `rescale` multiplies gradients.
    pub(super) factor: f32,
}

impl<const SIGNED: bool, const BOUND: bool, const EWGS: bool> Clip<SIGNED, BOUND, EWGS> {
    const LOWEST: f32 = if SIGNED { -1.0 } else { 0.0 };

    #[inline(always)]
    fn position(v: f32) -> f32 {
        let clamped = v.clamp(Self::LOWEST, 1.0);
        if SIGNED { (clamped + 1.0) * 0.5 } else { clamped }
    }

    #[inline(always)]
    fn level(self, v: f32) -> f32 {
        let parts = round(Self::position(v) * self.0.steps) / self.0.steps;
        if SIGNED { parts * 2.0 - 1.0 } else { parts }
    }

    /// Returns the divisor of x. A learned bound may be any number, so it is limited to normal
    /// positive numbers here.
    #[inline(always)]
    fn scale(clip: f32) -> f32 {
        if BOUND && clip < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { clip }
    }

    #[inline(always)]
    fn passed(self, v: f32, g: f32) -> f32 {
        let g = if EWGS {
            let u = Self::position(v) * self.0.steps;
            let error = (u - round(u)) * (self.0.ewgs / self.0.steps);
            g * (sign_of(g) * error + 1.0)
        } else {
            g
        };
        only(between(v, Self::LOWEST, 1.0), g) * self.0.factor
    }
}

impl<const SIGNED: bool, const BOUND: bool, const EWGS: bool> Arithmetic<1>
    for Clip<SIGNED, BOUND, EWGS>
{
    type Group<'a> = f32;

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> f32 {
        parameters[0]
    }

    #[inline(always)]
    fn quantize(self, clip: f32, x: Lanes) -> Lanes {
        let scale = Self::scale(clip);
        map(|lane| self.level(x[lane] / scale) * scale)
    }

    #[inline(always)]
    fn backward(self, clip: f32, x: Lanes, g: Lanes, [term]: &mut [Lanes; 1]) -> Lanes {
        let scale = Self::scale(clip);
        let v = map(|lane| x[lane] / scale);
        let passed = map(|lane| self.passed(v[lane], g[lane]));
        let terms = map(|lane| {
            let (v, g) = (v[lane], g[lane]);
            if BOUND {
                only(x[lane] >= clip, g)
            } else {
                g * self.level(v) - passed[lane] * v.clamp(Self::LOWEST, 1.0)
            }
        });
        add(term, terms);
        passed
    }
}
