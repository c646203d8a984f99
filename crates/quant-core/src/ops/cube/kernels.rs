//! The kernels: the formula of each rule for one number, in 32 bits, and the loops around it.

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

/// The properties of a rule that kernels are compiled for.
#[derive(CubeType, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Kind {
    Clip(bool, bool),
    Step,
    Slopes(usize),
    SignedSlopes,
    Intervals(usize),
    Ternary,
    Table(usize),
    Sign(usize),
}

#[cube]
fn parameter<F: Float>(parameters: &LinearView<'_, F>, at: usize) -> f32 {
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
fn quantized<F: Float>(
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

/// Returns the gradient of x, and adds the terms of the parameters' gradients to `sums`.
#[cube]
fn differentiated<F: Float>(
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
                sums[0] += select(x >= first, g, 0.0f32);
            } else {
                sums[0] += g * clip_level(v, steps, signed) - passed * limited(v, lowest, 1.0f32);
            }
            passed
        }
        Kind::Step => {
            let at = (x - parameter::<F>(parameters, from + 1)) / first;
            let v = limited(at, lowest, highest);
            let passed = scaled_by_element(g, v, ewgs / steps);
            let passed = within(at, lowest, highest, passed);
            sums[0] += g * f32::round(v) - passed * v;
            sums[1] += g - passed;
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
                    sums[earlier] += passed / (other * other);
                }
                sums[piece] += within(u, 0.0f32, 1.0f32, g * (x - start));
                grad += passed;
                start += 1.0f32 / slope;
            }
            grad
        }
        Kind::SignedSlopes => {
            let above = parameter::<F>(parameters, from + 1);
            let (u, v) = (x * first, x * above);
            sums[0] += within(u, -1.0f32, 0.0f32, g * x);
            sums[1] += within(v, 0.0f32, 1.0f32, g * x);
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
                    sums[2 + earlier] -= passed;
                }
                sums[2 + piece] -= within(u, 0.0f32, 1.0f32, passed * u);
                integers += unit_step(u);
                grad += passed;
                start += width;
            }
            sums[0] += g * integers;
            sums[1] -= grad;
            grad
        }
        Kind::Ternary => {
            let negative = parameter::<F>(parameters, from + 1);
            let bound = parameter::<F>(parameters, from + 2);
            sums[0] += select(x > bound, g, 0.0f32);
            sums[1] -= select(x < -bound, g, 0.0f32);
            g * select(x > bound, first, select(x < -bound, negative, 1.0f32))
        }
        Kind::Table(thresholds) => {
            let v = x / first;
            let lowest = parameter::<F>(parameters, from + 1);
            let highest = parameter::<F>(parameters, from + 2);
            let passed = within(v, lowest, highest, g);
            let value = table_value::<F>(v, parameters, from, thresholds);
            sums[0] += g * value - passed * within(v, lowest, highest, v);
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
            sums[0] -= passed;
            passed
        }
    }
}

#[cube(launch, address_type = "dynamic")]
pub(super) fn forward_kernel<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    parameters: LinearView<'_, F>,
    mut y: LinearViewMut<'_, Vector<F, N>>,
    groups: usize,
    inner: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    #[comptime] count: usize,
    #[comptime] kind: Kind,
    #[define(F)] _dtype: ElemType,
) {
    if !y.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let from = (ABSOLUTE_POS / inner) % groups * count;
    let values = x.read(ABSOLUTE_POS);
    let mut out = values;
    #[unroll]
    for lane in 0..values.vector_size() {
        let x = f32::cast_from(values.extract(lane));
        let level = quantized::<F>(x, &parameters, from, steps, lowest, highest, kind);
        out.insert(lane, F::cast_from(level));
    }
    y.write(ABSOLUTE_POS, out);
}

#[cube(launch, address_type = "dynamic")]
pub(super) fn backward_kernel<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    parameters: LinearView<'_, F>,
    factor: LinearView<'_, F>,
    grad: LinearView<'_, Vector<F, N>>,
    mut grad_x: LinearViewMut<'_, Vector<F, N>>,
    mut partial: LinearViewMut<'_, f32>,
    elements: usize,
    groups: usize,
    inner: usize,
    threads: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    ewgs: f32,
    #[comptime] count: usize,
    #[comptime] terms: usize,
    #[comptime] kind: Kind,
    #[define(F)] _dtype: ElemType,
) {
    let group = ABSOLUTE_POS / threads;
    if group >= groups {
        terminate!();
    }
    let from = group * count;
    let factor = parameter::<F>(&factor, 0);
    let mut sums = Array::<f32>::new(terms);
    #[unroll]
    for term in 0..terms {
        sums[term] = 0.0f32;
    }
    let mut element = ABSOLUTE_POS % threads;
    while element < elements {
        let at = (element / inner * groups + group) * inner + element % inner;
        let values = x.read(at);
        let gradients = grad.read(at);
        let mut out = gradients;
        #[unroll]
        for lane in 0..values.vector_size() {
            let passed = differentiated::<F>(
                f32::cast_from(values.extract(lane)),
                f32::cast_from(gradients.extract(lane)),
                &parameters,
                from,
                steps,
                lowest,
                highest,
                ewgs,
                factor,
                &mut sums,
                kind,
            );
            out.insert(lane, F::cast_from(passed));
        }
        grad_x.write(at, out);
        element += threads;
    }
    #[unroll]
    for term in 0..terms {
        partial.write(ABSOLUTE_POS * terms + term, sums[term]);
    }
}
