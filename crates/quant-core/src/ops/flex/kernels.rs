//! The rules' arithmetic on a few numbers at once, in the order of [`reference`](super::super::reference), so that
//! results are the same to the bit.

use quant_simd::stored;

use super::{LANES, Lanes};
use crate::ops::rule::{MAX_INTERVALS, SignSlope};

/// 1.5·2^23: added to and subtracted from a float below 2^22, it rounds half to even.
const ROUNDING: f32 = 12_582_912.0;

/// A rule whose first `T` parameters have gradients.
pub(super) trait Kernel<const T: usize>: Copy + Send + Sync {
    /// What the parameters of a group are turned into.
    type Group<'a>: Copy;

    fn group(self, parameters: &[f32]) -> Self::Group<'_>;

    fn quantize(self, group: Self::Group<'_>, x: Lanes) -> Lanes;

    /// The gradient of x; the parameters' is added to `terms`.
    fn backward(self, group: Self::Group<'_>, x: Lanes, g: Lanes, terms: &mut [Lanes; T]) -> Lanes;
}

#[inline(always)]
fn round(x: f32) -> f32 {
    (x + ROUNDING) - ROUNDING
}

/// f of each lane.
#[inline(always)]
fn map(f: impl Fn(usize) -> f32) -> Lanes {
    let mut y = [0.0; LANES];
    for (lane, y) in y.iter_mut().enumerate() {
        *y = f(lane);
    }
    y
}

#[inline(always)]
fn add(sum: &mut Lanes, terms: Lanes) {
    for (sum, term) in sum.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// Whether a clamp passes the gradient: strictly between its bounds.
#[inline(always)]
fn between(v: f32, lowest: f32, highest: f32) -> bool {
    (v > lowest) & (v < highest)
}

#[inline(always)]
fn only(passed: bool, x: f32) -> f32 {
    if passed { x } else { 0.0 }
}

/// 1, -1 or, of zeros, 0.
#[inline(always)]
fn sign(x: f32) -> f32 {
    only(x > 0.0, 1.0) - only(x < 0.0, 1.0)
}

/// `Rule::Clip`.
#[derive(Clone, Copy)]
pub(super) struct Clip<const SIGNED: bool, const BOUND: bool, const EWGS: bool> {
    pub(super) steps: f32,
    pub(super) ewgs: f32,
    /// What `rescale` multiplies gradients by.
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
        let parts = round(Self::position(v) * self.steps) / self.steps;
        if SIGNED { parts * 2.0 - 1.0 } else { parts }
    }

    /// What is divided by: a learned bound may be any number.
    #[inline(always)]
    fn scale(clip: f32) -> f32 {
        if BOUND && clip < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { clip }
    }

    #[inline(always)]
    fn passed(self, v: f32, g: f32) -> f32 {
        let g = match EWGS {
            false => g,
            true => {
                let u = Self::position(v) * self.steps;
                let error = (u - round(u)) * (self.ewgs / self.steps);
                g * (sign(g) * error + 1.0)
            }
        };
        only(between(v, Self::LOWEST, 1.0), g) * self.factor
    }
}

impl<const SIGNED: bool, const BOUND: bool, const EWGS: bool> Kernel<1>
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
            match BOUND {
                true => only(x[lane] >= clip, g),
                false => g * self.level(v) - passed[lane] * v.clamp(Self::LOWEST, 1.0),
            }
        });
        add(term, terms);
        passed
    }
}

/// `Rule::Step`.
#[derive(Clone, Copy)]
pub(super) struct Step<const EWGS: bool> {
    pub(super) lowest: f32,
    pub(super) highest: f32,
    pub(super) ewgs: f32,
}

impl<const EWGS: bool> Kernel<2> for Step<EWGS> {
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
            let g = match EWGS {
                false => g,
                true => {
                    let error = (v - round(v)) * (self.ewgs / (self.highest - self.lowest));
                    g * (sign(g) * error + 1.0)
                }
            };
            only(between(at[lane], self.lowest, self.highest), g)
        });
        add(&mut terms[0], map(|lane| g[lane] * round(v[lane]) - passed[lane] * v[lane]));
        add(&mut terms[1], map(|lane| g[lane] - passed[lane]));
        passed
    }
}

