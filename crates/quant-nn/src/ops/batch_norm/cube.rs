//! Batch norms on GPUs, whose kernels are in `quant-cube`.

use burn::{
    backend::{cubecl::dtype_to_storage_type, tensor::FloatTensor},
    tensor::DType,
};
use burn_cubecl::CubeBackend;
use quant_core::ops::{operand, tensor};
use quant_cube::batch_norm::{self, Affine, Forward, Gradients, Normalized, Options, Running};

use super::{BatchNormOps, BatchNormOptions};

impl BatchNormOps for CubeBackend {
    fn training_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        running_mean: FloatTensor<Self>,
        running_variance: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let (dtype, parameters) = (DType::from(options.output), weight.dtype);
        let residual = options.has_residual.then(|| operand(residual));
        let (mean, variance) = (operand(running_mean), operand(running_variance));
        let running = Running { mean: &mean, variance: &variance, momentum: options.momentum };
        let Normalized { values, mean, variance, running } = batch_norm::forward(
            &x.client,
            &operand(x.clone()),
            Affine { weight: &operand(weight), bias: &operand(bias) },
            Options {
                epsilon: options.epsilon,
                residual: residual.as_ref(),
                relu: options.relu,
                running: options.tracks.then_some(running),
                dtype: dtype_to_storage_type(dtype),
            },
        );
        let (mean, variance) = (tensor(mean, DType::F32, &x), tensor(variance, DType::F32, &x));
        let [next_mean, next_variance] = match running {
            Some(next) => next.map(|output| tensor(output, parameters, &x)),
            None => [mean.clone(), variance.clone()],
        };
        (tensor(values, dtype, &x), mean, variance, next_mean, next_variance)
    }

    fn training_batch_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let result = options.relu.then(|| operand(y));
        let forward = Forward {
            x: &operand(x.clone()),
            weight: &operand(weight.clone()),
            mean: &operand(mean),
            variance: &operand(variance),
            epsilon: options.epsilon,
            relu_output: result.as_ref(),
            has_residual: options.has_residual,
        };
        let found = batch_norm::backward(&x.client, &forward, &operand(gradient.clone()));
        let Gradients { input, weight: by_weight, bias: by_bias, residual } = found;
        let by_x = tensor(input, x.dtype, &x);
        let by_residual = match residual {
            Some(residual) => tensor(residual, gradient.dtype, &x),
            None => gradient,
        };
        let of_channels = |output| tensor(output, weight.dtype, &x);
        (by_x, of_channels(by_weight), of_channels(by_bias), by_residual)
    }
}
