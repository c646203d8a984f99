//! Batch normalisation in training mode (Ioffe and Szegedy 2015), with an addition and a ReLU in
//! the same pass. The operations on each element are those of [`quant_kernels::batch_norm`], in 32
//! bits, whatever the type of the tensor. Mean and variance are 32-bit floats.
//!
//! Mean and variance are computed in one pass: a thread sums deviations from the first element that
//! it reads, and the moments of threads and blocks are combined in a fixed order.

use cubecl::{calculate_cube_count_elemwise, client::Client, ir::ElemType, prelude::*};

#[doc(hidden)]
pub use kernels::{
    gradient_sums_kernel, input_gradient_kernel, moments_kernel, normalize_kernel,
    parameter_gradients_kernel, statistics_kernel,
};

use crate::{
    Operand, Output, Walk,
    launch::{FLOAT, Lanes, Limits, Sums, Tiling, UNITS, address_type, grid},
};

mod kernels;

/// The scale γ and the shift β of each channel, of one type.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// The factor γ of each channel, `[channels]`.
    pub weight: &'a Operand,
    /// The number β that is added to each channel, `[channels]`.
    pub bias: &'a Operand,
}

/// The running mean and the running unbiased variance of each channel, of the type of γ and β.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// The running mean, `[channels]`.
    pub mean: &'a Operand,
    /// The running variance, `[channels]`.
    pub variance: &'a Operand,
    /// The weight of this batch in the next running values, from 0 to 1.
    pub momentum: f64,
}

/// What [`forward`] does beside normalising.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The constant ε that is added to the variance.
    pub epsilon: f32,
    /// The tensor that is added to the result, of the type `dtype`.
    pub residual: Option<&'a Operand>,
    /// Whether a ReLU is applied last.
    pub relu: bool,
    /// The running values that are continued.
    pub running: Option<Running<'a>>,
    /// The type of the result, which may differ from that of x.
    pub dtype: ElemType,
}

/// The result of [`forward`].
#[derive(Debug)]
pub struct Normalized {
    /// The values γ·(x - mean)/√(variance + ε) + β, after addition and ReLU.
    pub values: Output,
    /// The mean of each channel, `[channels]`.
    pub mean: Output,
    /// The biased variance of each channel, `[channels]`.
    pub variance: Output,
    /// The next running mean and the next running variance, if there were running values. With the
    /// momentum a and m elements per channel they are (1 - a)·r + a·mean and (1 - a)·r +
    /// a·variance·m/(m - 1).
    pub running: Option<[Output; 2]>,
}

/// The tensors of the forward pass that [`backward`] needs.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// The input of the forward pass.
    pub x: &'a Operand,
    /// The scale γ of each channel.
    pub weight: &'a Operand,
    /// The mean of each channel.
    pub mean: &'a Operand,
    /// The biased variance of each channel.
    pub variance: &'a Operand,
    /// The constant ε that is added to the variance.
    pub epsilon: f32,
    /// The result, if a ReLU was applied last.
    pub relu_output: Option<&'a Operand>,
    /// Whether a residual was added.
    pub has_residual: bool,
}

/// The gradients that [`backward`] returns.
#[derive(Debug)]
pub struct Gradients {
    /// The gradient of x.
    pub input: Output,
    /// The gradient of γ.
    pub weight: Output,
    /// The gradient of β.
    pub bias: Output,
    /// The gradient of the residual, if one was added before a ReLU. Without a ReLU it is the
    /// gradient of the output.
    pub residual: Option<Output>,
}

/// Returns the view of a tensor `[batch, channels, ...]`.
fn view_of(shape: &[usize]) -> [usize; 3] {
    [shape[0], shape[1], shape[2..].iter().product()]
}

