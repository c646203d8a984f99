//! Quantizers. The arithmetic is in 32 bits, whatever the type of the tensor.
//!
//! Divisions on GPUs may have an error of an ulp or two, so that values near a threshold may take
//! the next level.

use cubecl::{calculate_cube_count_elemwise, client::Client, ir::ElemType, prelude::*};
use quant_kernels::quantize::{Elementwise, Rule, SignSlope};

pub use formula::Kind;
#[doc(hidden)]
pub use kernels::{backward_kernel, finish_kernel, forward_kernel};

use crate::{
    Operand, Output, Walk,
    launch::{FLOAT, Lanes, Limits, Sums, Tiling, UNITS, address_type, grid},
};

mod formula;
mod kernels;

impl Kind {
    /// Returns the properties of a rule that kernels are compiled for.
    pub fn of(rule: Rule) -> Self {
        match rule {
            Rule::Clip { signed, learned_bound, .. } => Kind::Clip(signed, learned_bound),
            Rule::Step { .. } => Kind::Step,
            Rule::Slopes { signed: true, .. } => Kind::SignedSlopes,
            Rule::Slopes { pieces, .. } => Kind::Slopes(pieces),
            Rule::Intervals { .. } => Kind::Intervals,
            Rule::Ternary => Kind::Ternary,
            Rule::Table { thresholds } => Kind::Table(thresholds),
            Rule::Sign { slope: SignSlope::One } => Kind::Sign(0),
            Rule::Sign { slope: SignSlope::Box } => Kind::Sign(1),
            Rule::Sign { slope: SignSlope::Triangle } => Kind::Sign(2),
        }
    }
}

/// Returns how a unit sums the gradients of the parameters of a group. Those that have gradients
/// come first.
pub fn sums(rule: Rule) -> Sums {
    match rule {
        Rule::Intervals { pieces } => Sums { registers: 1, shared: 1 + pieces, of_one: true },
        // A unit that searches the tables of several groups needs many registers.
        Rule::Table { .. } => Sums { registers: 1, shared: 0, of_one: true },
        Rule::Sign { .. } => Sums::in_registers(1),
        Rule::Ternary => Sums::in_registers(2),
        rule => Sums::in_registers(rule.parameters()),
    }
}

/// Returns the number of pieces that `forward_kernel` gets at run time.
pub fn pieces(rule: Rule) -> u32 {
    match rule {
        Rule::Intervals { pieces } => pieces as u32,
        _ => 0,
    }
}

/// Returns the number of steps, the lower and the upper bound of the clamp, and the factor d of
/// element-wise gradient scaling.
pub fn numbers(rule: Rule) -> [f32; 4] {
    match rule {
        Rule::Clip { steps, signed, ewgs, .. } => {
            [steps, if signed { -1.0 } else { 0.0 }, 1.0, ewgs]
        }
        Rule::Step { lowest, highest, ewgs } => [highest - lowest, lowest, highest, ewgs],
        _ => [1.0, 0.0, 1.0, 0.0],
    }
}

/// Returns the quantized values of x in the type `dtype`. `parameters` is `[groups, parameters]`
/// without gaps. The axes of the result lie in memory in the order of those of x.
pub fn quantize(
    client: &Client,
    x: &Operand,
    parameters: &Operand,
    operation: Elementwise,
    dtype: ElemType,
) -> Output {
    let Elementwise { rule, view } = operation;
    let walk = Walk::of(&x.binding.shape, &x.binding.strides, view);
    let y = Output::like(client, &x.binding.shape, &walk, dtype);
    let elements = x.elements();
    if elements == 0 {
        return y;
    }
    let (input, output) = (x.presented(&walk), y.operand(dtype).presented(&walk));
    let operands = [&input, &output];
    let limits = Limits::of(client).of_groups(walk.view);
    let Lanes { vector, groups, inner, of } = Lanes::new(limits, &operands, walk.view);
    let units = elements / vector;
    let dim = CubeDim::new(client, units);
    let cubes = calculate_cube_count_elemwise(client, units, dim);
    let [steps, lowest, highest, _] = numbers(rule);
    forward_kernel::launch(
        client,
        cubes,
        dim,
        address_type(&operands),
        vector,
        input.view(),
        parameters.clone().view(),
        output.view(),
        groups,
        inner,
        steps,
        lowest,
        highest,
        pieces(rule),
        rule.parameters(),
        of,
        Kind::of(rule),
        x.dtype,
        dtype,
        parameters.dtype,
    );
    y
}

/// Returns the gradients by x and by the parameters. The latter is multiplied by
/// `parameter_gradient_scale`. `factor` is the number by which `Rule::Clip` rescales gradients, if
/// it does. The axes of the first gradient lie in memory in the order of those of x. The incoming
/// gradient may be of another type than x.
pub fn quantize_backward(
    client: &Client,
    x: &Operand,
    parameters: &Operand,
    factor: Option<&Operand>,
    grad: &Operand,
    operation: Elementwise,
    parameter_gradient_scale: f32,
) -> (Output, Output) {
    let Elementwise { rule, view } = operation;
    let walk = Walk::of(&x.binding.shape, &x.binding.strides, view);
    let (sums, count, groups) = (sums(rule), rule.parameters(), view[1]);
    let terms = sums.all();
    let grad_x = Output::like(client, &x.binding.shape, &walk, x.dtype);
    let gradients = Output::new(client, &[groups, count], parameters.dtype);
    let [input, gradient] = [x, grad].map(|operand| operand.presented(&walk));
    let output = grad_x.operand(x.dtype).presented(&walk);
    let operands = [&input, &gradient, &output];
    let tiling = Tiling::new(Limits::of(client), &operands, walk.view, sums);
    let results = gradients.operand(parameters.dtype);
    let alone = tiling.splits == 1;
    let partial = if alone {
        results.clone()
    } else {
        Output::new(client, &[groups, tiling.splits, terms], FLOAT).operand(FLOAT)
    };
    let [steps, lowest, highest, ewgs] = numbers(rule);
    backward_kernel::launch(
        client,
        grid(tiling.tiles * tiling.splits),
        CubeDim::new_1d(tiling.units as u32),
        tiling.address_type(&operands),
        tiling.vector,
        input.view(),
        parameters.clone().view(),
        factor.unwrap_or(parameters).clone().view(),
        gradient.view(),
        output.view(),
        partial.clone().view(),
        results.clone().view(),
        tiling.path(),
        steps,
        lowest,
        highest,
        ewgs,
        parameter_gradient_scale,
        count,
        terms,
        sums.shared,
        factor.is_some(),
        alone,
        tiling.of,
        tiling.width,
        tiling.units,
        Kind::of(rule),
        x.dtype,
        grad.dtype,
        parameters.dtype,
    );
    if alone {
        return (grad_x, gradients);
    }
    let units = tiling.splits.next_power_of_two().clamp(32, UNITS);
    finish_kernel::launch(
        client,
        grid(groups),
        CubeDim::new_1d(units as u32),
        address_type(&[&partial]),
        partial.view(),
        results.view(),
        groups,
        tiling.splits,
        parameter_gradient_scale,
        count,
        terms,
        units,
        parameters.dtype,
    );
    (grad_x, gradients)
}
