//! Operations on Burn's tensors.

use burn::tensor::{
    Tensor,
    activation::relu as burn_relu,
    module::{batch_norm_train, conv2d as burn_conv2d},
    ops::{ConvOptions, PadMode},
};

#[cfg(feature = "flex")]
mod autodiff;
#[cfg(any(feature = "flex", feature = "cube"))]
mod batch_norm;
#[cfg(feature = "flex")]
mod flex;
mod memory_order;
mod output;

pub use memory_order::channels_last;
pub use output::BatchNormOutput;
pub(crate) use output::{NormCall, NormResult};

/// Returns whether a tensor is on one of the GPU backends.
fn is_on_gpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    #[cfg(feature = "cube")]
    {
        let device = tensor.device().without_autodiff();
        matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_))
    }
    #[cfg(not(feature = "cube"))]
    {
        let _only_on_gpus = tensor;
        false
    }
}

/// Returns the convolution of x, `[batch, inputs, height, width]`, with `weight`, `[outputs, inputs
/// / groups, kernel height, kernel width]`, as defined by
/// [`forward`](quant_kernels::conv::forward). It is differentiable in both.
///
/// The passes of `quant-kernels` compute it on the CPU backend, for 32-bit floats, if stride,
/// padding and dilation are equal in both directions. Otherwise Burn computes it.
///
/// # Panics
/// If sizes do not fit together, as Burn's convolution does.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    conv2d_padded_with(x, weight, options, 0.0)
}

/// Does the same as [`conv2d`], padded with `padding_value` instead of zeros.
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

/// Returns max(x, 0). The gradient passes where the result is above 0. NaN stays NaN.
///
/// On the CPU backend, for 32-bit floats, `quant-kernels` computes it on all threads, and the
/// backward pass keeps the result, which the operation that follows often keeps too. Otherwise Burn
/// computes it.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if flex::is_flex_f32(&x) {
        return flex::relu(x);
    }
    burn_relu(x)
}

/// Returns γ·(x - mean)/√(variance + ε) + β with the mean and the biased variance of each channel
/// of x, `[batch, channels, height, width]`. γ = `weight` and β = `bias` are `[channels]`. The
/// result is differentiable in all three.
///
/// On the CPU backend, for 32-bit floats, the passes of [`quant_kernels::batch_norm`] compute it,
/// on GPUs the kernels of `quant-cube`. Otherwise Burn computes it.
///
/// # Panics
/// If γ or β has another length.
pub fn batch_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> BatchNormOutput {
    let output = x.dtype().into();
    let call =
        NormCall { epsilon, residual: None, relu: false, running: None, momentum: 0.0, output };
    normalized(x, (weight, bias), call).batch
}

/// Does the same as [`batch_norm`], and what the call says: an addition and a [`relu`] in the same
/// pass, running values, and another type of the output.
///
/// # Panics
/// As [`batch_norm`].
pub(crate) fn normalized(
    x: Tensor<4>,
    (weight, bias): (Tensor<1>, Tensor<1>),
    call: NormCall,
) -> NormResult {
    #[cfg(any(feature = "flex", feature = "cube"))]
    if batch_norm::takes(&x, &weight, &bias, &call) {
        return batch_norm::batch_norm(x, (weight, bias), call);
    }
    let x = x.cast(call.output);
    #[cfg(any(feature = "flex", feature = "cube"))]
    if batch_norm::takes(&x, &weight, &bias, &call) {
        return batch_norm::batch_norm(x, (weight, bias), call);
    }
    let [images, _, height, width] = x.dims();
    let elements = (images * height * width) as f64;
    let found = batch_norm_train(x, weight, bias, call.epsilon);
    let output = match call.residual {
        None => found.output,
        Some(residual) => found.output + residual,
    };
    let output = if call.relu { relu(output) } else { output };
    let running = call.running.map(|[mean, variance]| {
        let unbiased = found.variance.clone().mul_scalar(elements / (elements - 1.0).max(1.0));
        let next = |old: Tensor<1>, batch: Tensor<1>| {
            let old = old.mul_scalar(1.0 - call.momentum);
            (old + batch.mul_scalar(call.momentum)).detach()
        };
        [next(mean, found.mean.clone()), next(variance, unbiased)]
    });
    let batch = BatchNormOutput { output, mean: found.mean, variance: found.variance };
    NormResult { batch, running }
}
