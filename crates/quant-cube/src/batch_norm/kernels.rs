//! The loops of batch normalisation over tensors.

#![expect(missing_docs, reason = "CubeCL makes modules of kernels, without documentation")]

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

use crate::{
    block::{
        column_of_unit, first_group, first_vector, next_group, next_vector, sum_columns,
        tile_and_split,
    },
    launch::Groups,
    path::Path,
};

/// The number, the mean and the sum of squared deviations of some numbers.
#[derive(CubeType, Clone, Copy)]
struct Moments {
    count: f32,
    mean: f32,
    squares: f32,
}

/// Returns the moments of two sets of numbers together (Chan, Golub and LeVeque 1979).
#[cube]
fn together(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = select(count > 0.0f32, b.count / count, 0.0f32);
    let difference = b.mean - a.mean;
    Moments {
        count,
        mean: a.mean + difference * share,
        squares: a.squares + b.squares + difference * difference * a.count * share,
    }
}

/// Returns the moments of the units of each column together, as `sum_columns` returns sums.
#[cube]
fn moments_of_columns(
    of_unit: Moments,
    shared: &mut Shared<[f32]>,
    #[comptime] dim: usize,
    #[comptime] width: usize,
) -> Moments {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = of_unit.count;
    shared[unit + dim] = of_unit.mean;
    shared[unit + 2 * dim] = of_unit.squares;
    sync_cube();
    let mut half = comptime!(dim / 2).runtime();
    while half >= width {
        if unit < half {
            let a = moments_at(shared, unit, dim);
            let b = moments_at(shared, unit + half, dim);
            let both = together(a, b);
            shared[unit] = both.count;
            shared[unit + dim] = both.mean;
            shared[unit + 2 * dim] = both.squares;
        }
        sync_cube();
        half /= 2;
    }
    moments_at(shared, unit, dim)
}

#[cube]
fn moments_at(shared: &mut Shared<[f32]>, at: usize, #[comptime] dim: usize) -> Moments {
    Moments { count: shared[at], mean: shared[at + dim], squares: shared[at + 2 * dim] }
}

/// Computes the moments of parts of each channel: `partial` is `[channels, splits, 3]`. A cube
/// reads a part of the elements of `width` columns, of which a vector holds as many channels as
/// `of` says.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn moments_kernel<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    mut partial: LinearViewMut<'_, f32>,
    path: Path,
    #[comptime] of: Groups,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
) {
    let lanes = if comptime!(of == Groups::Columns) { N::value() } else { 1 };
    let mut shared = Shared::<[f32]>::new_slice(comptime!(3 * units));
    let unit = UNIT_POS as usize;
    let (tile, split) = tile_and_split(&path, false, of);
    let (column, split) = (column_of_unit(tile, width), split as usize);
    let is_used = column < path.columns && split < path.splits;
    // The deviations from the first number are small beside a large mean.
    let mut pivots = Array::<f32>::new(lanes);
    let mut sums = Array::<f32>::new(lanes);
    let mut squares = Array::<f32>::new(lanes);
    let mut count = 0.0f32;
    #[unroll]
    for lane in 0..lanes {
        pivots[lane] = 0.0f32;
        sums[lane] = 0.0f32;
        squares[lane] = 0.0f32;
    }
    if is_used {
        let rows = comptime!(units / width);
        let (mut at, mut inside) = first_vector(&path, column, split, rows, width, of);
        if at < path.end {
            let values = x.read(at);
            #[unroll]
            for lane in 0..lanes {
                pivots[lane] = f32::cast_from(values.extract(lane));
            }
        }
        while at < path.end {
            let values = x.read(at);
            #[unroll]
            for lane in 0..values.vector_size() {
                let of_lane = if comptime!(of == Groups::Columns) { lane } else { 0usize };
                let deviation = f32::cast_from(values.extract(lane)) - pivots[of_lane];
                sums[of_lane] += deviation;
                squares[of_lane] += deviation * deviation;
            }
            count += 1.0f32;
            let next = next_vector(&path, at, inside, of);
            at = next.0;
            inside = next.1;
        }
    }
    let of_vector = if comptime!(of == Groups::Columns) { 1usize } else { N::value() };
    count *= f32::cast_from(of_vector as u32);
    #[unroll]
    for lane in 0..lanes {
        let mean = select(count > 0.0f32, sums[lane] / count, 0.0f32);
        let around_mean = squares[lane] - sums[lane] * mean;
        let of_unit = Moments {
            count,
            mean: pivots[lane] + mean,
            squares: select(around_mean < 0.0f32, 0.0f32, around_mean),
        };
        let moments = moments_of_columns(of_unit, &mut shared, units, width);
        if is_used && unit < width {
            let at = ((column * lanes + lane) * path.splits + split) * 3;
            partial.write(at, moments.count);
            partial.write(at + 1, moments.mean);
            partial.write(at + 2, moments.squares);
        }
    }
}

