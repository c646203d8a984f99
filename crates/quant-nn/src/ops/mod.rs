//! The operations on Burn's tensors.

use burn::tensor::{
    Tensor,
    activation::relu as burns_relu,
    module::{batch_norm_train, conv2d as burns_conv2d},
    ops::{ConvOptions, PadMode},
};

#[cfg(feature = "flex")]
mod autodiff;
#[cfg(feature = "flex")]
mod flex;

/// The convolution of x, `[batch, inputs, height, width]`, with `weight`, `[outputs, inputs / groups, kernel height,
/// kernel width]`, as [`forward`](quant_kernels::conv::forward) has it. Differentiable in both.
///
/// On the CPU backend, for 32-bit floats and equal strides, padding and dilation in both directions, the passes are those of
/// `quant-kernels`; otherwise Burn's own.
///
/// # Panics
/// Where Burn's own does: for sizes that do not fit together.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    conv2d_filled(x, weight, options, 0.0)
}

/// [`conv2d`], padded with `fill` instead of zeros.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_filled(
    x: Tensor<4>,
    weight: Tensor<4>,
    options: ConvOptions<2>,
    fill: f32,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(geometry) = flex::geometry(&x, &weight, &options, fill) {
        return flex::conv2d(x, weight, geometry);
    }
    if fill == 0.0 {
        return burns_conv2d(x, weight, None, options);
    }
    let [(top, bottom), (left, right)] = options.padding;
    let x = x.pad((left, right, top, bottom), PadMode::Constant(fill));
    burns_conv2d(x, weight, None, ConvOptions { padding: [(0, 0); 2], ..options })
}

/// max(x, 0); its gradient passes where the result is above 0.
///
/// On the CPU backend, for 32-bit floats, on all threads, and backward keeps the result, which whatever follows often keeps
/// too; otherwise Burn's own. There what is not a number stays that.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if flex::is_for(&x) {
        return flex::relu(x);
    }
    burns_relu(x)
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

/// γ·(x - mean)/√(variance + ε) + β by the mean and biased variance of each channel of x, `[batch, channels, height,
/// width]`; γ = `weight` and β = `bias` are `[channels]`. Differentiable in all three.
///
/// On the CPU backend, for 32-bit floats, in the passes of [`Norm`](quant_kernels::batch_norm::Norm); otherwise Burn's own.
///
/// # Panics
/// For γ and β of other lengths.
pub fn batch_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> BatchNormOutput {
    batch_norm_then(x, (weight, bias), epsilon, None, false)
}

/// [`batch_norm`], to whose output `add` is added and, with `rectify`, a [`relu`] applied, in the same pass.
///
/// # Panics
/// As [`batch_norm`].
pub fn batch_norm_then(
    x: Tensor<4>,
    (weight, bias): (Tensor<1>, Tensor<1>),
    epsilon: f64,
    add: Option<Tensor<4>>,
    rectify: bool,
) -> BatchNormOutput {
    #[cfg(feature = "flex")]
    if flex::normalizes(&x, &weight, &bias, &add) {
        return flex::batch_norm(x, (weight, bias), epsilon, add, rectify);
    }
    let burns = batch_norm_train(x, weight, bias, epsilon);
    let output = match add {
        None => burns.output,
        Some(add) => burns.output + add,
    };
    let output = if rectify { relu(output) } else { output };
    BatchNormOutput { output, mean: burns.mean, variance: burns.variance }
}
