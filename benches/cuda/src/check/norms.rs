//! Batch norms, forward and backward.

use quant_cube::{Groups, Sums};
use quant_kernels::batch_norm::{self, Epilogue, Forward, Shape};

use super::{Job, difference, grouping, job, numbers, tiling, unit, unit_of_parameters};
use crate::{
    cpu::{HostKernel, Scalars},
    kernels::norms as kernels,
    tensor::{Numbers, Placed, drawn},
    variant::{Type, UNITS, Variant},
};

pub(super) fn normalize(v: Variant, adds: bool, relu: bool) -> Job {
    let kernels = vec![kernels::normalize(v, adds, relu)];
    job(kernels, move |kernels| run_normalize(&kernels[0], v, adds, relu))
}

pub(super) fn whole(v: Variant, adds: bool, relu: bool) -> Job {
    let kernels = vec![
        kernels::moments(v, UNITS),
        kernels::statistics(v, 32, true),
        kernels::gradient_sums(v, relu, UNITS),
        kernels::parameter_gradients(v, 32),
        kernels::input_gradient(elementwise(v), adds, relu),
    ];
    job(kernels, move |kernels| run_batch_norm(kernels, v, adds, relu))
}

/// Returns the variant of the kernel that computes element by element beside one that sums rows.
fn elementwise(v: Variant) -> Variant {
    let of_any = v.groups == Groups::Rows && v.vector == 1;
    Variant { groups: if of_any { Groups::Any } else { v.groups }, ..v }
}

/// Returns numbers in the order of `quant-kernels`, `[batch, channels, pixels]`, from the order of
/// the variant, or back.
fn reordered(values: &[f32], v: Variant, shape: Shape, to_rows: bool) -> Vec<f32> {
    if v.groups != Groups::Columns {
        return values.to_vec();
    }
    let mut out = vec![0.0; values.len()];
    for at in 0..values.len() {
        let (row, channel) = (at / shape.channels, at % shape.channels);
        let (image, pixel) = (row / shape.pixels, row % shape.pixels);
        let other = (image * shape.channels + channel) * shape.pixels + pixel;
        let (from, to) = if to_rows { (at, other) } else { (other, at) };
        out[to] = values[from];
    }
    out
}

/// Returns the sizes of a small tensor, and its view in the order of the variant.
fn sizes(v: Variant) -> (Shape, [usize; 3]) {
    match v.groups {
        Groups::One => {
            let pixels = 231 * v.vector;
            (Shape { batch: 1, channels: 1, pixels }, [1, 1, pixels])
        }
        Groups::Rows => {
            let pixels = 7 * v.vector;
            (Shape { batch: 3, channels: 5, pixels }, [3, 5, pixels])
        }
        Groups::Columns => {
            let channels = 3 * v.vector;
            (Shape { batch: 3, channels, pixels: 35 }, [105, channels, 1])
        }
        Groups::Any => (Shape { batch: 3, channels: 8, pixels: 7 }, [3, 8, 7]),
    }
}

const EPSILON: f32 = 1e-5;

fn run_normalize(kernel: &HostKernel, v: Variant, adds: bool, relu: bool) -> Result<(), String> {
    let (shape, view) = sizes(v);
    let elements: usize = view.iter().product();
    let mut x = Numbers::new(&drawn(1, elements), v.elements);
    let residual = Numbers::new(&drawn(2, elements), v.results);
    let mut placed = Placed::new(&residual.values(), v.results, v);
    let weight = Numbers::new(&drawn(3, shape.channels), v.parameters).values();
    let mut bias = Numbers::new(&drawn(4, shape.channels), v.parameters);
    let rows = |numbers: &Numbers| reordered(&numbers.values(), v, shape, true);
    let (xs, added) = (rows(&x), rows(&residual));
    let epilogue = Epilogue { residual: adds.then_some(added.as_slice()), relu };
    let expected = batch_norm::forward(shape, &xs, (&weight, &bias.values()), EPSILON, epilogue);
    let scale = |channel: usize| weight[channel] / (expected.variance[channel] + EPSILON).sqrt();
    let scales: Vec<f32> = (0..shape.channels).map(scale).collect();
    let mut mean = Numbers::new(&expected.mean, Type::F32);
    let mut scales = Numbers::new(&scales, Type::F32);
    let mut y = Numbers::unwritten(elements, v.results);
    let vectors = elements / v.vector;
    let channels = shape.channels;
    let before = [vectors, channels, channels, channels].map(|x| x as u64);
    let after = [vectors as u64];
    kernel.run(
        &mut [
            x.buffer(),
            mean.buffer(),
            scales.buffer(),
            bias.buffer(),
            placed.numbers.buffer(),
            y.buffer(),
        ],
        Scalars {
            integers: &[&before[..], &placed.lengths, &after, &grouping(v, view)?].concat(),
            words: &placed.shifts,
            floats: &[],
        },
        [vectors.div_ceil(UNITS), UNITS],
    );
    let expected = Numbers::new(&reordered(&expected.values, v, shape, false), v.results);
    // CubeCL rounds a product and a sum once, as a fused operation.
    let narrow = if v.results == Type::F32 { 0.0 } else { unit(v.results) };
    difference(&y.values(), &expected.values(), 1e-6 + narrow).map_or(Ok(()), Err)
}

