//! Quantizers, forward and backward.

use quant_cube::quantize;
use quant_kernels::quantize::{Elementwise, Rule, quantize as quantize_on_host, quantize_backward};

use super::{Job, difference, grouping, job, numbers, tiling, unit, unit_of_parameters};
use crate::{
    cpu::{HostKernel, Scalars},
    kernels::quantizers as kernels,
    tensor::{Numbers, Placed, drawn},
    variant::{Type, UNITS, Variant},
};
use quant_cube::Groups;

pub(super) fn forward(rule: Rule, v: Variant) -> Job {
    job(vec![kernels::forward(rule, v)], move |kernels| run_forward(&kernels[0], rule, v))
}

pub(super) fn backward(rule: Rule, v: Variant) -> Job {
    let kernels = vec![
        kernels::backward(rule, v, false, UNITS),
        kernels::finish(rule, v, UNITS),
        kernels::backward(rule, v, true, UNITS),
    ];
    job(kernels, move |kernels| run_backward(kernels, rule, v))
}

/// Returns `[outer, groups, inner]` of a small tensor that a variant can read. The sizes are odd
/// but for the vectors.
fn view(v: Variant) -> [usize; 3] {
    match v.groups {
        Groups::One => [1, 1, 1001 * v.vector],
        Groups::Rows => [3, 5, 7 * v.vector],
        Groups::Columns if v.strided => [35, 6, 1],
        Groups::Columns => [211, 3 * v.vector, 1],
        Groups::Any => [3, 8, 7],
    }
}

/// Returns parameters of each group that are valid for the rule.
fn parameters(rule: Rule, groups: usize, seed: u64) -> Vec<f32> {
    let count = rule.parameters();
    let sorted = |values: &[f32]| {
        let mut values = values.to_vec();
        values.sort_by(f32::total_cmp);
        values
    };
    let positive = |x: &f32| x.abs() + 0.1;
    let row = |row: &[f32]| -> Vec<f32> {
        match rule {
            Rule::Table { thresholds } => {
                let (bounds, ladder) = row.split_at(3);
                let (limits, levels) = ladder.split_at(thresholds);
                let bounds =
                    vec![positive(&bounds[0]), -positive(&bounds[1]), positive(&bounds[2])];
                [bounds, sorted(limits), sorted(levels)].concat()
            }
            Rule::Clip { learned_bound: true, .. } => vec![row[0]],
            Rule::Step { .. } => vec![positive(&row[0]), row[1]],
            Rule::Sign { .. } => vec![row[0] * 0.5, positive(&row[1])],
            Rule::Intervals { .. } => [positive(&row[0]), row[1]]
                .into_iter()
                .chain(row[2..].iter().map(positive))
                .collect(),
            _ => row.iter().map(positive).collect(),
        }
    };
    drawn(seed, groups * count).chunks(count).flat_map(row).collect()
}

fn run_forward(kernel: &HostKernel, rule: Rule, v: Variant) -> Result<(), String> {
    let view = view(v);
    let elements: usize = view.iter().product();
    let mut values = drawn(1, elements);
    (values[0], values[1], values[2]) = (0.0, -0.5, f32::NAN);
    let x = Numbers::new(&values, v.elements);
    let mut placed = Placed::new(&values, v.elements, v);
    let mut p = Numbers::new(&parameters(rule, view[1], 2), v.parameters);
    let mut y = Numbers::unwritten(elements, v.results);
    let vectors = elements / v.vector;
    let [groups, inner] = grouping(v, view)?;
    let lengths = [p.values().len(), vectors].map(|length| length as u64);
    let [steps, lowest, highest, _] = quantize::numbers(rule);
    let expected = quantize_on_host(&x.values(), &p.values(), Elementwise { rule, view });
    kernel.run(
        &mut [placed.numbers.buffer(), p.buffer(), y.buffer()],
        Scalars {
            integers: &[&placed.lengths, &lengths[..], &[groups, inner]].concat(),
            words: &[&placed.shifts[..], &[quantize::pieces(rule)]].concat(),
            floats: &[steps, lowest, highest],
        },
        [vectors.div_ceil(UNITS), UNITS],
    );
    let expected = Numbers::new(&expected, v.results).values();
    difference(&y.values(), &expected, 0.0).map_or(Ok(()), Err)
}

