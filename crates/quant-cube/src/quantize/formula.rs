//! The formula of each rule for one number, in 32 bits, with its parameters of any type.

#![expect(clippy::eq_op, reason = "only NaN differs from itself")]
#![expect(missing_docs, reason = "CubeCL makes functions of enums, without documentation")]

use cubecl::{prelude::*, std::tensor::layout::linear::LinearView};

/// The properties of a [`Rule`](quant_kernels::quantize::Rule) that kernels are compiled for.
#[derive(CubeType, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Kind {
    /// `Rule::Clip`: whether the range is signed, and whether the bound is learned.
    Clip(bool, bool),
    /// `Rule::Step`.
    Step,
    /// `Rule::Slopes` with this many pieces above 0.
    Slopes(usize),
    /// `Rule::Slopes` with a piece on each side of 0.
    SignedSlopes,
    /// `Rule::Intervals`. The number of pieces is an argument at run time: a compiler that knows it
    /// writes out the loop over the pieces, and needs more registers than a thread should have.
    Intervals,
    /// `Rule::Ternary`.
    Ternary,
    /// `Rule::Table` with this many thresholds.
    Table(usize),
    /// `Rule::Sign` with the gradient estimator 0 (one), 1 (box) or 2 (triangle).
    Sign(usize),
}

#[cube]
pub(super) fn parameter<F: Float>(parameters: &LinearView<'_, F>, at: usize) -> f32 {
    f32::cast_from(parameters.read(at))
}

#[cube]
fn limited(x: f32, lowest: f32, highest: f32) -> f32 {
    let raised = select(x < lowest, lowest, x);
    select(raised > highest, highest, raised)
}

/// Returns y where lowest < x < highest, else 0.
#[cube]
fn within(x: f32, lowest: f32, highest: f32, y: f32) -> f32 {
    select(x > lowest, select(x < highest, y, 0.0f32), 0.0f32)
}

/// Returns R(clamp(u, 0, 1)).
#[cube]
fn unit_step(u: f32) -> f32 {
    f32::round(limited(u, 0.0f32, 1.0f32))
}

/// Returns g·(1 + factor·sign(g)·(u - R(u))).
#[cube]
fn scaled_by_element(g: f32, u: f32, factor: f32) -> f32 {
    let sign = select(g > 0.0f32, 1.0f32, select(g < 0.0f32, -1.0f32, 0.0f32));
    g * (sign * ((u - f32::round(u)) * factor) + 1.0f32)
}

/// Returns the divisor of `Rule::Clip`. It is the bound, but a learned bound may be any number and
/// is raised to at least the smallest normal number.
#[cube]
fn clip_scale(s: f32, #[comptime] bound: bool) -> f32 {
    if comptime!(bound) { select(s < 1.1754944e-38f32, 1.1754944e-38f32, s) } else { s }
}

/// Returns u of `Rule::Clip`.
#[cube]
fn clip_position(v: f32, #[comptime] signed: bool) -> f32 {
    if comptime!(signed) {
        (limited(v, -1.0f32, 1.0f32) + 1.0f32) * 0.5f32
    } else {
        limited(v, 0.0f32, 1.0f32)
    }
}

/// Returns m·R(n·u)/n - z of `Rule::Clip`.
#[cube]
fn clip_level(v: f32, steps: f32, #[comptime] signed: bool) -> f32 {
    let parts = f32::round(clip_position(v, signed) * steps) / steps;
    if comptime!(signed) { parts * 2.0f32 - 1.0f32 } else { parts }
}

/// Returns q of `Rule::Table`, whose parameters begin at `from`. A binary search reads few of the
/// parameters, so that few registers hold them.
#[cube]
fn table_value<F: Float>(
    v: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    #[comptime] thresholds: usize,
) -> f32 {
    let all = comptime!(thresholds as u32);
    let bits = comptime!((all + 1).next_power_of_two().ilog2());
    // The number of thresholds below v is at least `below`, and less than `below + 2 * step`.
    let mut below = 0u32.runtime();
    #[unroll]
    for bit in 0..bits {
        let step = comptime!(1u32 << (bits - 1 - bit));
        let next = u32::min(below + step, all);
        let threshold = parameter::<F>(parameters, from + 2 + next as usize);
        below = select(v > threshold, next, below);
    }
    parameter::<F>(parameters, from + 3 + thresholds + below as usize)
}

