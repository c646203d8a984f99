//! The loops of the quantizers over tensors.

#![expect(missing_docs, reason = "CubeCL makes modules of kernels, without documentation")]

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

use super::formula::{Kind, add_interval_steps, differentiated, quantized, write_piece};
use crate::{
    block::{
        column_of_unit, first_group, first_vector, next_group, next_vector, sum_columns,
        tile_and_split, used_columns,
    },
    launch::{Groups, numbers_of_pieces},
    path::Path,
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
    let lanes = N::value();
    let mut xs = Array::<f32>::new(lanes);
    let mut integers = Array::<f32>::new(lanes);
    let mut out = Vector::<Y, N>::empty();
    // The elements of a run belong to one group.
    let run = comptime!(if of == Groups::One || of == Groups::Rows { lanes } else { 1 });
    let (mut group, mut left) = first_group(lanes, groups, inner, of);
    #[unroll]
    for index in 0..comptime!(lanes / run) {
        let first = index * run;
        let from = group as usize * count;
        #[unroll]
        for lane in 0..run {
            xs[first + lane] = f32::cast_from(values.extract(first + lane));
            integers[first + lane] = 0.0f32;
        }
        if comptime!(kind == Kind::Intervals) {
            add_interval_steps::<P>(&xs, &mut integers, &parameters, from, pieces, first, run);
        }
        #[unroll]
        for lane in 0..run {
            let (x, integer) = (xs[first + lane], integers[first + lane]);
            let level = quantized::<P>(x, integer, &parameters, from, steps, lowest, highest, kind);
            out.insert(first + lane, Y::cast_from(level));
        }
        let next = next_group(group, left, lanes, groups, inner, of);
        group = next.0;
        left = next.1;
    }
    y.write(ABSOLUTE_POS, out);
}

/// Computes the gradient of x, and sums the terms of the parameters' gradients: `partial` is
/// `[groups, splits, terms]`. A cube sums a part of the elements of `width` columns, of which a
/// vector holds `lanes` groups. `factor` is read if `rescaled`.
///
/// The last `bounds` of the terms are sums of the gradients of the bounds between pieces, which
/// `differentiated` keeps in shared memory, behind the `units` numbers for sums of columns, and
/// before what it needs of the pieces of each of the `width` columns.
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
    path: Path,
    steps: f32,
    lowest: f32,
    highest: f32,
    ewgs: f32,
    scale: f32,
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
    let of_pieces = comptime!(numbers_of_pieces(bounds) * width);
    let mut shared = Shared::<[f32]>::new_slice(comptime!((1 + bounds) * units + of_pieces));
    let unit = UNIT_POS as usize;
    #[unroll]
    for bound in 0..bounds {
        shared[(bound + 1) * units + unit] = 0.0f32;
    }
    let (tile, split) = tile_and_split(&path, alone, of);
    // Behind the loop they are read from here, so that no registers hold them during the loop.
    let by_columns = comptime!(of == Groups::Columns);
    let used = used_columns(&path, tile, split, width);
    let mut place = Shared::<[u32]>::new_slice(comptime!(if by_columns { 3usize } else { 2 }));
    if UNIT_POS == 0 {
        place[0] = tile;
        place[1] = split;
        if comptime!(by_columns) {
            place[2] = used;
        }
    }
    let (column, split) = (column_of_unit(tile, width), split as usize);
    if comptime!(bounds > 0) {
        let from = comptime!((1 + bounds) * units);
        let mut index = unit;
        while index < comptime!(bounds * width) {
            let (piece, at) = (index / width, from + index % width);
            let first = (tile as usize * width + index % width) * count;
            if first < path.columns * count {
                let pieces = comptime!(bounds - 1);
                write_piece::<P>(&parameters, first, piece, &mut shared, at, width, pieces);
            }
            index += units;
        }
        sync_cube();
    }
    let mut sums = Array::<f32>::new(comptime!(lanes * kept));
    #[unroll]
    for term in 0..comptime!(lanes * kept) {
        sums[term] = 0.0f32;
    }
    let rescale =
        if comptime!(rescaled) { f32::cast_from(factor.read(0)) } else { 1.0f32.runtime() };
    let is_used = if comptime!(by_columns) {
        UNIT_POS % comptime!(width as u32) < used
    } else {
        column < path.columns && split < path.splits
    };
    if is_used {
        let first = column * comptime!(lanes * count);
        let rows = comptime!(units / width);
        let (mut at, mut inside) = first_vector(&path, column, split, rows, width, of);
        while at < path.end {
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
                    bounds,
                    width,
                    units,
                    kind,
                );
                out.insert(lane, F::cast_from(passed));
            }
            grad_x.write(at, out);
            let next = next_vector(&path, at, inside, of);
            at = next.0;
            inside = next.1;
        }
    }
    sync_cube();
    let (column, split) = (column_of_unit(place[0], width), place[1] as usize);
    let is_used = if comptime!(by_columns) {
        UNIT_POS % comptime!(width as u32) < place[2]
    } else {
        column < path.columns && split < path.splits
    };
    let writes = unit < width && is_used;
    #[unroll]
    for lane in 0..lanes {
        let group = column * lanes + lane;
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
            if writes {
                if comptime!(alone) {
                    gradients.write(group * count + term, P::cast_from(sum * scale));
                } else {
                    partial.write((group * path.splits + split) * terms + term, sum);
                }
            }
        }
        if comptime!(alone) {
            // Units share the zeros among them.
            let mut term = unit / width + terms;
            while term < count && is_used {
                gradients.write(group * count + term, P::cast_from(0.0f32));
                term += comptime!(units / width);
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
    for term in 0..terms {
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
    }
    // Units share the zeros among them.
    let mut term = terms + unit;
    while term < count && group < groups {
        gradients.write(group * count + term, P::cast_from(0.0f32));
        term += units;
    }
}
