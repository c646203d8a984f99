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
    /// `Rule::Intervals` with this many pieces.
    Intervals(usize),
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

/// Returns q of `Rule::Table`, whose parameters begin at `from`.
#[cube]
fn table_value<F: Float>(
    v: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    #[comptime] thresholds: usize,
) -> f32 {
    let mut y = parameter::<F>(parameters, from + 3 + thresholds);
    for index in 0..thresholds {
        let threshold = parameter::<F>(parameters, from + 3 + index);
        let value = parameter::<F>(parameters, from + 4 + thresholds + index);
        y = select(v > threshold, value, y);
    }
    y
}

#[cube]
pub(super) fn quantized<F: Float>(
    x: f32,
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
        Kind::Intervals(pieces) => {
            let mut y = 0.0f32;
            let mut start = parameter::<F>(parameters, from + 1);
            for piece in 0..pieces {
                let width = parameter::<F>(parameters, from + 2 + piece);
                y += unit_step((x - start) / width);
                start += width;
            }
            y * first
        }
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
    #[comptime] kind: Kind,
) -> f32 {
    let first = parameter::<F>(parameters, from);
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
        Kind::Intervals(pieces) => {
            let mut grad = 0.0f32;
            let mut integers = 0.0f32;
            let mut start = parameter::<F>(parameters, from + 1);
            #[unroll]
            for piece in 0..pieces {
                let width = parameter::<F>(parameters, from + 2 + piece);
                let u = (x - start) / width;
                let passed = within(u, 0.0f32, 1.0f32, g * (first / width));
                #[unroll]
                for earlier in 0..piece {
                    sums[base + 2 + earlier] -= passed;
                }
                sums[base + 2 + piece] -= within(u, 0.0f32, 1.0f32, passed * u);
                integers += unit_step(u);
                grad += passed;
                start += width;
            }
            sums[base] += g * integers;
            sums[base + 1] -= grad;
            grad
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
