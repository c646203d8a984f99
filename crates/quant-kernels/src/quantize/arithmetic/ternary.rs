//! [`Rule::Ternary`](super::super::Rule::Ternary): three levels.

use super::{formula::Arithmetic, number::only};
use crate::quantize::lanes::{Lanes, add, map};

/// The arithmetic of [`Rule::Ternary`](super::super::Rule::Ternary).
#[derive(Clone, Copy)]
pub(super) struct Ternary;

impl Arithmetic<2> for Ternary {
    type Group<'a> = [f32; 3];

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> [f32; 3] {
        [parameters[0], parameters[1], parameters[2]]
    }

    #[inline(always)]
    fn quantize(self, [positive, negative, bound]: [f32; 3], x: Lanes) -> Lanes {
        map(|lane| {
            let x = x[lane];
            let y = only(x > bound, positive);
            let y = if x < -bound { -negative } else { y };
            if x.is_nan() { x } else { y }
        })
    }

    #[inline(always)]
    fn backward(
        self,
        [positive, negative, bound]: [f32; 3],
        x: Lanes,
        g: Lanes,
        terms: &mut [Lanes; 2],
    ) -> Lanes {
        add(&mut terms[0], map(|lane| only(x[lane] > bound, g[lane])));
        add(&mut terms[1], map(|lane| only(x[lane] < -bound, -g[lane])));
        map(|lane| {
            let slope = if x[lane] > bound { positive } else { 1.0 };
            g[lane] * if x[lane] < -bound { negative } else { slope }
        })
    }
}