/// Computes mean and biased variance of each channel from `partial`, `[channels, splits, 3]`, and
/// `scale`, γ/√(variance + ε). A cube computes one channel.
///
/// If `tracks`, it computes the running values too: r·`keeps` + s·`adds`, where s is the mean, or
/// the variance multiplied by `unbiased`. Else the running values are any tensors.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn statistics_kernel<P: Float>(
    partial: LinearView<'_, f32>,
    weight: LinearView<'_, P>,
    mut mean: LinearViewMut<'_, f32>,
    mut variance: LinearViewMut<'_, f32>,
    mut scale: LinearViewMut<'_, f32>,
    running_mean: LinearView<'_, P>,
    running_variance: LinearView<'_, P>,
    mut next_mean: LinearViewMut<'_, P>,
    mut next_variance: LinearViewMut<'_, P>,
    channels: usize,
    splits: usize,
    epsilon: f32,
    keeps: f32,
    adds: f32,
    unbiased: f32,
    #[comptime] tracks: bool,
    #[comptime] units: usize,
    #[define(P)] _parameter_dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(3 * units));
    let unit = UNIT_POS as usize;
    let channel = CUBE_POS;
    let mut count = 0.0f32;
    let mut of_mean = 0.0f32;
    let mut squares = 0.0f32;
    if channel < channels {
        let mut split = unit;
        while split < splits {
            let at = (channel * splits + split) * 3;
            let part = Moments {
                count: partial.read(at),
                mean: partial.read(at + 1),
                squares: partial.read(at + 2),
            };
            let both = together(Moments { count, mean: of_mean, squares }, part);
            count = both.count;
            of_mean = both.mean;
            squares = both.squares;
            split += units;
        }
    }
    let of_unit = Moments { count, mean: of_mean, squares };
    let moments = moments_of_columns(of_unit, &mut shared, units, 1usize);
    if unit == 0 && channel < channels {
        let of_channel = moments.squares / moments.count;
        mean.write(channel, moments.mean);
        variance.write(channel, of_channel);
        let weight = f32::cast_from(weight.read(channel));
        scale.write(channel, weight / f32::sqrt(of_channel + epsilon));
        if comptime!(tracks) {
            let old = f32::cast_from(running_mean.read(channel));
            let next = old * keeps + moments.mean * adds;
            next_mean.write(channel, P::cast_from(next));
            let old = f32::cast_from(running_variance.read(channel));
            let next = old * keeps + of_channel * unbiased * adds;
            next_variance.write(channel, P::cast_from(next));
        }
    }
}

