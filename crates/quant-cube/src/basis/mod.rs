//! The learned basis of LQ-Nets (Zhang et al. 2018): the levels of a basis, and its least squares
//! fit to data. Both are those of [`quant_kernels::quantize::Basis`], in 32 bits.

use cubecl::{client::Client, prelude::*};
use quant_kernels::quantize::Basis;

#[doc(hidden)]
pub use kernels::{Digits, ladders_kernel, level_sums_kernel, solve_kernel};

use crate::{
    Operand, Output, Walk,
    launch::{FLOAT, Limits, Sums, Tiling, UNITS, address_type, grid},
};

mod kernels;

/// The largest number of levels.
const MOST_LEVELS: usize = 256;

/// The largest length of a basis.
const MOST_BITS: usize = 8;

/// The number of levels whose elements are summed in one pass.
#[doc(hidden)]
pub const TOGETHER: usize = 4;

/// The number of elements that a unit reads together. With eight, the kernel needs too many
/// registers.
const MOST_TOGETHER: usize = 4;

/// The number of sums that there may not be: the kernel that solves counts them in 32 bits.
const MOST_PARTS: usize = 1 << 31;

/// The sums of a unit: the number and the sum of the elements of each level of a pass.
#[doc(hidden)]
pub const SUMS: Sums = Sums { registers: 2 * TOGETHER, shared: 0, of_one: true };

/// Returns the thresholds between the levels of each group, followed by the levels, both ascending:
/// `[groups, 2·levels - 1]`. `values` is the basis v, `[groups, bits]`. A level is digits·v
/// (equation 3), and the threshold between l < u is p·l + (1 - p)·u, with the share p of the lower
/// level.
pub fn levels(client: &Client, values: &Operand, basis: Basis) -> Output {
    let groups = values.binding.shape[0];
    let count = basis.levels;
    let ladders = Output::new(client, &[groups, 2 * count - 1], FLOAT);
    let units = count.next_power_of_two().clamp(32, UNITS);
    let middle = count.div_ceil(2);
    ladders_kernel::launch(
        client,
        grid(groups),
        CubeDim::new_1d(units as u32),
        address_type(&[values, &ladders.operand(FLOAT)]),
        in_memory(values).view(),
        ladders.operand(FLOAT).view(),
        values.binding.strides[0],
        values.binding.strides[1],
        groups,
        basis.bits,
        count,
        basis.share(0) as f32,
        basis.share(middle) as f32,
        basis.share(count) as f32,
        digits(basis),
        units,
    );
    ladders
}

/// Returns the least squares basis (BᵀB)⁻¹Bᵀx of each group of x, viewed as `view`, where B has the
/// digits of each element's level (equation 8), and in the last column how much rounding errors
/// were amplified: `[groups, bits + 1]`. Where a system is singular, 1e-4 of its trace is added to
/// the diagonal; where it still is, the basis stays as it is. The elements are summed in a fixed
/// order.
///
/// # Panics
/// If the sums of the levels of all groups take 8 GB.
pub fn fit(
    client: &Client,
    x: &Operand,
    values: &Operand,
    basis: Basis,
    view: [usize; 3],
) -> Output {
    let (groups, count) = (view[1], basis.levels);
    let ladders = levels(client, values, basis).operand(FLOAT);
    let walk = Walk::of(&x.binding.shape, &x.binding.strides, view);
    let input = x.presented(&walk);
    let limits = Limits::of(client);
    let limits = Limits { elements: limits.elements.min(MOST_TOGETHER), ..limits };
    let tiling = Tiling::new(limits, &[&input], walk.view, SUMS);
    let partial = Output::new(client, &[groups, tiling.splits, count, 2], FLOAT).operand(FLOAT);
    assert!(
        partial.elements() < MOST_PARTS,
        "{groups} groups of {count} levels have too many sums to fit their bases"
    );
    for from in (0..count).step_by(TOGETHER) {
        level_sums_kernel::launch(
            client,
            grid(tiling.tiles * tiling.splits),
            CubeDim::new_1d(tiling.units as u32),
            tiling.address_type(&[&input, &partial]),
            tiling.vector,
            input.clone().view(),
            ladders.clone().view(),
            partial.clone().view(),
            tiling.path(),
            from as u32,
            count as u32,
            tiling.of,
            tiling.width,
            tiling.units,
            x.dtype,
        );
    }
    let fitted = Output::new(client, &[groups, basis.bits + 1], FLOAT);
    solve_kernel::launch(
        client,
        grid(groups),
        CubeDim::new_1d(UNITS as u32),
        AddressType::U32,
        partial.view(),
        in_memory(values).view(),
        fitted.operand(FLOAT).view(),
        values.binding.strides[0],
        values.binding.strides[1],
        groups,
        tiling.splits,
        basis.bits,
        count,
        f32::INFINITY,
        basis.weight,
        digits(basis),
        UNITS,
    );
    fitted
}

/// Returns the tensor as a row of what lies in its memory, from its first to its last element.
fn in_memory(operand: &Operand) -> Operand {
    let mut row = operand.clone();
    row.binding.shape = [operand.extent()].as_slice().into();
    row.binding.strides = [1].as_slice().into();
    row
}

fn digits(basis: Basis) -> Digits {
    Digits { ternary: basis.levels == 3, signed: basis.signed }
}
