//! Learned bases: levels, and least squares fits.

use quant_cube::{
    Groups,
    basis::{Digits, SUMS, TOGETHER},
};
use quant_kernels::quantize::{Basis, basis_levels, fit_basis};

use super::{Job, difference, job, numbers, tiling};
use crate::{
    cpu::{HostKernel, Scalars},
    kernels::bases as kernels,
    tensor::{Numbers, Placed, drawn},
    variant::{Type, UNITS, Variant},
};

/// Fits a basis of x in the order of the variant, by the kernels one after another.
pub(super) fn fit(v: Variant, basis: Basis) -> Job {
    let of_basis = Variant { elements: Type::F32, vector: 1, strided: false, ..v };
    let digits = Digits { ternary: basis.levels == 3, signed: basis.signed };
    let kernels = vec![
        kernels::ladders(of_basis, digits, UNITS),
        kernels::level_sums(v),
        kernels::solve(Variant { wide_addresses: false, ..of_basis }, basis.weight, digits),
    ];
    job(kernels, move |kernels| run_fit(kernels, v, basis))
}

/// Returns `[outer, groups, inner]` of a tensor that a variant can read.
fn view(v: Variant) -> [usize; 3] {
    match v.groups {
        Groups::One => [1, 1, 1001 * v.vector],
        Groups::Columns => [211, 3 * v.vector, 1],
        Groups::Rows | Groups::Any => [3, 5, 21 * v.vector],
    }
}

fn run_fit(kernels: &[HostKernel], v: Variant, basis: Basis) -> Result<(), String> {
    let [ladders_kernel, sums_kernel, solve_kernel] = kernels else {
        return Err("three kernels are expected".into());
    };
    let Basis { bits, levels, .. } = basis;
    let view @ [outer, groups, inner] = view(v);
    let elements = outer * groups * inner;
    let power = |at: usize| f32::powi(2.0, (at % bits) as i32 - bits as i32 + 1);
    let of_basis = |(at, x): (usize, &f32)| (x.abs() * 0.2 + 0.8) * power(at);
    let values: Vec<f32> = drawn(2, groups * bits).iter().enumerate().map(of_basis).collect();
    let x = Numbers::new(&drawn(1, elements), v.elements);
    let mut placed = Placed::new(&x.values(), v.elements, v);
    let float = |values: &[f32]| Numbers::new(values, Type::F32);
    let lengths = |of: &[usize]| of.iter().map(|x| *x as u64).collect::<Vec<u64>>();
    let mut old = float(&values);
    let ladder = 2 * levels - 1;
    let mut ladders = float(&vec![-77.0; groups * ladder]);
    ladders_kernel.run(
        &mut [old.buffer(), ladders.buffer()],
        Scalars {
            integers: &lengths(&[groups * bits, groups * ladder, bits, 1, groups, bits, levels]),
            floats: &[0, levels.div_ceil(2), levels].map(|at| basis.share(at) as f32),
            ..Scalars::default()
        },
        [groups, UNITS],
    );
    if let Some(fault) = difference(&ladders.values(), &basis_levels(&values, basis), 1e-6) {
        return Err(format!("levels: {fault}"));
    }
    let expected = fit_basis(&x.values(), &values, basis, view);
    for cubes in [1, 64] {
        let tiles = tiling(v, view, SUMS, cubes)?;
        let splits = tiles.splits;
        let mut partial = float(&vec![-77.0; groups * splits * levels * 2]);
        for from in (0..levels).step_by(TOGETHER) {
            sums_kernel.run(
                &mut [placed.numbers.buffer(), ladders.buffer(), partial.buffer()],
                Scalars {
                    integers: &[
                        placed.lengths.clone(),
                        lengths(&[groups * ladder, groups * splits * levels * 2]),
                        numbers(&tiles).to_vec(),
                    ]
                    .concat(),
                    words: &[&placed.shifts[..], &[from as u32, levels as u32]].concat(),
                    floats: &[],
                },
                [tiles.tiles * splits, UNITS],
            );
        }
        let mut fitted = float(&vec![-77.0; groups * (bits + 1)]);
        let of_partial = groups * splits * levels * 2;
        solve_kernel.run(
            &mut [partial.buffer(), old.buffer(), fitted.buffer()],
            Scalars {
                integers: &lengths(&[
                    of_partial,
                    groups * bits,
                    groups * (bits + 1),
                    bits,
                    1,
                    groups,
                    splits,
                    bits,
                    levels,
                ]),
                floats: &[f32::INFINITY],
                ..Scalars::default()
            },
            [groups, UNITS],
        );
        for (ours, theirs) in fitted.values().chunks(bits + 1).zip(expected.chunks(bits + 1)) {
            // The comparison makes sense where the data determine the basis.
            if theirs[bits] < 1e3
                && let Some(fault) = difference(&ours[..bits], &theirs[..bits], 1e-3)
            {
                return Err(format!("fit: {fault}"));
            }
        }
    }
    Ok(())
}