/// Computes (x - mean)·scale + β, adds the residual if `adds`, and applies a ReLU if `relu`.
/// `residual` is any tensor if it is not added.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn normalize_kernel<F: Float, Y: Float, P: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    mean: LinearView<'_, f32>,
    scale: LinearView<'_, f32>,
    bias: LinearView<'_, P>,
    residual: LinearView<'_, Vector<Y, N>>,
    mut y: LinearViewMut<'_, Vector<Y, N>>,
    groups: usize,
    inner: usize,
    #[comptime] adds: bool,
    #[comptime] relu: bool,
    #[comptime] of: Groups,
    #[define(F)] _dtype: ElemType,
    #[define(Y)] _result_dtype: ElemType,
    #[define(P)] _parameter_dtype: ElemType,
) {
    if !y.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let values = x.read(ABSOLUTE_POS);
    let mut out = Vector::<Y, N>::empty();
    let mut added = Vector::<Y, N>::empty();
    if comptime!(adds) {
        added = residual.read(ABSOLUTE_POS);
    }
    let (mut channel, mut left) = first_group(N::value(), groups, inner, of);
    #[unroll]
    for lane in 0..values.vector_size() {
        let at = channel as usize;
        let x = f32::cast_from(values.extract(lane));
        let mut value = (x - mean.read(at)) * scale.read(at) + f32::cast_from(bias.read(at));
        if comptime!(adds) {
            value += f32::cast_from(added.extract(lane));
        }
        if comptime!(relu) {
            value = select(value < 0.0f32, 0.0f32, value);
        }
        out.insert(lane, Y::cast_from(value));
        let next = next_group(channel, left, N::value(), groups, inner, of);
        channel = next.0;
        left = next.1;
    }
    y.write(ABSOLUTE_POS, out);
}

/// Returns the gradient before a ReLU whose result is `y`.
#[cube]
fn before_relu(gradient: f32, y: f32, #[comptime] relu: bool) -> f32 {
    if comptime!(relu) { select(y > 0.0f32, gradient, 0.0f32) } else { gradient }
}

/// Sums g and g·(x - mean) over parts of each channel: `partial` is `[channels, splits, 2]`. `y` is
/// any tensor if there was no ReLU.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn gradient_sums_kernel<F: Float, Y: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    y: LinearView<'_, Vector<Y, N>>,
    gradient: LinearView<'_, Vector<Y, N>>,
    mean: LinearView<'_, f32>,
    mut partial: LinearViewMut<'_, f32>,
    path: Path,
    #[comptime] relu: bool,
    #[comptime] of: Groups,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
    #[define(Y)] _result_dtype: ElemType,
) {
    let lanes = if comptime!(of == Groups::Columns) { N::value() } else { 1 };
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    let (tile, split) = tile_and_split(&path, false, of);
    let (column, split) = (column_of_unit(tile, width), split as usize);
    let is_used = column < path.columns && split < path.splits;
    let mut means = Array::<f32>::new(lanes);
    let mut sums = Array::<f32>::new(comptime!(2 * lanes));
    #[unroll]
    for lane in 0..lanes {
        means[lane] = 0.0f32;
        sums[2 * lane] = 0.0f32;
        sums[2 * lane + 1] = 0.0f32;
    }
    if is_used {
        #[unroll]
        for lane in 0..lanes {
            means[lane] = mean.read(column * lanes + lane);
        }
        let rows = comptime!(units / width);
        let (mut at, mut inside) = first_vector(&path, column, split, rows, width, of);
        while at < path.end {
            let values = x.read(at);
            let gradients = gradient.read(at);
            let mut results = gradients;
            if comptime!(relu) {
                results = y.read(at);
            }
            #[unroll]
            for lane in 0..values.vector_size() {
                let of_lane = if comptime!(of == Groups::Columns) { lane } else { 0usize };
                let g = before_relu(
                    f32::cast_from(gradients.extract(lane)),
                    f32::cast_from(results.extract(lane)),
                    relu,
                );
                let x = f32::cast_from(values.extract(lane));
                sums[2 * of_lane] += g;
                sums[2 * of_lane + 1] += g * (x - means[of_lane]);
            }
            let next = next_vector(&path, at, inside, of);
            at = next.0;
            inside = next.1;
        }
    }
    #[unroll]
    for lane in 0..lanes {
        #[unroll]
        for term in 0..2 {
            let sum = sum_columns(sums[2 * lane + term], &mut shared, units, width);
            if is_used && unit < width {
                partial.write(((column * lanes + lane) * path.splits + split) * 2 + term, sum);
            }
        }
    }
}

