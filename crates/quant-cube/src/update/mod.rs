//! Optimizer steps of several parameters in one launch, which PyTorch calls `foreach`.

use cubecl::{client::Client, prelude::*};

#[doc(hidden)]
pub use kernels::sgd_kernel;

use crate::{
    Operand, Output, Walk,
    launch::{UNITS, address_type, grid},
};

mod kernels;

/// A step of stochastic gradient descent as PyTorch defines it, without dampening. With the
/// gradient g, the weight w and the velocity v:
///
/// g := g + decay·w, v := g + momentum·v, w := w - rate·v,
///
/// or w := w - rate·(g + momentum·v) if `nesterov`. Velocities start with v := g.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub rate: f32,
    /// The L2 weight decay.
    pub decay: f32,
    /// The weight of the old velocity.
    pub momentum: f32,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Whether there are no velocities yet. Those that are given are then any tensors.
    pub is_first: bool,
}

/// The tensors of one parameter. They have one shape and one type, and may lie in memory in
/// different orders.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The weight w.
    pub weight: Operand,
    /// The gradient g.
    pub gradient: Operand,
    /// The velocity v.
    pub velocity: Operand,
}

/// The next values of a parameter. Their axes lie in memory in the order of those of the weight.
#[derive(Debug)]
pub struct Updated {
    /// The next weight.
    pub weight: Output,
    /// The next velocity.
    pub velocity: Output,
}

/// The number of tensors of a parameter, read and written.
const TENSORS: usize = 5;

/// The largest number of parameters of a launch.
pub const MOST: usize = 5;

/// Returns the number of parameters that one launch takes on this device.
pub fn most(client: &Client) -> usize {
    // One binding has the sizes and strides, and one the numbers.
    let bindings = client.properties().hardware.max_bindings as usize;
    (bindings.saturating_sub(2) / TENSORS).clamp(1, MOST)
}

/// Computes a step of all parameters. They have one type, and are at most [`most`].
pub fn sgd(client: &Client, parameters: &[Parameter], step: Sgd) -> Vec<Updated> {
    let Some(first) = parameters.first() else {
        return Vec::new();
    };
    let dtype = first.weight.dtype;
    let walks: Vec<Walk> = parameters
        .iter()
        .map(|parameter| {
            let TensorBinding { shape, strides, .. } = &parameter.weight.binding;
            Walk::of(shape, strides, [1, 1, parameter.weight.elements()])
        })
        .collect();
    let new = |(parameter, walk): (&Parameter, &Walk)| {
        let new = || Output::like(client, &parameter.weight.binding.shape, walk, dtype);
        Updated { weight: new(), velocity: new() }
    };
    let updated: Vec<Updated> = parameters.iter().zip(&walks).map(new).collect();
    let mut cubes = 0;
    let ends = parameters.iter().map(|parameter| {
        cubes += parameter.weight.elements().div_ceil(UNITS);
        cubes
    });
    let ends: Vec<usize> = ends.collect();
    let all: Vec<&Operand> =
        parameters.iter().flat_map(|of| [&of.weight, &of.gradient, &of.velocity]).collect();
    let addresses = address_type(&all);
    let views = |of: fn(&Parameter) -> &Operand| {
        parameters.iter().zip(&walks).map(|(each, walk)| of(each).presented(walk).view()).collect()
    };
    let outputs = |of: fn(&Updated) -> &Output| {
        let view = |(each, walk): (&Updated, &Walk)| of(each).operand(dtype).presented(walk).view();
        updated.iter().zip(&walks).map(view).collect()
    };
    sgd_kernel::launch(
        client,
        grid(cubes),
        CubeDim::new_1d(UNITS as u32),
        addresses,
        views(|parameter| &parameter.weight),
        views(|parameter| &parameter.gradient),
        views(|parameter| &parameter.velocity),
        outputs(|updated| &updated.weight),
        outputs(|updated| &updated.velocity),
        ends.into_iter().collect(),
        step.rate,
        step.decay,
        step.momentum,
        parameters.len(),
        step.nesterov,
        step.is_first,
        UNITS,
        dtype,
    );
    updated
}
