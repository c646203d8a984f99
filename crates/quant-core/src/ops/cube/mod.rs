//! GPU kernels, one for each direction, which CubeCL compiles for each rule and for CUDA, ROCm,
//! Vulkan, WebGPU and Metal. Elements are loaded four at a time where the groups allow it. The
//! arithmetic is in 32 bits, whatever the type of the tensor.
//!
//! Divisions on GPUs may have an error of an ulp or two, so that values near a threshold may take
//! the next level.

use burn::backend::{
    TensorMetadata, cubecl::dtype_to_storage_type, ops::FloatTensorOps, tensor::FloatTensor,
};
use burn_cubecl::{
    CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_dtype, tensor::CubeTensor,
};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use super::{Elementwise, QuantOps, Rule, SignSlope, reference};
use kernels::{Kind, backward_kernel, forward_kernel};

mod kernels;

/// The number of threads over all groups. Each thread sums the terms of each parameter's gradient
/// over its share of a group's elements.
const THREADS: usize = 1 << 14;

impl Kind {
    fn of(rule: Rule) -> Self {
        match rule {
            Rule::Clip { signed, learned_bound, .. } => Kind::Clip(signed, learned_bound),
            Rule::Step { .. } => Kind::Step,
            Rule::Slopes { signed: true, .. } => Kind::SignedSlopes,
            Rule::Slopes { pieces, .. } => Kind::Slopes(pieces),
            Rule::Intervals { pieces } => Kind::Intervals(pieces),
            Rule::Ternary => Kind::Ternary,
            Rule::Table { thresholds } => Kind::Table(thresholds),
            Rule::Sign { slope: SignSlope::One } => Kind::Sign(0),
            Rule::Sign { slope: SignSlope::Box } => Kind::Sign(1),
            Rule::Sign { slope: SignSlope::Triangle } => Kind::Sign(2),
        }
    }
}

/// Returns the number of parameters with gradients, which come first.
fn terms(rule: Rule) -> usize {
    match rule {
        Rule::Table { .. } | Rule::Sign { .. } => 1,
        Rule::Ternary => 2,
        rule => rule.parameters(),
    }
}

/// Returns the number of steps, the lower and the upper bound of the clamp, and the factor d of
/// element-wise gradient scaling.
fn numbers(rule: Rule) -> [f32; 4] {
    match rule {
        Rule::Clip { steps, signed, ewgs, .. } => {
            [steps, if signed { -1.0 } else { 0.0 }, 1.0, ewgs]
        }
        Rule::Step { lowest, highest, ewgs } => [highest - lowest, lowest, highest, ewgs],
        _ => [1.0, 0.0, 1.0, 0.0],
    }
}

/// Returns how many elements are loaded together. They have to belong to the same group.
fn vector_size(view: [usize; 3]) -> usize {
    let [outer, groups, inner] = view;
    let run = if groups == 1 { outer * inner } else { inner };
    if run.is_multiple_of(4) { 4 } else { 1 }
}

fn empty(like: &CubeTensor, shape: burn::tensor::Shape, dtype: burn::tensor::DType) -> CubeTensor {
    empty_device_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

impl QuantOps for CubeBackend {
    fn fake_quantize(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
    ) -> FloatTensor<Self> {
        let (x, parameters) = (into_contiguous(x), into_contiguous(parameters));
        let y = empty(&x, x.shape(), x.dtype);
        let Elementwise { rule, view: [outer, groups, inner] } = operation;
        let vector = vector_size(operation.view);
        let run = if groups == 1 { outer * inner } else { inner };
        let units = x.meta.num_elements() / vector;
        let dim = CubeDim::new(&x.client, units);
        let cubes = calculate_cube_count_elemwise(&x.client, units, dim);
        let [steps, lowest, highest, _] = numbers(rule);
        let (client, dtype) = (x.client.clone(), x.dtype);
        forward_kernel::launch(
            &client,
            cubes,
            dim,
            x.required_address_type(),
            vector,
            x.into_linear_view(),
            parameters.into_linear_view(),
            y.clone().into_linear_view(),
            groups,
            run / vector,
            steps,
            lowest,
            highest,
            rule.parameters(),
            Kind::of(rule),
            dtype_to_storage_type(dtype),
        );
        y
    }

    fn fake_quantize_backward(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        operation: Elementwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Elementwise { rule, view: [outer, groups, inner] } = operation;
        let factor = reference::rescale_factor::<Self>(x.clone(), parameters.clone(), operation);
        let (x, parameters) = (into_contiguous(x), into_contiguous(parameters));
        let (grad, factor) = (into_contiguous(grad), into_contiguous(factor));
        let grad_x = empty(&x, x.shape(), x.dtype);
        let vector = vector_size(operation.view);
        let (rows, run) = if groups == 1 { (1, outer * inner) } else { (outer, inner) };
        let elements = rows * run / vector;
        let threads = (THREADS / groups).clamp(1, elements);
        let (terms, count) = (terms(rule), rule.parameters());
        let float = burn::tensor::DType::F32;
        let partial = empty(&x, [groups, threads, terms].into(), float);
        let dim = CubeDim::new(&x.client, groups * threads);
        let cubes = calculate_cube_count_elemwise(&x.client, groups * threads, dim);
        let [steps, lowest, highest, ewgs] = numbers(rule);
        let (client, dtype) = (x.client.clone(), x.dtype);
        backward_kernel::launch(
            &client,
            cubes,
            dim,
            x.required_address_type(),
            vector,
            x.into_linear_view(),
            parameters.clone().into_linear_view(),
            factor.into_linear_view(),
            grad.into_linear_view(),
            grad_x.clone().into_linear_view(),
            partial.clone().into_linear_view(),
            elements,
            groups,
            run / vector,
            threads,
            steps,
            lowest,
            highest,
            ewgs,
            count,
            terms,
            Kind::of(rule),
            dtype_to_storage_type(dtype),
        );
        let sums = Self::float_sum_dim(partial, 1);
        let sums =
            Self::float_cast(Self::float_reshape(sums, [groups, terms].into()), dtype.into());
        let rest = [groups, count - terms];
        let grad_parameters = match count - terms {
            0 => sums,
            _ => {
                let zeros = Self::float_zeros(rest.into(), &grad_x.device(), dtype.into());
                Self::float_cat(vec![sums, zeros], 1)
            }
        };
        let shape = parameters.shape();
        (grad_x, Self::float_reshape(grad_parameters, shape))
    }
}
