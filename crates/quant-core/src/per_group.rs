//! Arithmetic between a tensor and one number for each of its groups.

use burn::tensor::Tensor;

use crate::site::Grouping;

/// Multiplies each group by its factor. A single factor applies to all groups.
pub(crate) fn multiply_per_group<const D: usize>(
    x: Tensor<D>,
    factor: &Tensor<1>,
    grouping: Grouping,
) -> Tensor<D> {
    let shape = x.shape();
    let view = match factor.dims()[0] {
        1 => [1, 1, shape.num_elements()],
        _ => grouping.view(&shape),
    };
    (x.reshape(view) * factor.clone().reshape([1, view[1], 1])).reshape(shape)
}

/// Adds to each group its value.
pub(crate) fn add_per_group<const D: usize>(
    x: Tensor<D>,
    mean: &Tensor<1>,
    grouping: Grouping,
) -> Tensor<D> {
    let shape = x.shape();
    let [outer, groups, inner] = grouping.view(&shape);
    (x.reshape([outer, groups, inner]) + mean.clone().reshape([1, groups, 1])).reshape(shape)
}
