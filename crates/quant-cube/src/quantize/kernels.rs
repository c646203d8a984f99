//! The loops of the quantizers over tensors.

#![expect(missing_docs, reason = "CubeCL makes modules of kernels, without documentation")]

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

use super::formula::{Kind, differentiated, quantized};
use crate::{
    block::{group_of_lane, index_in_column, sum_columns},
    launch::Groups,
};

/// Quantizes each element by the parameters of its group. With [`Groups::Rows`], `inner` counts
/// vectors, else elements; with [`Groups::Columns`], `groups` counts vectors.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn forward_kernel<F: Float, Y: Float, P: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    parameters: LinearView<'_, P>,
    mut y: LinearViewMut<'_, Vector<Y, N>>,
    groups: usize,
    inner: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    pieces: u32,
    #[comptime] count: usize,
    #[comptime] of: Groups,
    #[comptime] kind: Kind,
    #[define(F)] _dtype: ElemType,
    #[define(Y)] _result_dtype: ElemType,
    #[define(P)] _parameter_dtype: ElemType,
) {
    if !y.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let values = x.read(ABSOLUTE_POS);
    let mut out = Vector::<Y, N>::empty();
    #[unroll]
    for lane in 0..values.vector_size() {
        let from = group_of_lane(lane, N::value(), groups, inner, of) * count;
        let x = f32::cast_from(values.extract(lane));
        let level = quantized::<P>(x, &parameters, from, steps, lowest, highest, pieces, kind);
        out.insert(lane, Y::cast_from(level));
    }
    y.write(ABSOLUTE_POS, out);
}

/// Computes the gradient of x, and sums the terms of the parameters' gradients: `partial` is
/// `[groups, splits, terms]`. A cube sums a part of the elements of `width` columns, of which a
/// vector holds `lanes` groups. `factor` is read if `rescaled`.
///
/// The last `bounds` of the terms are sums of the gradients of the bounds between pieces, which
/// `differentiated` keeps in shared memory, behind the `units` numbers for sums of columns.
///
/// If `alone`, no other cube sums the same columns: the parameters' gradients, multiplied by
/// `scale`, are written to `gradients`, and `partial` is any tensor. Else `gradients` is any
/// tensor.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn backward_kernel<F: Float, Y: Float, P: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    parameters: LinearView<'_, P>,
    factor: LinearView<'_, F>,
    grad: LinearView<'_, Vector<Y, N>>,
    mut grad_x: LinearViewMut<'_, Vector<F, N>>,
    mut partial: LinearViewMut<'_, f32>,
    mut gradients: LinearViewMut<'_, P>,
    columns: usize,
    length: usize,
    inner: usize,
    tiles: usize,
    splits: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    ewgs: f32,
    scale: f32,
    pieces: u32,
    #[comptime] count: usize,
    #[comptime] terms: usize,
    #[comptime] bounds: usize,
    #[comptime] rescaled: bool,
    #[comptime] alone: bool,
    #[comptime] of: Groups,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[comptime] kind: Kind,
    #[define(F)] _dtype: ElemType,
    #[define(Y)] _result_dtype: ElemType,
    #[define(P)] _parameter_dtype: ElemType,
) {
    let lanes = if comptime!(of == Groups::Columns) { N::value() } else { 1 };
    let kept = comptime!(terms - bounds);
    let mut shared = Shared::<[f32]>::new_slice(comptime!((1 + bounds) * units));
    let unit = UNIT_POS as usize;
    #[unroll]
    for bound in 0..bounds {
        shared[(bound + 1) * units + unit] = 0.0f32;
    }
    let column = CUBE_POS % tiles * width + unit % width;
    let split = CUBE_POS / tiles;
    let is_used = column < columns && split < splits;
    let mut sums = Array::<f32>::new(comptime!(lanes * kept));
    #[unroll]
    for term in 0..comptime!(lanes * kept) {
        sums[term] = 0.0f32;
    }
    let rescale =
        if comptime!(rescaled) { f32::cast_from(factor.read(0)) } else { 1.0f32.runtime() };
    if is_used {
        let first = column * comptime!(lanes * count);
        let step = splits * comptime!(units / width);
        let mut element = split * comptime!(units / width) + unit / width;
        while element < length {
            let at = index_in_column(element, column, columns, inner, of);
            let values = x.read(at);
            let incoming = grad.read(at);
            let mut out = Vector::<F, N>::empty();
            #[unroll]
            for lane in 0..values.vector_size() {
                let of_lane = if comptime!(of == Groups::Columns) { lane } else { 0usize };
                let passed = differentiated::<P>(
                    f32::cast_from(values.extract(lane)),
                    f32::cast_from(incoming.extract(lane)),
                    &parameters,
                    first + of_lane * count,
                    steps,
                    lowest,
                    highest,
                    ewgs,
                    rescale,
                    &mut sums,
                    of_lane * kept,
                    &mut shared,
                    pieces,
                    units,
                    kind,
                );
                out.insert(lane, F::cast_from(passed));
            }
            grad_x.write(at, out);
            element += step;
        }
    }
    #[unroll]
    for lane in 0..lanes {
        // The sum of the gradients of the bounds from that of the term on.
        let mut above = 0.0f32;
        #[unroll]
        for index in 0..terms {
            let term = terms - 1 - index;
            let value = if comptime!(term < kept) {
                sums[lane * kept + term]
            } else {
                above += shared[(term - kept + 1) * units + unit];
                above
            };
            let sum = sum_columns(value, &mut shared, units, width);
            if is_used && unit < width {
                let group = column * lanes + lane;
                if comptime!(alone) {
                    gradients.write(group * count + term, P::cast_from(sum * scale));
                } else {
                    partial.write((group * splits + split) * terms + term, sum);
                }
            }
        }
        if comptime!(alone) {
            #[unroll]
            for term in terms..count {
                if is_used && unit < width {
                    let group = column * lanes + lane;
                    gradients.write(group * count + term, P::cast_from(0.0f32));
                }
            }
        }
    }
}

/// Sums `partial`, `[groups, splits, terms]`, over the splits, and multiplies the sums by `scale`.
/// The other of the `count` gradients of a group are 0. A cube sums one group.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn finish_kernel<P: Float>(
    partial: LinearView<'_, f32>,
    mut gradients: LinearViewMut<'_, P>,
    groups: usize,
    splits: usize,
    scale: f32,
    #[comptime] count: usize,
    #[comptime] terms: usize,
    #[comptime] units: usize,
    #[define(P)] _dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    let group = CUBE_POS;
    #[unroll]
    for term in 0..count {
        if comptime!(term < terms) {
            let mut value = 0.0f32;
            if group < groups {
                let mut split = unit;
                while split < splits {
                    value += partial.read((group * splits + split) * terms + term);
                    split += units;
                }
            }
            let sum = sum_columns(value, &mut shared, units, 1usize);
            if unit == 0 && group < groups {
                gradients.write(group * count + term, P::cast_from(sum * scale));
            }
        } else if unit == 0 && group < groups {
            gradients.write(group * count + term, P::cast_from(0.0f32));
        }
    }
}
