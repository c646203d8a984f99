//! The operations of this crate on tensors. Those of quantizers are one backend extension trait
//! with a fallback composed of tensor operations, a hand-written backward pass, and kernels where a
//! backend has them. The other operations are in `tensor_ops`.
//!
//! Backends are named in this module only.

#![cfg_attr(
    not(any(feature = "flex", feature = "cube")),
    expect(unused_variables, reason = "without a backend, no call takes the arguments")
)]

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    tensor::{FloatDType, Tensor},
};

#[cfg(feature = "cube")]
use burn::tensor::DType;

mod autodiff;
mod clip;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
pub(crate) mod reference;
mod tensor_ops;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub(crate) use clip::ClipQuantize;
#[cfg(feature = "cube")]
#[doc(hidden)]
pub use cube::{operand, tensor};
pub use quant_kernels::quantize::{Basis, Elementwise, MAX_INTERVALS, Rule, SignSlope};
pub use tensor_ops::{GradientMap, TensorOps, mapped_on_host, padded};

use crate::gradient::Estimator;

impl From<Estimator> for SignSlope {
    fn from(estimator: Estimator) -> Self {
        match estimator {
            Estimator::Identity => SignSlope::One,
            Estimator::Triangle => SignSlope::Triangle,
            Estimator::Clipped | Estimator::SteScale | Estimator::Ewgs => SignSlope::Box,
        }
    }
}

/// What a differentiable call of a quantizer does beside quantizing.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The factor on the gradients of the parameters.
    pub parameter_gradient_scale: f32,
    /// The type of the result.
    pub output: FloatDType,
    /// Whether the graph keeps the result for the operations that follow, instead of computing it
    /// again in the backward pass.
    pub keeps_result: bool,
}

/// The operations of quantization, with their backward passes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub trait QuantOps: Backend {
    /// Returns the quantized values of x in the type `output`, as [`Rule`] says. `parameters` is
    /// `[groups, parameters]`. The arithmetic has the type of x, or 32 bits.
    #[fusion(dtype = DType::from(*output), shape = x)]
    fn fake_quantize(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
        output: FloatDType,
    ) -> FloatTensor<Self> {
        reference::fake_quantize::<Self>(x, parameters, operation, output)
    }

    /// Returns the gradients of [`fake_quantize`](Self::fake_quantize) by x and by the parameters.
    /// The latter is multiplied by `parameter_gradient_scale`. `grad` has the type of the result.
    #[fusion(meta = |x, parameters, _grad, _operation, _scale| (x.clone(), parameters.clone()))]
    fn fake_quantize_backward(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        operation: Elementwise,
        parameter_gradient_scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (grad_x, gradients) =
            reference::fake_quantize_backward::<Self>(x, parameters, grad, operation);
        (grad_x, Self::float_mul_scalar(gradients, parameter_gradient_scale.into()))
    }

    /// Does the same as [`fake_quantize`](Self::fake_quantize), as a differentiable operation. The
    /// autodiff backend overrides it; all other backends compute only the value.
    #[fusion(dtype = DType::from(call.output), shape = x)]
    fn fake_quantize_tracked(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
        call: Call,
    ) -> FloatTensor<Self> {
        Self::fake_quantize(x, parameters, operation, call.output)
    }

    /// Returns the number of thresholds that each x is above, as a float, and 0 where x is NaN.
    /// `thresholds` is `[1, groups, count]`, ascending in each group.
    #[fusion(dtype = x, shape = x)]
    fn count_below(x: FloatTensor<Self>, thresholds: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::count_below::<Self>(x, thresholds)
    }

    /// Returns the thresholds between the levels of a basis, followed by the levels, both
    /// ascending: `[groups, 2·levels - 1]`. `values` is the basis, `[groups, bits]`.
    #[fusion(dtype = values, shape = burn::tensor::Shape::from([values[0], 2 * basis.levels - 1]))]
    fn basis_levels(values: FloatTensor<Self>, basis: Basis) -> FloatTensor<Self> {
        reference::basis_levels::<Self>(values, basis)
    }

    /// Returns the least squares basis of each group of x, viewed as `view`, and in the last column
    /// how much rounding errors were amplified: `[groups, bits + 1]`. A singular system gets 1e-4
    /// of its trace on the diagonal.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([view[1], basis.bits + 1]))]
    fn fit_basis(
        x: FloatTensor<Self>,
        values: FloatTensor<Self>,
        basis: Basis,
        view: [usize; 3],
    ) -> FloatTensor<Self> {
        reference::fit_basis::<Self>(x, values, basis, view)
    }

    /// Returns `value`. In the backward pass x gets this gradient instead of the derivative of
    /// `value`: g·slope, or g·(1 + sign(g)·slope) if `scaled`. The autodiff backend overrides it;
    /// all other backends return `value`.
    #[fusion(dtype = value, shape = value)]
    fn estimated_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        scaled: bool,
    ) -> FloatTensor<Self> {
        let _only_backward = (x, slope, scaled);
        value
    }
}

