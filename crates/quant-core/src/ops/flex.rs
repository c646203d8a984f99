//! The operations on the CPU backend. Tensors of 32-bit floats use the loops of `quant-kernels`,
//! all others the composed operations.

use burn::{
    backend::{Flex, TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor},
    tensor::{DType, FloatDType, Shape, TensorData},
};
use burn_flex::FlexTensor;
use quant_kernels::quantize as kernels;

use super::{Basis, Elementwise, QuantOps, reference};

impl QuantOps for Flex {
    fn fake_quantize(
        x: FlexTensor,
        parameters: FlexTensor,
        operation: Elementwise,
        output: FloatDType,
    ) -> FlexTensor {
        if !all_f32([&x, &parameters]) {
            return reference::fake_quantize::<Self>(x, parameters, operation, output);
        }
        let cast = |y: FlexTensor| match output {
            FloatDType::F32 => y,
            _ => Self::float_cast(y, output),
        };
        let shape = x.shape();
        let (input, parameters) = (x.to_contiguous(), parameters.to_contiguous());
        // This second handle would keep the memory of the input from being reused.
        drop(x);
        let mut x = input;
        let parameters = parameters.storage::<f32>();
        // The memory of the input is reused for the output where nothing else holds it.
        if let Some(values) = x.try_storage_mut::<f32>() {
            kernels::quantize_in_place(values, parameters, operation);
            return cast(x);
        }
        cast(from_values(kernels::quantize(x.storage::<f32>(), parameters, operation), shape))
    }

    fn fake_quantize_backward(
        x: FlexTensor,
        parameters: FlexTensor,
        grad: FlexTensor,
        operation: Elementwise,
        parameter_gradient_scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let scaled = |gradients| Self::float_mul_scalar(gradients, parameter_gradient_scale.into());
        let grad =
            if grad.dtype() == x.dtype() { grad } else { Self::float_cast(grad, x.dtype().into()) };
        if !all_f32([&x, &parameters, &grad]) {
            let (grad_x, gradients) =
                reference::fake_quantize_backward::<Self>(x, parameters, grad, operation);
            return (grad_x, scaled(gradients));
        }
        let parameters_shape = parameters.shape();
        let (x, parameters) = (x.to_contiguous(), parameters.to_contiguous());
        let contiguous = grad.to_contiguous();
        // With this second handle the gradient would have to be copied.
        drop(grad);
        let mut grad = contiguous;
        // The memory of the gradient is reused for the gradient of the input.
        let grad_parameters = kernels::quantize_backward(
            x.storage::<f32>(),
            parameters.storage::<f32>(),
            grad.storage_mut::<f32>(),
            operation,
        );
        (grad, scaled(from_values(grad_parameters, parameters_shape)))
    }

    fn count_below(x: FlexTensor, thresholds: FlexTensor) -> FlexTensor {
        if !all_f32([&x, &thresholds]) {
            return reference::count_below::<Self>(x, thresholds);
        }
        let shape = x.shape();
        let (view, count) = ([shape[0], shape[1], shape[2]], thresholds.shape()[2]);
        let (x, thresholds) = (x.to_contiguous(), thresholds.to_contiguous());
        let (x, thresholds) = (x.storage::<f32>(), thresholds.storage::<f32>());
        from_values(kernels::count_below(x, thresholds, view, count), shape)
    }

    fn basis_levels(values: FlexTensor, basis: Basis) -> FlexTensor {
        if !all_f32([&values]) {
            return reference::basis_levels::<Self>(values, basis);
        }
        let groups = values.shape()[0];
        let values = values.to_contiguous();
        let levels = kernels::basis_levels(values.storage::<f32>(), basis);
        from_values(levels, Shape::from([groups, 2 * basis.levels - 1]))
    }

    fn fit_basis(x: FlexTensor, values: FlexTensor, basis: Basis, view: [usize; 3]) -> FlexTensor {
        if !all_f32([&x, &values]) {
            return reference::fit_basis::<Self>(x, values, basis, view);
        }
        let (x, values) = (x.to_contiguous(), values.to_contiguous());
        let fitted = kernels::fit_basis(x.storage::<f32>(), values.storage::<f32>(), basis, view);
        from_values(fitted, Shape::from([view[1], basis.bits + 1]))
    }
}

fn all_f32<const N: usize>(tensors: [&FlexTensor; N]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

fn from_values(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