/// Adds the sums of R(clamp(u_i, 0, 1)) of `Rule::Intervals`, whose parameters begin at `from`, to
/// the sums of the elements x of `values`. Widths are at least 0, so that u > 1/2 where
/// x - start > width/2.
#[cube]
pub(super) fn add_interval_steps<F: Float>(
    values: &Array<f32>,
    sums: &mut Array<f32>,
    parameters: &LinearView<'_, F>,
    from: usize,
    pieces: u32,
    first: usize,
    #[comptime] count: usize,
) {
    let mut start = parameter::<F>(parameters, from + 1);
    for piece in 0..pieces {
        let width = parameter::<F>(parameters, from + 2 + piece as usize);
        let half = width * 0.5f32;
        #[unroll]
        for index in 0..count {
            let is_behind = values[first + index] - start > half;
            sums[first + index] += select(is_behind, 1.0f32, 0.0f32);
        }
        start += width;
    }
    // A width that is not a number stays visible.
    #[unroll]
    for index in 0..count {
        sums[first + index] = select(start == start, sums[first + index], start);
    }
}

/// Writes what the gradients of `Rule::Intervals` need of a piece: where it begins (o, o + a_1,
/// o + a_1 + a_2 and so on), its width a_i, and c/a_i. The parameters begin at `first`. The starts
/// of all pieces, and the end of the last, lie at distances of `width` in `shared`; `at` is that of
/// the first. The widths follow, and then the quotients.
#[cube]
pub(super) fn write_piece<F: Float>(
    parameters: &LinearView<'_, F>,
    first: usize,
    piece: usize,
    shared: &mut Shared<[f32]>,
    at: usize,
    #[comptime] width: usize,
    #[comptime] pieces: usize,
) {
    let mut bound = parameter::<F>(parameters, first + 1);
    for earlier in 0..piece {
        bound += parameter::<F>(parameters, first + 2 + earlier);
    }
    let at = at + piece * width;
    shared[at] = bound;
    if piece < pieces {
        let size = parameter::<F>(parameters, first + 2 + piece);
        shared[at + (1 + pieces) * width] = size;
        shared[at + (1 + 2 * pieces) * width] = parameter::<F>(parameters, first) / size;
    }
}

/// Returns the number of pieces of `Rule::Intervals` that begin below x, by a binary search.
#[cube]
fn pieces_below(
    x: f32,
    shared: &mut Shared<[f32]>,
    from: usize,
    #[comptime] width: usize,
    #[comptime] pieces: usize,
) -> u32 {
    let all = comptime!(pieces as u32);
    let bits = comptime!((all + 1).next_power_of_two().ilog2());
    let mut below = 0u32.runtime();
    #[unroll]
    for bit in 0..bits {
        let step = comptime!(1u32 << (bits - 1 - bit));
        let next = u32::min(below + step, all);
        let start = shared[from + (next - 1) as usize * width];
        below = select(x > start, next, below);
    }
    below
}

/// Returns the quantized value of x. `integer` is read if the kind is [`Kind::Intervals`]: what
/// [`add_interval_steps`] has summed.
#[cube]
pub(super) fn quantized<F: Float>(
    x: f32,
    integer: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    #[comptime] kind: Kind,
) -> f32 {
    let first = parameter::<F>(parameters, from);
    let y = match kind {
        Kind::Clip(signed, bound) => {
            let scale = clip_scale(first, bound);
            clip_level(x / scale, steps, signed) * scale
        }
        Kind::Step => {
            let offset = parameter::<F>(parameters, from + 1);
            f32::round(limited((x - offset) / first, lowest, highest)) * first + offset
        }
        Kind::Slopes(pieces) => {
            let mut y = unit_step(x * first);
            let mut start = 1.0f32 / first;
            for piece in 1..pieces {
                let slope = parameter::<F>(parameters, from + piece);
                y += unit_step((x - start) * slope);
                start += 1.0f32 / slope;
            }
            y
        }
        Kind::SignedSlopes => {
            let above = parameter::<F>(parameters, from + 1);
            f32::round(limited(x * first, -1.0f32, 0.0f32)) + unit_step(x * above)
        }
        Kind::Intervals => integer * first,
        Kind::Ternary => {
            let negative = parameter::<F>(parameters, from + 1);
            let bound = parameter::<F>(parameters, from + 2);
            select(x > bound, first, select(x < -bound, -negative, 0.0f32))
        }
        Kind::Table(thresholds) => {
            table_value::<F>(x / first, parameters, from, thresholds) * first
        }
        Kind::Sign(_) => {
            let scale = parameter::<F>(parameters, from + 1);
            select(x - first < 0.0f32, -scale, scale)
        }
    };
    // NaN stays NaN.
    select(x == x, y, x)
}

