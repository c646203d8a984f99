//! What kernels have in common: the group of an element, and sums over the threads of a block,
//! which CubeCL calls the units of a cube.

use cubecl::prelude::*;

use crate::{launch::Groups, path::Path};

/// Returns the group of the first element of the vector at `ABSOLUTE_POS`, and how many elements
/// from there on belong to it, if that may be fewer than those of the vector. With
/// [`Groups::Rows`], `inner` counts vectors; with [`Groups::Columns`], `groups` counts vectors.
#[cube]
pub(crate) fn first_group(
    #[comptime] size: usize,
    groups: usize,
    inner: usize,
    #[comptime] of: Groups,
) -> (u32, u32) {
    if comptime!(of == Groups::One) {
        (0u32.runtime(), 0u32.runtime())
    } else if comptime!(of == Groups::Rows) {
        ((ABSOLUTE_POS / inner % groups) as u32, 0u32.runtime())
    } else if comptime!(of == Groups::Columns) {
        ((ABSOLUTE_POS % groups * size) as u32, 0u32.runtime())
    } else {
        let first = ABSOLUTE_POS * size;
        let left = usize::min(inner - first % inner, size) as u32;
        ((first / inner % groups) as u32, left)
    }
}

/// Returns what [`first_group`] returns, of the element behind one of which this is known. There
/// is no division.
#[cube]
pub(crate) fn next_group(
    group: u32,
    left: u32,
    #[comptime] size: usize,
    groups: usize,
    inner: usize,
    #[comptime] of: Groups,
) -> (u32, u32) {
    if comptime!(of == Groups::Columns) {
        (group + 1, left)
    } else if comptime!(of == Groups::Any) {
        let following = select(group + 1 == groups as u32, 0, group + 1);
        let all = usize::min(inner, size) as u32;
        (select(left == 1, following, group), select(left == 1, all, left - 1))
    } else {
        (group, left)
    }
}

/// Returns the tile that this cube sums a part of, and the number of that part, as `Tiling` divides
/// a tensor. If `alone`, one cube sums all of a tile. Cubes are counted in 32 bits: divisions in 64
/// bits need many registers.
#[cube]
pub(crate) fn tile_and_split(
    path: &Path,
    #[comptime] alone: bool,
    #[comptime] of: Groups,
) -> (u32, u32) {
    let cube = CUBE_POS as u32;
    if comptime!(of == Groups::One) {
        (0u32.runtime(), cube)
    } else if comptime!(alone) {
        (cube, 0u32.runtime())
    } else {
        (cube % path.tiles as u32, cube / path.tiles as u32)
    }
}

/// Returns how many of the `width` columns of a tile are columns of the tensor. There is none if
/// the cube is one of those that only fill the grid.
#[cube]
pub(crate) fn used_columns(path: &Path, tile: u32, split: u32, #[comptime] width: usize) -> u32 {
    let first = tile as usize * width;
    let is_used = first < path.columns && (split as usize) < path.splits;
    select(is_used, usize::min(path.columns - first, width) as u32, 0)
}

/// Returns the column of this unit in a tile of `width` columns.
#[cube]
pub(crate) fn column_of_unit(tile: u32, #[comptime] width: usize) -> usize {
    tile as usize * width + UNIT_POS as usize % width
}

/// Returns the first vector of a unit: where it lies, and its place within `inner` vectors. There
/// are at most [`MOST_INNER`](crate::launch::MOST_INNER) of these. Units are counted in 32 bits, as
/// cubes are.
#[cube]
pub(crate) fn first_vector(
    path: &Path,
    column: usize,
    split: usize,
    #[comptime] rows: usize,
    #[comptime] width: usize,
    #[comptime] of: Groups,
) -> (usize, u32) {
    let element = split * rows + UNIT_POS as usize / width;
    if comptime!(of == Groups::One) {
        (element, 0u32.runtime())
    } else if comptime!(of == Groups::Columns) {
        (element * path.columns + column, 0u32.runtime())
    } else {
        let inner = path.inner as u32;
        let (outer, inside) = (element as u32 / inner, element as u32 % inner);
        ((outer as usize * path.columns + column) * path.inner + inside as usize, inside)
    }
}

/// Returns the vector of a unit that follows that at `at`, whose place within `inner` vectors is
/// `inside`. There is no division.
#[cube]
pub(crate) fn next_vector(
    path: &Path,
    at: usize,
    inside: u32,
    #[comptime] of: Groups,
) -> (usize, u32) {
    if comptime!(of == Groups::Rows) {
        let next = inside + path.inside as u32;
        let is_behind = next >= path.inner as u32;
        let skipped = select(is_behind, path.others, 0);
        (at + path.stride + skipped, select(is_behind, next - path.inner as u32, next))
    } else {
        (at + path.stride, inside)
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