/// Computes the gradients of γ and β from `partial`, `[channels, splits, 2]`, and for each channel
/// the numbers of `input_gradient_kernel`: `[channels, 3]`. `count` is the number of elements of a
/// channel. A cube computes one channel.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn parameter_gradients_kernel<P: Float>(
    partial: LinearView<'_, f32>,
    weight: LinearView<'_, P>,
    variance: LinearView<'_, f32>,
    mut weight_gradient: LinearViewMut<'_, P>,
    mut bias_gradient: LinearViewMut<'_, P>,
    mut numbers: LinearViewMut<'_, f32>,
    channels: usize,
    splits: usize,
    count: f32,
    epsilon: f32,
    #[comptime] units: usize,
    #[define(P)] _parameter_dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    let channel = CUBE_POS;
    let mut own = 0.0f32;
    let mut product = 0.0f32;
    if channel < channels {
        let mut split = unit;
        while split < splits {
            own += partial.read((channel * splits + split) * 2);
            product += partial.read((channel * splits + split) * 2 + 1);
            split += units;
        }
    }
    let sum = sum_columns(own, &mut shared, units, 1usize);
    let product = sum_columns(product, &mut shared, units, 1usize);
    if unit == 0 && channel < channels {
        let inverse = 1.0f32 / f32::sqrt(variance.read(channel) + epsilon);
        let weighted = product * inverse;
        weight_gradient.write(channel, P::cast_from(weighted));
        bias_gradient.write(channel, P::cast_from(sum));
        numbers.write(channel * 3, f32::cast_from(weight.read(channel)) * inverse);
        numbers.write(channel * 3 + 1, sum / count);
        numbers.write(channel * 3 + 2, weighted / count * inverse);
    }
}

/// Computes γ/√(variance + ε)·((g - Σg/m) - (x - mean)·Σg·x̂/m/√(variance + ε)). If `adds`, the
/// gradient before the ReLU is written to `residual_gradient`, which else is any tensor.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn input_gradient_kernel<F: Float, Y: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    y: LinearView<'_, Vector<Y, N>>,
    gradient: LinearView<'_, Vector<Y, N>>,
    mean: LinearView<'_, f32>,
    numbers: LinearView<'_, f32>,
    mut x_gradient: LinearViewMut<'_, Vector<F, N>>,
    mut residual_gradient: LinearViewMut<'_, Vector<Y, N>>,
    groups: usize,
    inner: usize,
    #[comptime] adds: bool,
    #[comptime] relu: bool,
    #[comptime] of: Groups,
    #[define(F)] _dtype: ElemType,
    #[define(Y)] _result_dtype: ElemType,
) {
    if !x_gradient.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let values = x.read(ABSOLUTE_POS);
    let gradients = gradient.read(ABSOLUTE_POS);
    let mut results = gradients;
    if comptime!(relu) {
        results = y.read(ABSOLUTE_POS);
    }
    let mut out = Vector::<F, N>::empty();
    let mut passed = gradients;
    let (mut channel, mut left) = first_group(N::value(), groups, inner, of);
    #[unroll]
    for lane in 0..values.vector_size() {
        let at = channel as usize;
        let g = before_relu(
            f32::cast_from(gradients.extract(lane)),
            f32::cast_from(results.extract(lane)),
            relu,
        );
        let x = f32::cast_from(values.extract(lane)) - mean.read(at);
        let scale = numbers.read(at * 3);
        let value = ((g - numbers.read(at * 3 + 1)) - x * numbers.read(at * 3 + 2)) * scale;
        out.insert(lane, F::cast_from(value));
        if comptime!(adds) {
            passed.insert(lane, Y::cast_from(g));
        }
        let next = next_group(channel, left, N::value(), groups, inner, of);
        channel = next.0;
        left = next.1;
    }
    x_gradient.write(ABSOLUTE_POS, out);
    if comptime!(adds) {
        residual_gradient.write(ABSOLUTE_POS, passed);
    }
}
