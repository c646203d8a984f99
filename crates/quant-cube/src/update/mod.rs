//! Optimizer steps of several parameters in one launch, which PyTorch calls `foreach`.

use cubecl::{client::Client, prelude::*, std::tensor::layout::linear::LinearViewLaunch};

#[doc(hidden)]
pub use kernels::{adam_kernel, sgd_kernel};

use crate::{
    Operand, Output, Walk,
    launch::{UNITS, address_type, grid},
};

mod kernels;

/// A step of stochastic gradient descent as PyTorch defines it, without dampening. With the
/// gradient g, the weight w and the velocity v, which is the tensor that it keeps:
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

/// A step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), as PyTorch defines
/// them. With the gradient g, the weight w, and the means m of gradients and v of their squares,
/// which are the tensors that it keeps, step t is:
///
/// g := g + decay·w, m := m + (1 - b1)·(g - m), v := b2·v + (1 - b2)·g²,
/// w := w - rate/(1 - b1^t)·m/(sqrt(v)/sqrt(1 - b2^t) + epsilon)
///
/// If `decoupled`, the gradient stays as it is, and the weight is first w := w·(1 - rate·decay).
/// The means start with 0. Numbers that are the same for all elements are computed in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// The learning rate.
    pub rate: f64,
    /// The number b1, the weight of the old mean.
    pub beta1: f64,
    /// The number b2, the weight of the old mean of squares.
    pub beta2: f64,
    /// The number that is added to the divisor.
    pub epsilon: f64,
    /// The weight decay.
    pub decay: f64,
    /// Whether the decay is decoupled, as in AdamW.
    pub decoupled: bool,
    /// The number of the step t, which is 1 for the first one. The means that are given for the
    /// first one are any tensors.
    pub step: usize,
}

/// The tensors of one parameter, of which an optimizer keeps `KEPT` from step to step. They have
/// one shape and one type, and may lie in memory in different orders.
#[derive(Debug, Clone)]
pub struct Parameter<const KEPT: usize> {
    /// The weight w.
    pub weight: Operand,
    /// The gradient g.
    pub gradient: Operand,
    /// What the optimizer keeps.
    pub kept: [Operand; KEPT],
}

/// The next values of a parameter. Their axes lie in memory in the order of those of the weight.
#[derive(Debug)]
pub struct Updated<const KEPT: usize> {
    /// The next weight.
    pub weight: Output,
    /// What the optimizer keeps.
    pub kept: [Output; KEPT],
}

/// Returns the largest number of parameters of a launch, for an optimizer that keeps this many
/// tensors of a parameter. So many fit on a device with 30 bindings.
pub const fn most(kept: usize) -> usize {
    28 / tensors(kept)
}

/// Returns the number of tensors of a parameter, read and written.
const fn tensors(kept: usize) -> usize {
    3 + 2 * kept
}

/// Returns the number of parameters that one launch takes on this device, for an optimizer that
/// keeps this many tensors of a parameter.
pub fn most_on(client: &Client, kept: usize) -> usize {
    // One binding has the sizes and strides, and one the numbers.
    let bindings = client.properties().hardware.max_bindings as usize;
    (bindings.saturating_sub(2) / tensors(kept)).clamp(1, most(kept))
}

/// Computes a step of all parameters. They have one type, and are at most [`most_on`].
pub fn sgd(client: &Client, parameters: &[Parameter<1>], step: Sgd) -> Vec<Updated<1>> {
    let Some(launch) = Launch::new(client, parameters) else {
        return Vec::new();
    };
    sgd_kernel::launch(
        client,
        launch.grid(),
        CubeDim::new_1d(UNITS as u32),
        launch.addresses(),
        launch.read(|parameter| &parameter.weight),
        launch.read(|parameter| &parameter.gradient),
        launch.read(|parameter| &parameter.kept[0]),
        launch.write(|updated| &updated.weight),
        launch.write(|updated| &updated.kept[0]),
        launch.ends.iter().copied().collect(),
        step.rate,
        step.decay,
        step.momentum,
        parameters.len(),
        step.nesterov,
        step.is_first,
        UNITS,
        launch.dtype,
    );
    launch.updated
}

