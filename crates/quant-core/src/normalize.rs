//! Normalisation before quantizing, and its restoration after.

use burn::tensor::Tensor;

use crate::{
    codes::per_group,
    config::{Normalization, Role},
    site::Grouping,
};

/// Added to what is divided by, where normalisation is undone afterwards.
const EPSILON: f32 = 1e-5;

/// How to undo a normalisation.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time, beside tensors that are far larger")]
pub(crate) enum Restore {
    /// Nothing to undo.
    None,
    /// y·deviation + mean per group.
    PerGroup { deviation: Option<Tensor<1>>, mean: Option<Tensor<1>> },
    /// y·factor per image.
    PerImage(Tensor<1>),
}

impl Restore {
    pub(crate) fn apply<const D: usize>(&self, y: Tensor<D>, grouping: Grouping) -> Tensor<D> {
        match self {
            Restore::None => y,
            Restore::PerGroup { deviation, mean } => {
                let y = match deviation {
                    Some(deviation) => per_group(y, deviation, grouping),
                    None => y,
                };
                match mean {
                    Some(mean) => add_per_group(y, mean, grouping),
                    None => y,
                }
            }
            Restore::PerImage(factor) => {
                let mut shape = [1; D];
                shape[0] = factor.dims()[0];
                y * factor.clone().reshape(shape)
            }
        }
    }
}

fn add_per_group<const D: usize>(x: Tensor<D>, mean: &Tensor<1>, grouping: Grouping) -> Tensor<D> {
    let shape = x.shape();
    let [outer, groups, inner] = grouping.view(&shape);
    (x.reshape([outer, groups, inner]) + mean.clone().reshape([1, groups, 1])).reshape(shape)
}

/// Unbiased standard deviation and mean per group, as constants.
fn moments<const D: usize>(w: &Tensor<D>, grouping: Grouping) -> (Tensor<1>, Tensor<1>) {
    let [outer, groups, inner] = grouping.view(&w.shape());
    let grouped = w.clone().detach().reshape([outer, groups, inner]);
    let flat = grouped.swap_dims(0, 1).reshape([groups, outer * inner]);
    let (variance, mean) = flat.var_mean(1);
    (variance.sqrt().reshape([groups]), mean.reshape([groups]))
}

/// (w - mean)/std per group, with the unbiased standard deviation; mean and std are constants, so
/// the gradient is g/std.
pub(crate) fn normalize_groups<const D: usize>(
    w: Tensor<D>,
    normalization: Normalization,
    grouping: Grouping,
) -> Tensor<D> {
    if normalization == Normalization::None {
        return w;
    }
    let (deviation, mean) = moments(&w, grouping);
    let shape = w.shape();
    let [outer, groups, inner] = grouping.view(&shape);
    let centred = w.reshape([outer, groups, inner]) - mean.reshape([1, groups, 1]);
    (centred / deviation.reshape([1, groups, 1])).reshape(shape)
}

/// A normalisation that is undone after quantizing: of weights per group, of activations per image.
pub(crate) fn normalize<const D: usize>(
    x: Tensor<D>,
    normalization: Normalization,
    role: Role,
    grouping: Grouping,
) -> (Tensor<D>, Restore) {
    let (by_mean, by_deviation) = match normalization {
        Normalization::Mean => (true, false),
        Normalization::Var => (false, true),
        Normalization::MeanVar => (true, true),
        Normalization::None | Normalization::VarMean => return (x, Restore::None),
    };
    if role == Role::Weight {
        let (deviation, mean) = moments(&x, grouping);
        let deviation = by_deviation.then(|| deviation.add_scalar(EPSILON));
        let mean = by_mean.then_some(mean);
        let x = match &mean {
            Some(mean) => add_per_group(x, &mean.clone().neg(), grouping),
            None => x,
        };
        let x = match &deviation {
            Some(deviation) => {
                let shape = x.shape();
                let [outer, groups, inner] = grouping.view(&shape);
                let grouped = x.reshape([outer, groups, inner]);
                (grouped / deviation.clone().reshape([1, groups, 1])).reshape(shape)
            }
            None => x,
        };
        return (x, Restore::PerGroup { deviation, mean });
    }
    let images = x.dims()[0];
    let each = x.clone().detach().reshape([images, x.shape().num_elements() / images.max(1)]);
    let factor = match by_deviation {
        true => each.var(1).sqrt(),
        false => each.mean_dim(1),
    };
    let factor = factor.add_scalar(EPSILON).reshape([images]);
    let restore = Restore::PerImage(factor.clone());
    let mut shape = [1; D];
    shape[0] = images;
    (x / factor.reshape(shape), restore)
}
