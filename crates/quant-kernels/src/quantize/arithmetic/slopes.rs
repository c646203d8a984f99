//! [`Rule::Slopes`](super::super::Rule::Slopes): sums of rounded pieces given by their slopes.

use super::{
    formula::Arithmetic,
    number::{between, only, round},
};
use crate::quantize::lanes::{LANES, Lanes, add, map};

/// The unsigned form of [`Rule::Slopes`](super::super::Rule::Slopes) with `P` pieces.
#[derive(Clone, Copy)]
pub(super) struct Slopes<const P: usize>;

impl<const P: usize> Arithmetic<P> for Slopes<P> {
    /// The slopes of the pieces, and the values of x where they start.
    type Group<'a> = ([f32; P], [f32; P]);

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> ([f32; P], [f32; P]) {
        let (mut slopes, mut starts) = ([0.0; P], [0.0; P]);
        slopes.copy_from_slice(&parameters[..P]);
        for piece in 1..P {
            starts[piece] = starts[piece - 1] + slopes[piece - 1].recip();
        }
        (slopes, starts)
    }

    #[inline(always)]
    fn quantize(self, (slopes, starts): ([f32; P], [f32; P]), x: Lanes) -> Lanes {
        map(|lane| {
            let mut y = 0.0;
            for piece in 0..P {
                y += round(((x[lane] - starts[piece]) * slopes[piece]).clamp(0.0, 1.0));
            }
            y
        })
    }

    #[inline(always)]
    fn backward(
        self,
        (slopes, starts): ([f32; P], [f32; P]),
        x: Lanes,
        g: Lanes,
        terms: &mut [Lanes; P],
    ) -> Lanes {
        let mut grad = [0.0; LANES];
        for piece in 0..P {
            let from = map(|lane| x[lane] - starts[piece]);
            let inside = |lane: usize| between(from[lane] * slopes[piece], 0.0, 1.0);
            let passed = map(|lane| only(inside(lane), g[lane] * slopes[piece]));
            for earlier in 0..piece {
                let squared = slopes[earlier] * slopes[earlier];
                add(&mut terms[earlier], map(|lane| passed[lane] / squared));
            }
            add(&mut terms[piece], map(|lane| only(inside(lane), g[lane] * from[lane])));
            add(&mut grad, passed);
        }
        grad
    }
}

/// The signed form of [`Rule::Slopes`](super::super::Rule::Slopes).
#[derive(Clone, Copy)]
pub(super) struct SignedSlopes;

impl Arithmetic<2> for SignedSlopes {
    type Group<'a> = (f32, f32);

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> (f32, f32) {
        (parameters[0], parameters[1])
    }

    #[inline(always)]
    fn quantize(self, (below, above): (f32, f32), x: Lanes) -> Lanes {
        map(|lane| {
            round((x[lane] * below).clamp(-1.0, 0.0)) + round((x[lane] * above).clamp(0.0, 1.0))
        })
    }

    #[inline(always)]
    fn backward(
        self,
        (below, above): (f32, f32),
        x: Lanes,
        g: Lanes,
        terms: &mut [Lanes; 2],
    ) -> Lanes {
        let in_below = |lane: usize| between(x[lane] * below, -1.0, 0.0);
        let in_above = |lane: usize| between(x[lane] * above, 0.0, 1.0);
        add(&mut terms[0], map(|lane| only(in_below(lane), g[lane] * x[lane])));
        add(&mut terms[1], map(|lane| only(in_above(lane), g[lane] * x[lane])));
        map(|lane| only(in_below(lane), g[lane] * below) + only(in_above(lane), g[lane] * above))
    }
}