/// Returns the gradient of x, and adds the terms of the parameters' gradients to `sums`,
/// from `base` on.
///
/// [`Kind::Intervals`] only adds that of c there. The others, of which there are too many for
/// registers, are sums of the gradients of the `bounds` between pieces: the gradient of o is the
/// sum of all of them, and that of a_i the sum of those above a_i. Inside a piece, -∂x is divided
/// between its bounds in the ratio 1 - u to u. The sum of bound i is at `(i + 1) * units + unit` of
/// `shared`, and behind these sums is what [`write_piece`] has written.
#[cube]
pub(super) fn differentiated<F: Float>(
    x: f32,
    g: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    ewgs: f32,
    factor: f32,
    sums: &mut Array<f32>,
    base: usize,
    shared: &mut Shared<[f32]>,
    #[comptime] bounds: usize,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[comptime] kind: Kind,
) -> f32 {
    let first = parameter::<F>(parameters, from);
    let unit = UNIT_POS as usize;
    match kind {
        Kind::Clip(signed, bound) => {
            let v = x / clip_scale(first, bound);
            let u = clip_position(v, signed) * steps;
            let passed = scaled_by_element(g, u, ewgs / steps);
            let passed = within(v, lowest, 1.0f32, passed) * factor;
            if comptime!(bound) {
                sums[base] += select(x >= first, g, 0.0f32);
            } else {
                sums[base] +=
                    g * clip_level(v, steps, signed) - passed * limited(v, lowest, 1.0f32);
            }
            passed
        }
        Kind::Step => {
            let at = (x - parameter::<F>(parameters, from + 1)) / first;
            let v = limited(at, lowest, highest);
            let passed = scaled_by_element(g, v, ewgs / steps);
            let passed = within(at, lowest, highest, passed);
            sums[base] += g * f32::round(v) - passed * v;
            sums[base + 1] += g - passed;
            passed
        }
        Kind::Slopes(pieces) => {
            let mut grad = 0.0f32;
            let mut start = 0.0f32;
            #[unroll]
            for piece in 0..pieces {
                let slope = parameter::<F>(parameters, from + piece);
                let u = (x - start) * slope;
                let passed = within(u, 0.0f32, 1.0f32, g * slope);
                #[unroll]
                for earlier in 0..piece {
                    let other = parameter::<F>(parameters, from + earlier);
                    sums[base + earlier] += passed / (other * other);
                }
                sums[base + piece] += within(u, 0.0f32, 1.0f32, g * (x - start));
                grad += passed;
                start += 1.0f32 / slope;
            }
            grad
        }
        Kind::SignedSlopes => {
            let above = parameter::<F>(parameters, from + 1);
            let (u, v) = (x * first, x * above);
            sums[base] += within(u, -1.0f32, 0.0f32, g * x);
            sums[base + 1] += within(v, 0.0f32, 1.0f32, g * x);
            within(u, -1.0f32, 0.0f32, g * first) + within(v, 0.0f32, 1.0f32, g * above)
        }
        Kind::Intervals => {
            let pieces = comptime!(bounds - 1);
            let starts = comptime!((bounds + 1) * units) + unit % width;
            let below = pieces_below(x, shared, starts, width, pieces);
            // An x below all pieces is below the first: it adds 0 to the bounds of that one.
            let piece = u32::max(below, 1) as usize;
            let at = starts + (piece - 1) * width;
            let distance = x - shared[at];
            let size = shared[at + (1 + pieces) * width];
            let u = distance / size;
            let passed = within(u, 0.0f32, 1.0f32, g * shared[at + (1 + 2 * pieces) * width]);
            let to_end = within(u, 0.0f32, 1.0f32, passed * u);
            shared[piece * units + unit] -= passed - to_end;
            shared[(piece + 1) * units + unit] -= to_end;
            // u > 1/2 where distance > size/2. What is not a number stays visible.
            let half = select(distance > size * 0.5f32, 1.0f32, 0.0f32);
            let end = x + shared[starts + pieces * width];
            let integer = f32::cast_from(piece as u32 - 1) + half;
            sums[base] += g * select(end == end, integer, end);
            passed
        }
        Kind::Ternary => {
            let negative = parameter::<F>(parameters, from + 1);
            let bound = parameter::<F>(parameters, from + 2);
            sums[base] += select(x > bound, g, 0.0f32);
            sums[base + 1] -= select(x < -bound, g, 0.0f32);
            g * select(x > bound, first, select(x < -bound, negative, 1.0f32))
        }
        Kind::Table(thresholds) => {
            let v = x / first;
            let lowest = parameter::<F>(parameters, from + 1);
            let highest = parameter::<F>(parameters, from + 2);
            let passed = within(v, lowest, highest, g);
            let value = table_value::<F>(v, parameters, from, thresholds);
            sums[base] += g * value - passed * within(v, lowest, highest, v);
            passed
        }
        Kind::Sign(slope) => {
            let at = f32::abs(x - first);
            let passed = if comptime!(slope == 0) {
                g
            } else if comptime!(slope == 1) {
                select(at < 1.0f32, g, 0.0f32)
            } else {
                select(at < 1.0f32, g * (at * -2.0f32 + 2.0f32), 0.0f32)
            };
            sums[base] -= passed;
            passed
        }
    }
}
