//! The numbers by which kernels that sum step through a tensor.

#![expect(missing_docs, reason = "CubeCL makes structures of launches, without documentation")]

use cubecl::prelude::*;

/// How the units of a kernel step through a tensor, as `Tiling` divides it. All are numbers of
/// vectors, but the first three.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Path {
    /// The number of columns.
    pub columns: usize,
    /// The number of tiles of columns.
    pub tiles: usize,
    /// The number of cubes that share a tile.
    pub splits: usize,
    /// The number of vectors of all columns.
    pub end: usize,
    /// The number of vectors of a column that follow each other.
    pub inner: usize,
    /// The distance between a vector of a unit and its next one. It leads too far within `inner`
    /// vectors.
    pub stride: usize,
    /// The part of `stride` that leads from place to place within `inner` vectors.
    pub inside: usize,
    /// The distance from the end of `inner` vectors to where the next of this column begin.
    pub others: usize,
}
