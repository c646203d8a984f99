//! Batch norms on GPUs, whose kernels are in `quant-cube`.

use burn::{backend::tensor::FloatTensor, tensor::DType};
use burn_cubecl::CubeBackend;
use quant_core::ops::{operand, tensor};
use quant_cube::batch_norm::{self, Affine, Forward, Gradients, Normalized};

use super::{BatchNormOps, BatchNormOptions};

impl BatchNormOps for CubeBackend {
    fn training_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let residual = options.has_residual.then(|| operand(residual));
        let Normalized { values, mean, variance } = batch_norm::forward(
            &x.client,
            &operand(x.clone()),
            Affine { weight: &operand(weight), bias: &operand(bias) },
            options.epsilon,
            residual.as_ref(),
            options.relu,
        );
        let statistics = |output| tensor(output, DType::F32, &x);
        (tensor(values, x.dtype, &x), statistics(mean), statistics(variance))
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
        let by_residual = match (residual, options.has_residual) {
            (Some(residual), _) => tensor(residual, x.dtype, &x),
            (None, true) => gradient,
            (None, false) => by_x.clone(),
        };
        let of_channels = |output| tensor(output, weight.dtype, &x);
        (by_x, of_channels(by_weight), of_channels(by_bias), by_residual)
    }
}
