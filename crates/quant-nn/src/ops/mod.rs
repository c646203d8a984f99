//! The operations on Burn's tensors.

use burn::tensor::{
    Tensor,
    activation::relu as burn_relu,
    module::{batch_norm_train, conv2d as burn_conv2d},
    ops::{ConvOptions, PadMode},
};

#[cfg(feature = "flex")]
mod autodiff;
#[cfg(feature = "flex")]
mod flex;

/// The convolution of x, `[batch, inputs, height, width]`, with `weight`,
/// `[outputs, inputs / groups, kernel height, kernel width]`, as
/// [`forward`](quant_kernels::conv::forward) has it. Differentiable in both.
///
/// On the CPU backend, for 32-bit floats and equal strides, padding and dilation in both
/// directions, the passes are those of `quant-kernels`; otherwise Burn's own.
///
/// # Panics
/// Where Burn's own does: for sizes that do not fit together.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    conv2d_padded_with(x, weight, options, 0.0)
}

/// [`conv2d`], padded with `padding_value` instead of zeros.
///
/// # Panics
/// As [`conv2d`].
#[doc(hidden)]
pub fn conv2d_padded_with(
    x: Tensor<4>,
    weight: Tensor<4>,
    options: ConvOptions<2>,
    padding_value: f32,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(geometry) = flex::geometry(&x, &weight, &options, padding_value) {
        return flex::conv2d(x, weight, geometry);
    }
    if padding_value == 0.0 {
        return burn_conv2d(x, weight, None, options);
    }
    let [(top, bottom), (left, right)] = options.padding;
    let x = x.pad((left, right, top, bottom), PadMode::Constant(padding_value));
    burn_conv2d(x, weight, None, ConvOptions { padding: [(0, 0); 2], ..options })
}

/// max(x, 0); its gradient passes where the result is above 0.
///
/// On the CPU backend, for 32-bit floats, on all threads, and backward keeps the result, which
/// whatever follows often keeps too; otherwise Burn's own. There what is not a number stays that.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if flex::is_flex_f32(&x) {
        return flex::relu(x);
    }
    burn_relu(x)
}

/// Result of [`batch_norm`].
#[derive(Debug, Clone)]
pub struct BatchNormOutput {
    /// Normalised, scaled and shifted: `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// Mean of the batch, `[channels]`, without a gradient.
    pub mean: Tensor<1>,
    /// Biased variance of the batch, `[channels]`, without a gradient.
    pub variance: Tensor<1>,
}

/// γ·(x - mean)/√(variance + ε) + β by the mean and biased variance of each channel of x,
/// `[batch, channels, height, width]`; γ = `weight` and β = `bias` are `[channels]`. Differentiable
/// in all three.
///
/// On the CPU backend, for 32-bit floats, in the passes of
/// [`quant_kernels::batch_norm`]; otherwise Burn's own.
///
/// # Panics
/// For γ and β of other lengths.
pub fn batch_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> BatchNormOutput {
    batch_norm_add_relu(x, (weight, bias), epsilon, None, false)
}

/// [`batch_norm`], to whose output `residual` is added and, if `with_relu`, a [`relu`] applied, in
/// the same pass.
///
/// # Panics
/// As [`batch_norm`].
#[doc(hidden)]
pub fn batch_norm_add_relu(
    x: Tensor<4>,
    (weight, bias): (Tensor<1>, Tensor<1>),
    epsilon: f64,
    residual: Option<Tensor<4>>,
    with_relu: bool,
) -> BatchNormOutput {
    #[cfg(feature = "flex")]
    if flex::takes_batch_norm(&x, &weight, &bias, &residual) {
        return flex::batch_norm(x, (weight, bias), epsilon, residual, with_relu);
    }
    let normalized = batch_norm_train(x, weight, bias, epsilon);
    let output = match residual {
        None => normalized.output,
        Some(residual) => normalized.output + residual,
    };
    let output = if with_relu { relu(output) } else { output };
    BatchNormOutput { output, mean: normalized.mean, variance: normalized.variance }
}