/// Runs the kernels of a batch norm one after another, forward and backward.
fn run_batch_norm(
    kernels: &[HostKernel],
    v: Variant,
    adds: bool,
    relu: bool,
) -> Result<(), String> {
    let (shape, view) = sizes(v);
    let elements: usize = view.iter().product();
    let channels = shape.channels;
    let [moments_kernel, statistics_kernel, sums_kernel, parameters_kernel, input_kernel] = kernels
    else {
        return Err("five kernels are expected".into());
    };
    // A mean that is large beside the deviation.
    let values: Vec<f32> = drawn(1, elements).iter().map(|x| x * 0.5 + 9.0).collect();
    let mut x = Numbers::new(&values, v.elements);
    let g = Numbers::new(&drawn(5, elements), v.results);
    let mut placed_x = Placed::new(&values, v.elements, v);
    let mut placed_g = Placed::new(&g.values(), v.results, v);
    let mut weight = Numbers::new(&drawn(3, channels), v.parameters);
    let bias = Numbers::new(&drawn(4, channels), v.parameters).values();
    let added = Numbers::new(&drawn(2, elements), v.results).values();
    let rows = |values: &[f32]| reordered(values, v, shape, true);
    let (xs, added, ws) = (rows(&x.values()), rows(&added), weight.values());
    let epilogue = Epilogue { residual: adds.then_some(added.as_slice()), relu };
    let expected = batch_norm::forward(shape, &xs, (&ws, &bias), EPSILON, epilogue);
    let lengths = |of: &[usize]| of.iter().map(|x| *x as u64).collect::<Vec<u64>>();
    let vectors = elements / v.vector;
    let float = |values: &[f32]| Numbers::new(values, Type::F32);
    for cubes in [1, 64] {
        let tiles = tiling(v, view, Sums::in_registers(2), cubes)?;
        let splits = tiles.splits;
        let mut partial = float(&vec![-77.0; channels * splits * 3]);
        moments_kernel.run(
            &mut [placed_x.numbers.buffer(), partial.buffer()],
            Scalars {
                integers: &[
                    placed_x.lengths.clone(),
                    lengths(&[channels * splits * 3]),
                    numbers(&tiles).to_vec(),
                ]
                .concat(),
                words: &placed_x.shifts,
                floats: &[],
            },
            [tiles.tiles * splits, UNITS],
        );
        let [mut mean, mut variance, mut scale] = [(); 3].map(|()| float(&vec![-77.0; channels]));
        let [mut next_mean, mut next_variance] =
            [(); 2].map(|()| Numbers::unwritten(channels, v.parameters));
        let mut old_mean = weight.clone();
        let mut old = Numbers::new(&drawn(6, channels), v.parameters);
        let unbiased = (elements / channels) as f32 / ((elements / channels) as f32 - 1.0);
        statistics_kernel.run(
            &mut [
                partial.buffer(),
                weight.buffer(),
                mean.buffer(),
                variance.buffer(),
                scale.buffer(),
                old_mean.buffer(),
                old.buffer(),
                next_mean.buffer(),
                next_variance.buffer(),
            ],
            Scalars {
                integers: &[
                    lengths(&[channels * splits * 3]),
                    lengths(&[channels; 9]),
                    lengths(&[splits]),
                ]
                .concat(),
                floats: &[EPSILON, 0.75, 0.25, unbiased],
                ..Scalars::default()
            },
            [channels, 32],
        );
        let next = |old: &Numbers, batch: &[f32], factor: f32| -> Vec<f32> {
            let pairs = old.values().into_iter().zip(batch);
            pairs.map(|(old, batch)| 0.75 * old + 0.25 * factor * batch).collect()
        };
        let allowed = 3e-6 + unit_of_parameters(v);
        for (what, ours, theirs) in [
            ("mean", &next_mean, next(&weight, &expected.mean, 1.0)),
            ("variance", &next_variance, next(&old, &expected.variance, unbiased)),
        ] {
            if let Some(error) = difference(&ours.values(), &theirs, allowed) {
                return Err(format!("the running {what}, {splits} splits: {error}"));
            }
        }
        if let Some(error) = difference(&mean.values(), &expected.mean, 1e-6) {
            return Err(format!("the mean, {splits} splits: {error}"));
        }
        if let Some(error) = difference(&variance.values(), &expected.variance, 3e-6) {
            return Err(format!("the variance, {splits} splits: {error}"));
        }
        let (of_mean, of_variance) = (mean.values(), variance.values());
        // The result of the forward pass decides where a gradient passes the ReLU.
        let result = Numbers::new(&reordered(&expected.values, v, shape, false), v.results);
        let results = rows(&result.values());
        let forward = Forward {
            x: &xs,
            weight: &ws,
            mean: &of_mean,
            variance: &of_variance,
            epsilon: EPSILON,
            relu_output: relu.then_some(results.as_slice()),
            has_residual: adds,
        };
        let mut passed = rows(&g.values());
        let gradients = batch_norm::backward(shape, &forward, &mut passed);
        let by_x = gradients.input.as_ref().unwrap_or(&passed);
        let mut result = result;
        let mut partial = float(&vec![-77.0; channels * splits * 2]);
        sums_kernel.run(
            &mut [
                x.buffer(),
                result.buffer(),
                placed_g.numbers.buffer(),
                mean.buffer(),
                partial.buffer(),
            ],
            Scalars {
                integers: &[
                    lengths(&[vectors, vectors]),
                    placed_g.lengths.clone(),
                    lengths(&[channels, channels * splits * 2]),
                    numbers(&tiles).to_vec(),
                ]
                .concat(),
                words: &placed_g.shifts,
                floats: &[],
            },
            [tiles.tiles * splits, UNITS],
        );
        let [mut by_weight, mut by_bias] =
            [(); 2].map(|()| Numbers::unwritten(channels, v.parameters));
        let mut numbers = float(&vec![-77.0; channels * 3]);
        parameters_kernel.run(
            &mut [
                partial.buffer(),
                weight.buffer(),
                variance.buffer(),
                by_weight.buffer(),
                by_bias.buffer(),
                numbers.buffer(),
            ],
            Scalars {
                integers: &lengths(&[
                    channels * splits * 2,
                    channels,
                    channels,
                    channels,
                    channels,
                    channels * 3,
                    channels,
                    splits,
                ]),
                floats: &[(elements / channels) as f32, EPSILON],
                ..Scalars::default()
            },
            [channels, 32],
        );
        let of_sums = 2e-5 + unit(v.parameters);
        for (what, ours, theirs) in
            [("γ", &by_weight, &gradients.weight), ("β", &by_bias, &gradients.bias)]
        {
            if let Some(error) = difference(&ours.values(), theirs, of_sums) {
                return Err(format!("the gradient of {what}, {splits} splits: {error}"));
            }
        }
        let mut x_gradient = Numbers::unwritten(elements, v.elements);
        let mut residual_gradient = Numbers::unwritten(elements, v.results);
        input_kernel.run(
            &mut [
                x.buffer(),
                result.buffer(),
                placed_g.numbers.buffer(),
                mean.buffer(),
                numbers.buffer(),
                x_gradient.buffer(),
                residual_gradient.buffer(),
            ],
            Scalars {
                integers: &[
                    lengths(&[vectors, vectors]),
                    placed_g.lengths.clone(),
                    lengths(&[channels, channels * 3, vectors, vectors]),
                    grouping(elementwise(v), view)?.to_vec(),
                ]
                .concat(),
                words: &placed_g.shifts,
                floats: &[],
            },
            [vectors.div_ceil(UNITS), UNITS],
        );
        let allowed = 1e-5 + if v.elements == Type::F32 { 0.0 } else { unit(v.elements) };
        let ours = rows(&x_gradient.values());
        if let Some(error) = difference(&ours, by_x, allowed) {
            return Err(format!("the gradient of x, {splits} splits: {error}"));
        }
        if adds {
            let ours = rows(&residual_gradient.values());
            if let Some(error) = difference(&ours, &passed, 0.0) {
                return Err(format!("the gradient of the residual: {error}"));
            }
        }
    }
    Ok(())
}