/// Returns `value` with the gradient `g·slope` for x, which has the same shape. The slope may
/// broadcast to this shape.
pub(crate) fn estimated<const D: usize>(
    value: Tensor<D>,
    x: Tensor<D>,
    slope: Tensor<D>,
) -> Tensor<D> {
    estimated_by(value, x, slope, false)
}

/// Returns `value`, and passes its gradient to x unchanged: the straight-through estimator.
pub(crate) fn straight_through<const D: usize>(value: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
    let ones = Tensor::<D>::ones([1; D], &value.device()).cast(value.dtype());
    estimated_by(value, x, ones, false)
}

fn estimated_by<const D: usize>(
    value: Tensor<D>,
    x: Tensor<D>,
    slope: Tensor<D>,
    scaled: bool,
) -> Tensor<D> {
    if !x.device().is_autodiff() {
        return value;
    }
    Tensor::from_dispatch(<Dispatch as QuantOps>::estimated_tracked(
        value.detach().into_dispatch(),
        x.into_dispatch(),
        slope.detach().into_dispatch(),
        scaled,
    ))
}

/// Quantizes x by the parameters of its groups, `[groups, parameters]`. The result has the type
/// `output` and is differentiable in both, as [`Rule`] says. The gradient of the parameters is
/// multiplied by `parameter_gradient_scale`.
pub(crate) fn quantize<const D: usize>(
    x: Tensor<D>,
    parameters: Tensor<2>,
    operation: Elementwise,
    parameter_gradient_scale: f32,
    output: FloatDType,
) -> Tensor<D> {
    // Weights are the leaves of a graph. Their quantized values take little memory beside those of
    // activations, and keeping them saves computing them again.
    let keeps_result = x.device().is_autodiff() && x.is_require_grad();
    let call = Call { parameter_gradient_scale, output, keeps_result };
    Tensor::from_dispatch(<Dispatch as QuantOps>::fake_quantize_tracked(
        x.into_dispatch(),
        parameters.into_dispatch(),
        operation,
        call,
    ))
}

/// Returns parameters with one value per group as `[groups, parameters]`.
pub(crate) fn columns<const N: usize>(parameters: [Tensor<1>; N]) -> Tensor<2> {
    Tensor::stack(parameters.to_vec(), 1)
}

/// Returns R(u), where u is n times a number in 0..1. The gradient is passed to u unchanged or,
/// with `ewgs` = d, scaled element by element: g·(1 + d·sign(g)·(u - R(u))/n).
pub(crate) fn rounded<const D: usize>(u: Tensor<D>, steps: f32, ewgs: Option<f32>) -> Tensor<D> {
    let fixed = u.clone().detach();
    let value = fixed.clone().round();
    match ewgs {
        None => straight_through(value, u),
        Some(factor) => {
            let error = (fixed - value.clone()).mul_scalar(factor / steps);
            estimated_by(value, u, error, true)
        }
    }
}

/// Returns the number of thresholds, `[groups, count]` and ascending, that each element of x is
/// above.
pub(crate) fn count_below(x: Tensor<3>, thresholds: Tensor<2>) -> Tensor<3> {
    let [groups, count] = thresholds.dims();
    let tracked = x.device().is_autodiff();
    let (x, thresholds) = (x.inner(), thresholds.inner());
    let counts = Tensor::from_dispatch(<Dispatch as QuantOps>::count_below(
        x.into_dispatch(),
        thresholds.reshape([1, groups, count]).into_dispatch(),
    ));
    if tracked { Tensor::from_inner(counts) } else { counts }
}

/// Calls [`QuantOps::basis_levels`] with constants.
pub(crate) fn basis_levels(values: Tensor<2>, basis: Basis) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as QuantOps>::basis_levels(values.into_dispatch(), basis))
}

/// Calls [`QuantOps::fit_basis`] with constants.
pub(crate) fn fit_basis<const D: usize>(
    x: Tensor<D>,
    values: Tensor<2>,
    basis: Basis,
    view: [usize; 3],
) -> Tensor<2> {
    let (x, values) = (x.into_dispatch(), values.into_dispatch());
    Tensor::from_dispatch(<Dispatch as QuantOps>::fit_basis(x, values, basis, view))
}