fn run_backward(kernels: &[HostKernel], rule: Rule, v: Variant) -> Result<(), String> {
    let [kernel, finish, alone] = kernels else {
        return Err("three kernels are expected".into());
    };
    let view = view(v);
    let elements: usize = view.iter().product();
    let (count, kept) = (rule.parameters(), quantize::sums(rule));
    let terms = kept.all();
    let mut x = Numbers::new(&drawn(1, elements), v.elements);
    let mut p = Numbers::new(&parameters(rule, view[1], 2), v.parameters);
    let g = Numbers::new(&drawn(3, elements), v.results);
    let mut placed = Placed::new(&g.values(), v.results, v);
    let operation = Elementwise { rule, view };
    let mut expected_x = g.values();
    let (xs, ps) = (x.values(), p.values());
    let expected = quantize_backward(&xs, &ps, &mut expected_x, operation);
    // The sums of the magnitudes of the terms bound the errors of the sums.
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let mut factor = Numbers::new(&[1.0], v.elements);
    // A factor for all gradients rounds once more.
    let mut allowed_of_x = 0.0;
    if let Rule::Clip { rescale: true, signed, .. } = rule {
        let lowest = if signed { -1.0 } else { 0.0 };
        let of = |at: usize| xs[at] / ps[at / view[2] % view[1]];
        let inside = (0..elements).filter(|at| of(*at) > lowest && of(*at) < 1.0).count();
        let value = (elements as f32 / inside.max(1) as f32).sqrt();
        factor = Numbers::new(&[value], v.elements);
        allowed_of_x = unit(v.elements).max(4.0 * f32::EPSILON);
    }
    let [steps, lowest, highest, ewgs] = quantize::numbers(rule);
    let mut first: Option<Vec<f32>> = None;
    for (cubes, is_alone) in [(1, false), (64, false), (64, false), (1, true)] {
        let tiles = tiling(v, view, kept, cubes)?;
        let splits = tiles.splits;
        let mut grad_x = Numbers::unwritten(elements, v.elements);
        let mut partial = Numbers::unwritten(view[1] * splits * terms, Type::F32);
        let vectors = elements / v.vector;
        let mut sums = Numbers::unwritten(view[1] * count, v.parameters);
        let parts = partial.values().len();
        let before = [vectors, ps.len(), 1].map(|x| x as u64);
        let after = [vectors, parts, view[1] * count].map(|x| x as u64);
        let kernel = if is_alone { alone } else { kernel };
        kernel.run(
            &mut [
                x.buffer(),
                p.buffer(),
                factor.buffer(),
                placed.numbers.buffer(),
                grad_x.buffer(),
                partial.buffer(),
                sums.buffer(),
            ],
            Scalars {
                integers: &[&before[..], &placed.lengths, &after, &numbers(&tiles)].concat(),
                words: &placed.shifts,
                floats: &[steps, lowest, highest, ewgs, 0.5],
            },
            [tiles.tiles * splits, tiles.units],
        );
        if !is_alone {
            let lengths = [view[1] * splits * terms, view[1] * count, view[1], splits];
            finish.run(
                &mut [partial.buffer(), sums.buffer()],
                Scalars {
                    integers: &lengths.map(|x| x as u64),
                    floats: &[0.5],
                    ..Scalars::default()
                },
                [view[1], UNITS],
            );
        }
        let rounded = Numbers::new(&expected_x, v.elements).values();
        if let Some(error) = difference(&grad_x.values(), &rounded, allowed_of_x) {
            return Err(format!("the gradient of x: {error}"));
        }
        let half: Vec<f32> = expected.iter().map(|sum| sum * 0.5).collect();
        let allowed = 1e-5 * largest.max(elements as f32 * 0.1);
        let allowed = allowed + (allowed_of_x + unit_of_parameters(v)) * largest;
        if let Some(error) = difference(&sums.values(), &half, allowed) {
            return Err(format!("the gradients of the parameters, {splits} splits: {error}"));
        }
        if cubes == 64 {
            if first.as_ref().is_some_and(|first| *first != sums.values()) {
                return Err("the same sums differ".into());
            }
            first = Some(sums.values());
        }
    }
    Ok(())
}
