//! What kernels have in common: the group of an element, and sums over the threads of a block,
//! which CubeCL calls the units of a cube.

use cubecl::prelude::*;

use crate::launch::Groups;

/// Returns the group of a lane of the vector at `ABSOLUTE_POS`. With [`Groups::Rows`], `inner`
/// counts vectors, else elements; with [`Groups::Columns`], `groups` counts vectors.
#[cube]
pub(crate) fn group_of_lane(
    lane: usize,
    #[comptime] size: usize,
    groups: usize,
    inner: usize,
    #[comptime] of: Groups,
) -> usize {
    if comptime!(of == Groups::One) {
        0usize.runtime()
    } else if comptime!(of == Groups::Rows) {
        ABSOLUTE_POS / inner % groups
    } else if comptime!(of == Groups::Columns) {
        ABSOLUTE_POS % groups * size + lane
    } else {
        (ABSOLUTE_POS * size + lane) / inner % groups
    }
}

/// Returns the index of the vector of a column, as `Tiling` divides a tensor.
#[cube]
pub(crate) fn index_in_column(
    element: usize,
    column: usize,
    columns: usize,
    inner: usize,
    #[comptime] of: Groups,
) -> usize {
    if comptime!(of == Groups::One) {
        element
    } else if comptime!(of == Groups::Columns) {
        element * columns + column
    } else {
        (element / inner * columns + column) * inner + element % inner
    }
}

/// Returns the sum of `value` over the units of each column. The `dim` units of a cube are rows of
/// `width` units; both are powers of two. Only the units of the first row get the sum. The order of
/// the additions is fixed, so that the same values give the same sum.
#[cube]
pub(crate) fn sum_columns(
    value: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] dim: usize,
    #[comptime] width: usize,
) -> f32 {
    let unit = UNIT_POS as usize;
    // All units have read what the sum before this one left in the shared memory.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(dim / 2).runtime();
    while half >= width {
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    shared[unit]
}