/// Normalises x, `[batch, channels, ...]`, by the mean and the biased variance of each channel,
/// multiplies by γ, adds β and the residual, and applies a ReLU, as the options say. The axes of
/// the result lie in memory in the order of those of x. No size may be 0.
pub fn forward(
    client: &Client,
    x: &Operand,
    affine: Affine<'_>,
    options: Options<'_>,
) -> Normalized {
    let Options { epsilon, residual, relu, running, dtype } = options;
    let shape = &x.binding.shape;
    let walk = Walk::of(shape, &x.binding.strides, view_of(shape));
    let channels = shape[1];
    let input = x.presented(&walk);
    // The sum of deviations and that of their squares.
    let tiling = Tiling::new(Limits::of(client), &[&input], walk.view, Sums::in_registers(2));
    let partial = Output::new(client, &[channels, tiling.splits, 3], FLOAT).operand(FLOAT);
    moments_kernel::launch(
        client,
        grid(tiling.tiles * tiling.splits),
        CubeDim::new_1d(tiling.units as u32),
        tiling.address_type(&[&input]),
        tiling.vector,
        input.clone().view(),
        partial.clone().view(),
        tiling.path(),
        tiling.of,
        tiling.width,
        tiling.units,
        x.dtype,
    );
    let of_channels = || Output::new(client, &[channels], FLOAT);
    let (mean, variance, scale) = (of_channels(), of_channels(), of_channels());
    let parameters = affine.weight.dtype;
    let next = running.map(|_| [(); 2].map(|()| Output::new(client, &[channels], parameters)));
    let [next_mean, next_variance] = match &next {
        Some(next) => next.each_ref().map(|output| output.operand(parameters)),
        None => [mean.operand(FLOAT), variance.operand(FLOAT)],
    };
    let [running_mean, running_variance] = match running {
        Some(running) => [running.mean, running.variance],
        None => [affine.weight; 2],
    };
    let momentum = running.map_or(0.0, |running| running.momentum);
    let elements = (x.elements() / channels) as f64;
    let units = finishing_units(tiling.splits);
    statistics_kernel::launch(
        client,
        grid(channels),
        CubeDim::new_1d(units as u32),
        address_type(&[&partial]),
        partial.view(),
        affine.weight.clone().view(),
        mean.operand(FLOAT).view(),
        variance.operand(FLOAT).view(),
        scale.operand(FLOAT).view(),
        running_mean.clone().view(),
        running_variance.clone().view(),
        next_mean.view(),
        next_variance.view(),
        channels,
        tiling.splits,
        epsilon,
        (1.0 - momentum) as f32,
        momentum as f32,
        (elements / (elements - 1.0).max(1.0)) as f32,
        running.is_some(),
        units,
        parameters,
    );
    let values = Output::like(client, shape, &walk, dtype);
    let output = values.operand(dtype).presented(&walk);
    let added = residual.map_or_else(|| input.clone(), |residual| residual.presented(&walk));
    let operands = [&input, &added, &output];
    let Lanes { vector, groups, inner, of } = Lanes::new(Limits::of(client), &operands, walk.view);
    let vectors = x.elements() / vector;
    let dim = CubeDim::new(client, vectors);
    normalize_kernel::launch(
        client,
        calculate_cube_count_elemwise(client, vectors, dim),
        dim,
        address_type(&operands),
        vector,
        input.view(),
        mean.operand(FLOAT).view(),
        scale.operand(FLOAT).view(),
        affine.bias.clone().view(),
        added.view(),
        output.view(),
        groups,
        inner,
        residual.is_some(),
        relu,
        of,
        x.dtype,
        dtype,
        affine.bias.dtype,
    );
    Normalized { values, mean, variance, running: next }
}

/// Computes the gradients of [`forward`] from the gradient of its output, as
/// [`quant_kernels::batch_norm::backward`] defines them. The gradient of x has the type of x, that
/// of the residual the type of the output.
pub fn backward(client: &Client, forward: &Forward<'_>, gradient: &Operand) -> Gradients {
    let Forward { x, weight, mean, variance, epsilon, relu_output, has_residual } = *forward;
    let shape = &x.binding.shape;
    let walk = Walk::of(shape, &x.binding.strides, view_of(shape));
    let channels = shape[1];
    let (input, gradient) = (x.presented(&walk), gradient.presented(&walk));
    let result = relu_output.map_or_else(|| gradient.clone(), |result| result.presented(&walk));
    let relu = relu_output.is_some();
    let operands = [&input, &gradient, &result];
    let tiling = Tiling::new(Limits::of(client), &operands, walk.view, Sums::in_registers(2));
    let partial = Output::new(client, &[channels, tiling.splits, 2], FLOAT).operand(FLOAT);
    gradient_sums_kernel::launch(
        client,
        grid(tiling.tiles * tiling.splits),
        CubeDim::new_1d(tiling.units as u32),
        tiling.address_type(&operands),
        tiling.vector,
        input.clone().view(),
        result.clone().view(),
        gradient.clone().view(),
        mean.clone().view(),
        partial.clone().view(),
        tiling.path(),
        relu,
        tiling.of,
        tiling.width,
        tiling.units,
        x.dtype,
        gradient.dtype,
    );
    let of_channels = || Output::new(client, &[channels], weight.dtype);
    let (weight_gradient, bias_gradient) = (of_channels(), of_channels());
    let numbers = Output::new(client, &[channels, 3], FLOAT).operand(FLOAT);
    let units = finishing_units(tiling.splits);
    parameter_gradients_kernel::launch(
        client,
        grid(channels),
        CubeDim::new_1d(units as u32),
        address_type(&[&partial]),
        partial.view(),
        weight.clone().view(),
        variance.clone().view(),
        weight_gradient.operand(weight.dtype).view(),
        bias_gradient.operand(weight.dtype).view(),
        numbers.clone().view(),
        channels,
        tiling.splits,
        (x.elements() / channels) as f32,
        epsilon,
        units,
        weight.dtype,
    );
    let x_gradient = Output::like(client, shape, &walk, x.dtype);
    let adds = has_residual && relu;
    let residual = adds.then(|| Output::like(client, shape, &walk, gradient.dtype));
    let output = x_gradient.operand(x.dtype).presented(&walk);
    let passed = residual.as_ref().map_or_else(
        || output.clone(),
        |residual| residual.operand(gradient.dtype).presented(&walk),
    );
    let operands = [&input, &gradient, &result, &output];
    let Lanes { vector, groups, inner, of } = Lanes::new(Limits::of(client), &operands, walk.view);
    let vectors = x.elements() / vector;
    let dim = CubeDim::new(client, vectors);
    input_gradient_kernel::launch(
        client,
        calculate_cube_count_elemwise(client, vectors, dim),
        dim,
        address_type(&operands),
        vector,
        input.view(),
        result.view(),
        gradient.clone().view(),
        mean.clone().view(),
        numbers.view(),
        output.view(),
        passed.view(),
        groups,
        inner,
        adds,
        relu,
        of,
        x.dtype,
        gradient.dtype,
    );
    Gradients { input: x_gradient, weight: weight_gradient, bias: bias_gradient, residual }
}

/// Returns the number of units that combine the parts of a channel.
fn finishing_units(splits: usize) -> usize {
    splits.next_power_of_two().clamp(32, UNITS)
}
