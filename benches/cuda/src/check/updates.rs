//! Optimizer steps of several parameters.

use super::{Job, difference, job, unit_of_parameters};
use crate::{
    cpu::{HostKernel, Scalars},
    kernels::updates as kernels,
    tensor::{Numbers, drawn},
    variant::{UNITS, Variant},
};

pub(super) fn sgd(v: Variant, nesterov: bool, is_first: bool) -> Job {
    let kernels = vec![kernels::sgd(v, SIZES.len(), nesterov, is_first)];
    job(kernels, move |kernels| run_sgd(&kernels[0], v, nesterov, is_first))
}

pub(super) fn adam(v: Variant, is_first: bool) -> Job {
    let kernels = vec![kernels::adam(v, SIZES.len(), is_first)];
    job(kernels, move |kernels| run_adam(&kernels[0], v, is_first))
}

/// The sizes of the parameters of an optimizer step.
const SIZES: [usize; 3] = [700, 1, 256];

/// Runs a kernel on tensors of each parameter, of which it reads the first `read` and writes the
/// others. Returns the values of the tensors, and those of each parameter in them.
fn run(
    kernel: &HostKernel,
    v: Variant,
    [read, written]: [usize; 2],
    floats: &[f32],
) -> Vec<Vec<Vec<f32>>> {
    let drawn = |tensor: usize, at: usize| {
        let values = drawn((10 * tensor + at) as u64, SIZES[at]);
        // A mean of squares is not negative.
        let values = if tensor == 3 { values.iter().map(|x| x.abs()).collect() } else { values };
        Numbers::new(&values, v.parameters)
    };
    let mut tensors: Vec<Vec<Numbers>> = Vec::new();
    for tensor in 0..read + written {
        let of = |at: usize| match tensor < read {
            true => drawn(tensor, at),
            false => Numbers::unwritten(SIZES[at], v.parameters),
        };
        tensors.push((0..SIZES.len()).map(of).collect());
    }
    let lengths = SIZES.map(|size| size as u64).repeat(read + written);
    let mut blocks = 0;
    let ends = SIZES.map(|size| {
        blocks += size.div_ceil(UNITS);
        blocks as u64
    });
    let mut buffers: Vec<_> = tensors.iter_mut().flatten().map(Numbers::buffer).collect();
    let integers = [lengths, ends.to_vec()].concat();
    let scalars = Scalars { integers: &integers, floats, ..Scalars::default() };
    kernel.run(&mut buffers, scalars, [blocks, UNITS]);
    let values = |of: &Vec<Numbers>| of.iter().map(Numbers::values).collect();
    tensors.iter().map(values).collect()
}

fn compare(v: Variant, what: &str, at: usize, ours: &[f32], theirs: &[f32]) -> Result<(), String> {
    match difference(ours, theirs, 1e-6 + unit_of_parameters(v)) {
        Some(error) => Err(format!("the {what} of parameter {at}: {error}")),
        None => Ok(()),
    }
}

/// Compares the step of three parameters with the formula, in 32 bits.
fn run_sgd(kernel: &HostKernel, v: Variant, nesterov: bool, is_first: bool) -> Result<(), String> {
    let [rate, decay, momentum] = [0.1f32, 0.01, 0.9];
    let tensors = run(kernel, v, [3, 2], &[rate, decay, momentum]);
    for (at, _) in SIZES.iter().enumerate() {
        let values = |tensor: usize| &tensors[tensor][at];
        let mut next = (Vec::new(), Vec::new());
        for ((weight, gradient), old) in values(0).iter().zip(values(1)).zip(values(2)) {
            let gradient = weight * decay + gradient;
            let velocity = if is_first { gradient } else { gradient + old * momentum };
            let direction = if nesterov { velocity * momentum + gradient } else { velocity };
            next.0.push(weight - direction * rate);
            next.1.push(velocity);
        }
        compare(v, "weight", at, values(3), &next.0)?;
        compare(v, "velocity", at, values(4), &next.1)?;
    }
    Ok(())
}

/// Compares the step of three parameters with the formula, in 32 bits.
fn run_adam(kernel: &HostKernel, v: Variant, is_first: bool) -> Result<(), String> {
    let [rate, correction, remaining, decay] = [0.1f32, 0.5, 0.99, 0.01];
    let [beta1, beta2, epsilon] = [0.9f32, 0.99, 1e-3];
    let [share, share_of_squares] = [1.0 - beta1, 1.0 - beta2];
    let floats = [rate, correction, remaining, decay, share, beta2, share_of_squares, epsilon];
    let tensors = run(kernel, v, [4, 3], &floats);
    for (at, _) in SIZES.iter().enumerate() {
        let values = |tensor: usize| &tensors[tensor][at];
        let mut next = [Vec::new(), Vec::new(), Vec::new()];
        for (index, (weight, gradient)) in values(0).iter().zip(values(1)).enumerate() {
            let [mean, square] =
                if is_first { [0.0; 2] } else { [values(2)[index], values(3)[index]] };
            let gradient = weight * decay + gradient;
            let mean = beta1 * mean + share * gradient;
            let square = beta2 * square + share_of_squares * gradient * gradient;
            let step = rate * mean / (square.sqrt() / correction + epsilon);
            next[0].push(weight * remaining - step);
            next[1].push(mean);
            next[2].push(square);
        }
        for (what, (tensor, next)) in
            ["weight", "mean", "mean of squares"].into_iter().zip((4..).zip(&next))
        {
            compare(v, what, at, values(tensor), next)?;
        }
    }
    Ok(())
}