/// Unsigned `Rule::Slopes` of `P` pieces.
#[derive(Clone, Copy)]
pub(super) struct Slopes<const P: usize>;

impl<const P: usize> Kernel<P> for Slopes<P> {
    /// Slopes, and where the pieces start.
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

/// Signed `Rule::Slopes`.
#[derive(Clone, Copy)]
pub(super) struct SignedSlopes;

impl Kernel<2> for SignedSlopes {
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

/// Gradients of `Rule::Intervals`: c, o, and the widths.
pub(super) const INTERVAL_TERMS: usize = 2 + MAX_INTERVALS;

/// `Rule::Intervals`.
#[derive(Clone, Copy)]
pub(super) struct Intervals {
    pub(super) pieces: usize,
}

impl Kernel<INTERVAL_TERMS> for Intervals {
    /// Step of the values, widths, and where the intervals start.
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

/// `Rule::Ternary`.
#[derive(Clone, Copy)]
pub(super) struct Ternary;

impl Kernel<2> for Ternary {
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

/// `Rule::Table` of `N` thresholds, or of any number where `N` is 0.
#[derive(Clone, Copy)]
pub(super) struct Table<const N: usize> {
    pub(super) thresholds: usize,
}

/// The parameters of a group for [`Table`].
#[derive(Clone, Copy)]
pub(super) struct Ladder<'a, const N: usize> {
    scale: f32,
    lowest: f32,
    highest: f32,
    first: f32,
    /// The first `N` thresholds, and the values above them.
    few: ([f32; N], [f32; N]),
    /// All of them.
    all: (&'a [f32], &'a [f32]),
}

impl<const N: usize> Ladder<'_, N> {
    #[inline(always)]
    fn value(&self, v: f32) -> f32 {
        if N == 0 {
            let below = self.all.0.partition_point(|threshold| v > *threshold);
            return self.all.1[below];
        }
        let mut y = self.first;
        for index in 0..N {
            y = if v > self.few.0[index] { self.few.1[index] } else { y };
        }
        y
    }
}

impl<const N: usize> Kernel<1> for Table<N> {
    type Group<'a> = Ladder<'a, N>;

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> Ladder<'_, N> {
        let (thresholds, values) = parameters[3..].split_at(self.thresholds);
        let mut few = ([0.0; N], [0.0; N]);
        few.0.copy_from_slice(&thresholds[..N]);
        few.1.copy_from_slice(&values[1..=N]);
        let [scale, lowest, highest] = [parameters[0], parameters[1], parameters[2]];
        Ladder { scale, lowest, highest, first: values[0], few, all: (thresholds, values) }
    }

    #[inline(always)]
    fn quantize(self, group: Ladder<'_, N>, x: Lanes) -> Lanes {
        map(|lane| {
            let v = x[lane] / group.scale;
            let y = group.value(v) * group.scale;
            if v.is_nan() { f32::NAN } else { y }
        })
    }

    #[inline(always)]
    fn backward(self, group: Ladder<'_, N>, x: Lanes, g: Lanes, [term]: &mut [Lanes; 1]) -> Lanes {
        let v = map(|lane| x[lane] / group.scale);
        let inside = |lane: usize| between(v[lane], group.lowest, group.highest);
        let passed = map(|lane| stored(only(inside(lane), g[lane])));
        let within = map(|lane| only(inside(lane), v[lane]));
        add(term, map(|lane| g[lane] * group.value(v[lane]) - passed[lane] * within[lane]));
        passed
    }
}

/// `Rule::Sign`.
#[derive(Clone, Copy)]
pub(super) struct Sign {
    pub(super) slope: SignSlope,
}

impl Kernel<1> for Sign {
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