/// Computes a step of all parameters, of which the optimizer keeps the means m and v. They have one
/// type, and are at most [`most_on`].
pub fn adam(client: &Client, parameters: &[Parameter<2>], step: Adam) -> Vec<Updated<2>> {
    let Some(launch) = Launch::new(client, parameters) else {
        return Vec::new();
    };
    let power = i32::try_from(step.step).unwrap_or(i32::MAX);
    let (remaining, decay) =
        if step.decoupled { (1.0 - step.rate * step.decay, 0.0) } else { (1.0, step.decay) };
    adam_kernel::launch(
        client,
        launch.grid(),
        CubeDim::new_1d(UNITS as u32),
        launch.addresses(),
        launch.read(|parameter| &parameter.weight),
        launch.read(|parameter| &parameter.gradient),
        launch.read(|parameter| &parameter.kept[0]),
        launch.read(|parameter| &parameter.kept[1]),
        launch.write(|updated| &updated.weight),
        launch.write(|updated| &updated.kept[0]),
        launch.write(|updated| &updated.kept[1]),
        launch.ends.iter().copied().collect(),
        (step.rate / (1.0 - step.beta1.powi(power))) as f32,
        (1.0 - step.beta2.powi(power)).sqrt() as f32,
        remaining as f32,
        decay as f32,
        (1.0 - step.beta1) as f32,
        step.beta2 as f32,
        (1.0 - step.beta2) as f32,
        step.epsilon as f32,
        parameters.len(),
        step.step <= 1,
        UNITS,
        launch.dtype,
    );
    launch.updated
}

/// What the launches of all optimizers have in common.
struct Launch<'a, const KEPT: usize> {
    parameters: &'a [Parameter<KEPT>],
    updated: Vec<Updated<KEPT>>,
    /// The order of memory of each parameter.
    walks: Vec<Walk>,
    /// The number of cubes up to the end of each parameter.
    ends: Vec<usize>,
    dtype: ElemType,
}

impl<'a, const KEPT: usize> Launch<'a, KEPT> {
    /// Allocates the next values. Returns nothing if there are no parameters.
    fn new(client: &Client, parameters: &'a [Parameter<KEPT>]) -> Option<Self> {
        let dtype = parameters.first()?.weight.dtype;
        let walk = |parameter: &Parameter<KEPT>| {
            let TensorBinding { shape, strides, .. } = &parameter.weight.binding;
            Walk::of(shape, strides, [1, 1, parameter.weight.elements()])
        };
        let walks: Vec<Walk> = parameters.iter().map(walk).collect();
        let new = |(parameter, walk): (&Parameter<KEPT>, &Walk)| {
            let new = || Output::like(client, &parameter.weight.binding.shape, walk, dtype);
            Updated { weight: new(), kept: std::array::from_fn(|_| new()) }
        };
        let updated = parameters.iter().zip(&walks).map(new).collect();
        let mut cubes = 0;
        let ends = parameters.iter().map(|parameter| {
            cubes += parameter.weight.elements().div_ceil(UNITS);
            cubes
        });
        Some(Self { parameters, updated, ends: ends.collect(), walks, dtype })
    }

    fn grid(&self) -> CubeCount {
        grid(self.ends.last().copied().unwrap_or_default())
    }

    fn addresses(&self) -> AddressType {
        let of = |each: &'a Parameter<KEPT>| {
            [&each.weight, &each.gradient].into_iter().chain(&each.kept)
        };
        address_type(&self.parameters.iter().flat_map(of).collect::<Vec<_>>())
    }

    /// Returns one tensor of each parameter, in the order of the weight's memory.
    fn read<T: FromIterator<LinearViewLaunch>>(&self, of: fn(&Parameter<KEPT>) -> &Operand) -> T {
        let view = |(each, walk): (_, &Walk)| of(each).presented(walk).view();
        self.parameters.iter().zip(&self.walks).map(view).collect()
    }

    /// Returns one of the next values of each parameter, in the order of the weight's memory.
    fn write<T: FromIterator<LinearViewLaunch>>(&self, of: fn(&Updated<KEPT>) -> &Output) -> T {
        let view = |(each, walk): (_, &Walk)| of(each).operand(self.dtype).presented(walk).view();
        self.updated.iter().zip(&self.walks).map(view).collect()
    }
}
