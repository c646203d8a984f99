//! [`Rule::Sign`](super::super::Rule::Sign): two levels.

use super::{formula::Arithmetic, number::only};
use crate::{
    quantize::{
        lanes::{Lanes, add, map},
        rule::SignSlope,
    },
    simd::stored,
};

/// The arithmetic of [`Rule::Sign`](super::super::Rule::Sign).
#[derive(Clone, Copy)]
pub(super) struct Sign {
    pub(super) slope: SignSlope,
}

impl Arithmetic<1> for Sign {
    type Group<'a> = (f32, f32);

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> (f32, f32) {
        (parameters[0], parameters[1])
    }

    #[inline(always)]
    fn quantize(self, (shift, scale): (f32, f32), x: Lanes) -> Lanes {
        map(|lane| {
            let at = x[lane] - shift;
            let y = if at < 0.0 { -scale } else { scale };
            if at.is_nan() { f32::NAN } else { y }
        })
    }

    #[inline(always)]
    fn backward(
        self,
        (shift, _): (f32, f32),
        x: Lanes,
        g: Lanes,
        [term]: &mut [Lanes; 1],
    ) -> Lanes {
        let at = map(|lane| (x[lane] - shift).abs());
        let passed = match self.slope {
            SignSlope::One => g,
            SignSlope::Box => map(|lane| stored(only(at[lane] < 1.0, g[lane]))),
            SignSlope::Triangle => {
                map(|lane| only(at[lane] < 1.0, g[lane] * (at[lane] * -2.0 + 2.0)))
            }
        };
        add(term, map(|lane| -passed[lane]));
        passed
    }
}
