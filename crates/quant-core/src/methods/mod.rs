//! The methods, one file each: formula and source, shapes, range, gradients, initial values, and
//! where the reference implementation differs from the paper.
//!
//! Throughout, n = levels - 1, R rounds half to even with gradient 1, and a tensor falls into
//! groups that share a clipping value ([`crate::Granularity`]).

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};

use crate::{
    codes::{Codes, per_group},
    config::QuantizerConfig,
    site::Grouping,
};

pub mod binary;
pub mod dorefa;
pub mod lsq;
pub mod pact;

/// What every method offers. The enum of [`crate::quantizer`] dispatches to it.
pub(crate) trait Quantize {
    /// The quantized values, differentiable.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
    /// The code of every element, and what it stands for.
    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D>;
}

/// `value` with the gradient of `input`: `input - input` is exactly 0, so no bit of the value is
/// lost (for finite inputs).
pub(crate) fn straight_through<const D: usize>(value: Tensor<D>, input: Tensor<D>) -> Tensor<D> {
    value.detach() + (input.clone() - input.detach())
}

/// A learned factor per group, initially 1, where the configuration asks for it.
fn gamma(
    config: &QuantizerConfig,
    grouping: Grouping,
    device: &Device,
) -> Option<Param<Tensor<1>>> {
    (config.gamma).then(|| Param::from_tensor(Tensor::ones([grouping.groups], device)))
}

/// Multiplies by the learned factor, where there is one.
fn times_gamma<const D: usize>(
    y: Tensor<D>,
    gamma: &Option<Param<Tensor<1>>>,
    grouping: Grouping,
) -> Tensor<D> {
    match gamma {
        None => y,
        Some(gamma) => per_group(y, &gamma.val(), grouping),
    }
}
