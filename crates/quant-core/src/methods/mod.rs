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

pub mod dorefa;
pub mod fatnn;
pub mod lq_nets;
pub mod lsq;
pub mod pact;
pub mod xnor;

/// What every method offers. The enum of [`crate::quantizer`] dispatches to it.
pub(crate) trait Quantize {
    /// The quantized values, differentiable.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
    /// The code of every element, and what it stands for.
    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D>;
    /// Follows the statistics of a training call, before its output is computed.
    fn prepare_training<const D: usize>(&self, _x: &Tensor<D>) {}
    /// The same, after.
    fn observe_training<const D: usize>(&self, _x: &Tensor<D>) {}
}

/// The state that every method names in the same way.
pub(crate) trait Parameters {
    /// Learned parameters by name, `[groups]` each.
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<1>>)> {
        Vec::new()
    }
    /// The same, to change.
    fn parameters_mut(&mut self) -> Vec<(&'static str, &mut Param<Tensor<1>>)> {
        Vec::new()
    }
    /// Running values by name, row-major.
    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        Vec::new()
    }
    /// Sets a running value; whether there is one of that name and size.
    fn set_running(&self, _name: &str, _values: &[f32]) -> bool {
        false
    }
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
