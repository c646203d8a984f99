//! Optimizer steps of several parameters.

use super::{Job, difference, job, unit_of_parameters};
use crate::{
    cpu::{HostKernel, Scalars},
    kernels::{self, UNITS, Variant},
    tensor::{Numbers, drawn},
};

pub(super) fn sgd(v: Variant, nesterov: bool, is_first: bool) -> Job {
    let kernels = vec![kernels::sgd(v, SIZES.len(), nesterov, is_first)];
    job(kernels, move |kernels| run_sgd(&kernels[0], v, nesterov, is_first))
}

/// The sizes of the parameters of an optimizer step.
const SIZES: [usize; 3] = [700, 1, 256];

/// Compares the step of three parameters with the formula, in 32 bits.
fn run_sgd(kernel: &HostKernel, v: Variant, nesterov: bool, is_first: bool) -> Result<(), String> {
    let [rate, decay, momentum] = [0.1f32, 0.01, 0.9];
    let mut tensors: Vec<Vec<Numbers>> = Vec::new();
    for tensor in 0..3 {
        let of = |(at, size): (usize, &usize)| {
            Numbers::new(&drawn(10 * tensor + at as u64, *size), v.parameters)
        };
        tensors.push(SIZES.iter().enumerate().map(of).collect());
    }
    for _ in 0..2 {
        tensors.push(SIZES.iter().map(|size| Numbers::unwritten(*size, v.parameters)).collect());
    }
    let lengths = SIZES.map(|size| size as u64).repeat(5);
    let mut blocks = 0;
    let ends = SIZES.map(|size| {
        blocks += size.div_ceil(UNITS);
        blocks as u64
    });
    let mut buffers: Vec<_> = tensors.iter_mut().flatten().map(Numbers::buffer).collect();
    kernel.run(
        &mut buffers,
        Scalars {
            integers: &[lengths, ends.to_vec()].concat(),
            floats: &[rate, decay, momentum],
            ..Scalars::default()
        },
        [blocks, UNITS],
    );
    for at in 0..SIZES.len() {
        let values = |tensor: usize| tensors[tensor][at].values();
        let mut next = (Vec::new(), Vec::new());
        for ((weight, gradient), old) in values(0).iter().zip(values(1)).zip(values(2)) {
            let gradient = weight * decay + gradient;
            let velocity = if is_first { gradient } else { gradient + old * momentum };
            let direction = if nesterov { velocity * momentum + gradient } else { velocity };
            next.0.push(weight - direction * rate);
            next.1.push(velocity);
        }
        let allowed = 1e-6 + unit_of_parameters(v);
        for (what, ours, theirs) in [("weight", values(3), next.0), ("velocity", values(4), next.1)]
        {
            if let Some(error) = difference(&ours, &theirs, allowed) {
                return Err(format!("the {what} of parameter {at}: {error}"));
            }
        }
    }
    Ok(())
}
