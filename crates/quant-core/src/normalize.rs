//! Normalisation of a weight before it is quantized.

use burn::tensor::Tensor;

use crate::{config::Normalization, site::Grouping};

/// (w - mean)/std per group, with the unbiased standard deviation; mean and std are constants, so
/// the gradient is g/std.
pub(crate) fn normalize_groups<const D: usize>(
    w: Tensor<D>,
    normalization: Normalization,
    grouping: Grouping,
) -> Tensor<D> {
    match normalization {
        Normalization::None => w,
        Normalization::VarMean => {
            let shape = w.shape();
            let [outer, groups, inner] = grouping.view(&shape);
            let grouped = w.reshape([outer, groups, inner]);
            let flat = grouped.clone().detach().swap_dims(0, 1).reshape([groups, outer * inner]);
            let (variance, mean) = flat.var_mean(1);
            let std = variance.sqrt().reshape([1, groups, 1]);
            ((grouped - mean.reshape([1, groups, 1])) / std).reshape(shape)
        }
    }
}
