//! Batch norms on the CPU backend, which use the passes of `quant-kernels`.

use burn::{
    backend::{Flex, TensorMetadata},
    tensor::{FloatDType, Shape},
};
use burn_flex::FlexTensor;
use quant_kernels::batch_norm::{self, Epilogue, Forward};

use super::{BatchNormOps, BatchNormOptions};
use crate::ops::flex::tensor;

impl BatchNormOps for Flex {
    fn training_batch_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        running_mean: FlexTensor,
        running_variance: FlexTensor,
        options: BatchNormOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        debug_assert_eq!(options.output, FloatDType::F32, "other types are converted before");
        let (sizes, shape) = batch_norm_shape(&x);
        let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
        let residual = options.has_residual.then(|| residual.to_contiguous());
        let residual = residual.as_ref().map(|residual| residual.storage());
        let epilogue = Epilogue { residual, relu: options.relu };
        let parameters = (weight.storage(), bias.storage());
        let output = batch_norm::forward(sizes, x.storage(), parameters, options.epsilon, epilogue);
        let of_channels = |values| tensor(values, [sizes.channels]);
        let (mean, variance) = (output.mean, output.variance);
        let elements = (sizes.batch * sizes.pixels) as f64;
        let unbiased = (elements / (elements - 1.0).max(1.0)) as f32;
        let next = |old: FlexTensor, batch: &[f32], factor: f32| {
            if !options.tracks {
                return of_channels(batch.to_vec());
            }
            let old = old.to_contiguous();
            let (keeps, adds) = ((1.0 - options.momentum) as f32, options.momentum as f32);
            let pairs = old.storage::<f32>().iter().zip(batch);
            of_channels(pairs.map(|(old, new)| old * keeps + new * factor * adds).collect())
        };
        let next_mean = next(running_mean, &mean, 1.0);
        let next_variance = next(running_variance, &variance, unbiased);
        let values = tensor(output.values, shape);
        (values, of_channels(mean), of_channels(variance), next_mean, next_variance)
    }

    fn training_batch_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        y: FlexTensor,
        gradient: FlexTensor,
        options: BatchNormOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let (sizes, shape) = batch_norm_shape(&x);
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let y = options.relu.then(|| y.to_contiguous());
        let mut gradient_in_place = gradient.to_contiguous();
        // This drops the other handle, because of which the gradient would have to be copied.
        drop(gradient);
        let forward = Forward {
            x: x.storage(),
            weight: weight.storage(),
            mean: mean.storage(),
            variance: variance.storage(),
            epsilon: options.epsilon,
            relu_output: y.as_ref().map(|y| y.storage()),
            has_residual: options.has_residual,
        };
        let gradients = batch_norm::backward(sizes, &forward, gradient_in_place.storage_mut());
        let x_gradient = match gradients.input {
            None => gradient_in_place.clone(),
            Some(values) => tensor(values, shape),
        };
        let of_channels = |values| tensor(values, [sizes.channels]);
        let (weight, bias) = (of_channels(gradients.weight), of_channels(gradients.bias));
        (x_gradient, weight, bias, gradient_in_place)
    }
}

fn batch_norm_shape(x: &FlexTensor) -> (batch_norm::Shape, Shape) {
    let shape = x.shape();
    let pixels = shape[2] * shape[3];
    (batch_norm::Shape { batch: shape[0], channels: shape[1], pixels }, shape)
}
