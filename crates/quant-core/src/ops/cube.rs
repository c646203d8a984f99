//! The operations on GPUs, whose kernels are in `quant-cube`.

use burn::{
    backend::{
        TensorMetadata, cubecl::dtype_to_storage_type, ops::FloatTensorOps, tensor::FloatTensor,
    },
    tensor::{DType, FloatDType},
};
use burn_cubecl::{
    CubeBackend, cubecl::zspace::metadata::Metadata, kernel::untile, tensor::CubeTensor,
};
use quant_cube::{Operand, Output, basis as bases, quantize};

use super::{Basis, Elementwise, QuantOps, Rule, reference};

/// Returns a tensor as kernels take it. Its elements may lie in memory in any order.
pub fn operand(tensor: CubeTensor) -> Operand {
    let tensor = untile(tensor);
    let dtype = dtype_to_storage_type(tensor.dtype);
    Operand { binding: tensor.binding(), dtype }
}

/// Returns the result of a kernel as a tensor on the device of `like`.
pub fn tensor(output: Output, dtype: DType, like: &CubeTensor) -> CubeTensor {
    let Output { handle, shape, strides } = output;
    let metadata = Metadata::new(shape.as_slice(), strides.as_slice());
    CubeTensor::new(like.client.clone(), handle, metadata, like.device.clone(), dtype)
}

impl QuantOps for CubeBackend {
    fn fake_quantize(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
        output: FloatDType,
    ) -> FloatTensor<Self> {
        let (input, parameters, dtype) = (operand(x.clone()), operand(parameters), output.into());
        let elements = dtype_to_storage_type(dtype);
        let y = quantize::quantize(&x.client, &input, &parameters, operation, elements);
        tensor(y, dtype, &x)
    }

    fn fake_quantize_backward(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        operation: Elementwise,
        parameter_gradient_scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let rescales = matches!(operation.rule, Rule::Clip { rescale: true, .. });
        let factor = rescales.then(|| {
            let (x, parameters) = (x.clone(), parameters.clone());
            operand(reference::rescale_factor::<Self>(x, parameters, operation))
        });
        let (grad_x, gradients) = quantize::quantize_backward(
            &x.client,
            &operand(x.clone()),
            &operand(parameters.clone()),
            factor.as_ref(),
            &operand(grad),
            operation,
            parameter_gradient_scale,
        );
        let gradients = tensor(gradients, parameters.dtype, &parameters);
        (tensor(grad_x, x.dtype, &x), Self::float_reshape(gradients, parameters.shape()))
    }

    fn basis_levels(values: FloatTensor<Self>, basis: Basis) -> FloatTensor<Self> {
        if values.dtype != DType::F32 {
            return reference::basis_levels::<Self>(values, basis);
        }
        let levels = bases::levels(&values.client, &operand(values.clone()), basis);
        tensor(levels, DType::F32, &values)
    }

    fn fit_basis(
        x: FloatTensor<Self>,
        values: FloatTensor<Self>,
        basis: Basis,
        view: [usize; 3],
    ) -> FloatTensor<Self> {
        if values.dtype != DType::F32 {
            return reference::fit_basis::<Self>(x, values, basis, view);
        }
        let (input, old) = (operand(x.clone()), operand(values));
        let fitted = tensor(bases::fit(&x.client, &input, &old, basis, view), DType::F32, &x);
        if x.dtype == DType::F32 { fitted } else { Self::float_cast(fitted, x.dtype.into()) }
    }
}
