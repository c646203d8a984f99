//! Normalisation before quantizing, and undoing it afterwards.

use burn::{
    module::Param,
    tensor::{FloatDType, Tensor},
};

use crate::{
    config::{Normalization, QuantizerConfig},
    method::Role,
    per_group::{add_per_group, multiply_per_group},
    site::Grouping,
};

/// The number that is added to divisors where the normalisation is undone afterwards.
const EPSILON: f32 = 1e-5;

/// How to undo a normalisation.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time, beside tensors that are far larger")]
pub(crate) enum Restore {
    /// There is nothing to undo.
    None,
    /// y·deviation + mean per group undoes the normalisation.
    PerGroup { deviation: Option<Tensor<1>>, mean: Option<Tensor<1>>, grouping: Grouping },
    /// y·factor per image undoes the normalisation.
    PerImage(Tensor<1>),
}

impl Restore {
    /// Returns a restoration that first multiplies each group by `unit` and then does `self`.
    pub(crate) fn after(self, unit: Tensor<1>, grouping: Grouping) -> Self {
        let deviation = match self {
            Restore::PerGroup { deviation: Some(deviation), .. } => unit * deviation,
            _ => unit,
        };
        Restore::PerGroup { deviation: Some(deviation), mean: None, grouping }
    }

    /// Returns the type that a kernel writes which quantizes x: `output`, or the type of x if its
    /// values are multiplied by gamma, or the normalisation is undone, afterwards.
    pub(crate) fn written<const D: usize>(
        &self,
        x: &Tensor<D>,
        output: FloatDType,
        gamma: &Option<Param<Tensor<1>>>,
    ) -> FloatDType {
        match self {
            Restore::None if gamma.is_none() => output,
            _ => x.dtype().into(),
        }
    }

    pub(crate) fn apply<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        match self {
            Restore::None => y,
            Restore::PerGroup { deviation, mean, grouping } => {
                let y = match deviation {
                    Some(deviation) => multiply_per_group(y, deviation, *grouping),
                    None => y,
                };
                match mean {
                    Some(mean) => add_per_group(y, mean, *grouping),
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

/// Returns the unbiased standard deviation and the mean of each group, as constants. The deviation
/// of a single element is 0.
fn moments<const D: usize>(w: &Tensor<D>, grouping: Grouping) -> (Tensor<1>, Tensor<1>) {
    let [outer, groups, inner] = grouping.view(&w.shape());
    let grouped = w.clone().detach().reshape([outer, groups, inner]);
    let flat = grouped.swap_dims(0, 1).reshape([groups, outer * inner]);
    if outer * inner < 2 {
        let mean = flat.reshape([groups]);
        return (mean.zeros_like(), mean);
    }
    let (variance, mean) = flat.var_mean(1);
    (variance.sqrt().reshape([groups]), mean.reshape([groups]))
}

/// The normalisation of a weight before it is quantized: (w - mean)/std per group, with the
/// unbiased standard deviation. Mean and std are constants, so the gradient is g/std. A group of
/// equal elements has the deviation 0 and becomes zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalizer {
    active: bool,
    restore: bool,
    grouping: Grouping,
}

impl Normalizer {
    pub(crate) fn new(config: &QuantizerConfig, grouping: Grouping) -> Self {
        Self {
            active: config.normalization == Normalization::VarMean,
            restore: config.restore_normalization,
            grouping: if config.independent_norm { Grouping::WHOLE } else { grouping },
        }
    }

    /// Returns the normalised weight, and how to undo the normalisation.
    pub(crate) fn apply<const D: usize>(&self, w: Tensor<D>) -> (Tensor<D>, Restore) {
        if !self.active {
            return (w, Restore::None);
        }
        let (deviation, mean) = moments(&w, self.grouping);
        let none = deviation.clone().equal_elem(0.0);
        let deviation = deviation.mask_fill(none, 1.0);
        let shape = w.shape();
        let [outer, groups, inner] = self.grouping.view(&shape);
        let centred = w.reshape([outer, groups, inner]) - mean.reshape([1, groups, 1]);
        let normalized = (centred / deviation.clone().reshape([1, groups, 1])).reshape(shape);
        let restore = if self.restore {
            Restore::PerGroup { deviation: Some(deviation), mean: None, grouping: self.grouping }
        } else {
            Restore::None
        };
        (normalized, restore)
    }
}

/// Applies a normalisation that is undone after quantizing: per group for weights, per image for
/// activations.
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
        return (x, Restore::PerGroup { deviation, mean, grouping });
    }
    let images = x.dims()[0];
    let each = x.clone().detach().reshape([images, x.shape().num_elements() / images.max(1)]);
    let factor = if by_deviation && each.dims()[1] < 2 {
        each.zeros_like().mean_dim(1)
    } else if by_deviation {
        each.var(1).sqrt()
    } else {
        each.mean_dim(1)
    };
    let factor = factor.add_scalar(EPSILON).reshape([images]);
    let restore = Restore::PerImage(factor.clone());
    let mut shape = [1; D];
    shape[0] = images;
    (x / factor.reshape(shape), restore)
}
