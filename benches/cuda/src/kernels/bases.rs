//! The kernels of learned bases.

use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::{
    Groups,
    basis::{self, Digits, SUMS},
};

use super::define::{Kernel, LENGTH, kernel, path, plain, tensor};
use crate::variant::{Type, UNITS, Variant, fits, summing};

/// Defines the kernel that computes thresholds and levels.
pub fn ladders(v: Variant, digits: Digits, units: usize) -> KernelDefinition {
    kernel!(
        basis::ladders_kernel,
        v,
        units,
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1,
        1,
        1,
        0.5,
        0.5,
        0.5,
        digits,
        units,
    )
}

/// Defines the kernel that counts and sums the elements of levels.
pub fn level_sums(v: Variant) -> KernelDefinition {
    kernel!(
        basis::level_sums_kernel,
        v,
        UNITS,
        v.vector,
        tensor(v.strided),
        plain(LENGTH),
        plain(LENGTH),
        path(),
        1,
        1,
        v.groups,
        v.width,
        UNITS,
        v.elements.elem(),
    )
}

/// Defines the kernel that solves the system of each group.
pub fn solve(v: Variant, weight: bool, digits: Digits) -> KernelDefinition {
    kernel!(
        basis::solve_kernel,
        v,
        UNITS,
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1,
        1,
        1,
        1,
        f32::INFINITY,
        weight,
        digits,
        UNITS,
    )
}

/// Returns the kinds of digits, with their names.
pub fn digits() -> [(&'static str, Digits); 4] {
    let of = |ternary, signed| Digits { ternary, signed };
    [
        ("unsigned", of(false, false)),
        ("signed", of(false, true)),
        ("ternary", of(true, false)),
        ("ternary_signed", of(true, true)),
    ]
}

/// Returns the variants of the kernel that sums. A vector has at most four elements.
pub fn summing_levels() -> impl Iterator<Item = Variant> {
    let narrow = |v: Variant| Variant { vector: v.vector.min(4), ..v };
    let all = summing().into_iter().filter(|v| v.results == v.elements).map(narrow);
    all.filter(|v| fits(*v, SUMS))
}

/// Returns the variants of the kernels that read a basis: both widths of addresses.
pub fn of_basis() -> [Variant; 2] {
    [false, true].map(|wide_addresses| Variant {
        elements: Type::F32,
        results: Type::F32,
        parameters: Type::F32,
        vector: 1,
        wide_addresses,
        groups: Groups::One,
        width: 1,
        strided: false,
    })
}

pub(super) fn all() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for v in summing_levels() {
        kernels.push(Kernel::new(format!("level_sums_{}", v.name()), move || level_sums(v)));
    }
    for v in of_basis() {
        for (of, digits) in digits() {
            let name = format!("{of}_{}", v.name());
            for units in [32, UNITS] {
                let define = move || ladders(v, digits, units);
                kernels.push(Kernel::new(format!("ladders_{name}_{units}"), define));
            }
            // It counts in 32 bits.
            let roles = [("activation", false), ("weight", true)];
            for (role, weight) in roles.into_iter().filter(|_| !v.wide_addresses) {
                let define = move || solve(v, weight, digits);
                kernels.push(Kernel::new(format!("solve_{role}_{name}"), define));
            }
        }
    }
    kernels
}
