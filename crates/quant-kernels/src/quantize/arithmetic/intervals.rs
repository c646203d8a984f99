//! [`Rule::Intervals`](super::super::Rule::Intervals): sums of rounded pieces given by their
//! widths.

use super::{
    formula::Arithmetic,
    number::{between, only, round},
};
use crate::quantize::{
    lanes::{LANES, Lanes, add, map},
    rule::MAX_INTERVALS,
};

/// Number of gradients of [`Rule::Intervals`](super::super::Rule::Intervals): those of c, o and the
/// widths.
pub(super) const INTERVAL_TERMS: usize = 2 + MAX_INTERVALS;

/// The arithmetic of [`Rule::Intervals`](super::super::Rule::Intervals).
#[derive(Clone, Copy)]
pub(super) struct Intervals {
    pub(super) pieces: usize,
}

impl Arithmetic<INTERVAL_TERMS> for Intervals {
    /// The step of the values, the widths, and the values of x where the intervals start.
    type Group<'a> = (f32, &'a [f32], [f32; MAX_INTERVALS]);

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> Self::Group<'_> {
        let widths = &parameters[2..2 + self.pieces];
        let mut starts = [0.0; MAX_INTERVALS];
        let mut start = parameters[1];
        for (at, width) in starts.iter_mut().zip(widths) {
            *at = start;
            start += width;
        }
        (parameters[0], widths, starts)
    }

    #[inline(always)]
    fn quantize(self, (step, widths, starts): Self::Group<'_>, x: Lanes) -> Lanes {
        let mut y = [0.0; LANES];
        for (width, start) in widths.iter().zip(starts) {
            add(&mut y, map(|lane| round(((x[lane] - start) / width).clamp(0.0, 1.0))));
        }
        map(|lane| y[lane] * step)
    }

    #[inline(always)]
    fn backward(
        self,
        (step, widths, starts): Self::Group<'_>,
        x: Lanes,
        g: Lanes,
        terms: &mut [Lanes; INTERVAL_TERMS],
    ) -> Lanes {
        let (mut grad, mut integers) = ([0.0; LANES], [0.0; LANES]);
        let [to_step, to_start, to_widths @ ..] = terms;
        for (piece, (width, start)) in widths.iter().zip(starts).enumerate() {
            let u = map(|lane| (x[lane] - start) / width);
            let inside = |lane: usize| between(u[lane], 0.0, 1.0);
            let passed = map(|lane| only(inside(lane), g[lane] * (step / width)));
            for earlier in &mut to_widths[..piece] {
                add(earlier, map(|lane| -passed[lane]));
            }
            add(&mut to_widths[piece], map(|lane| only(inside(lane), -(passed[lane] * u[lane]))));
            add(&mut integers, map(|lane| round(u[lane].clamp(0.0, 1.0))));
            add(&mut grad, passed);
        }
        add(to_step, map(|lane| g[lane] * integers[lane]));
        add(to_start, map(|lane| -grad[lane]));
        grad
    }
}
