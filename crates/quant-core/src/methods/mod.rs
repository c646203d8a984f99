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
    calibrate::{Calibration, GroupSamples},
    codes::{Codes, per_group},
    config::QuantizerConfig,
    host::values,
    ops::estimated,
    site::Grouping,
    staircase::Staircase,
};

pub mod apot;
pub mod dorefa;
pub mod fatnn;
pub mod lq_nets;
pub mod lsq;
pub mod lsq_plus;
pub mod lsq_step;
pub mod n2uq;
pub mod pact;
pub mod ttq;
pub mod xnor;

/// What every method offers. The enum of [`crate::quantizer`] dispatches to it.
pub(crate) trait Quantize {
    /// The quantized values, differentiable.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
    /// The code of every element, and what it stands for.
    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D>;
    /// What the staircases see of x: normalised, where the method does that.
    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        x
    }
    /// Follows the statistics of a training call, before its output is computed.
    fn prepare_training<const D: usize>(&self, _x: &Tensor<D>) {}
    /// The same, after.
    fn observe_training<const D: usize>(&self, _x: &Tensor<D>) {}
}

/// A learned parameter and its name.
pub(crate) type Named<'a> = (&'static str, &'a Param<Tensor<1>>);

/// The state that every method names in the same way.
pub(crate) trait Parameters {
    /// Learned parameters by name: `[groups]`, or `[count, groups]` row-major.
    fn parameters(&self) -> Vec<Named<'_>> {
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
    /// What it does to one number of each group. Empty where that depends on the others.
    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        Vec::new()
    }
    /// Initial values of a group's parameters, from samples of what is [presented](Quantize::presented):
    /// one of each, or of `[count, groups]` a column. Empty where nothing is calibrated, or the samples
    /// do not say.
    fn calibrated(
        &self,
        _samples: &GroupSamples,
        _calibration: Calibration,
    ) -> Vec<(&'static str, Vec<f32>)> {
        Vec::new()
    }
    /// Whether [`calibrated`](Self::calibrated) does anything.
    fn calibrates(&self) -> bool {
        false
    }
    /// The parameter that follows a clipping value, and how many of it make one.
    fn clipping(&self) -> Option<(&'static str, f32)> {
        None
    }
}

/// A parameter read back from the device.
pub(crate) fn host(param: &Param<Tensor<1>>) -> Vec<f32> {
    values(param.val())
}

/// The magnitude of a learned scale, to divide by: at least the smallest normal number, so that
/// zeros stay zeros.
///
/// The gradient is that of |scale|, with 1 as the derivative at 0, where it would otherwise be 0
/// and the scale could never leave: the derivative towards positive scales.
fn magnitude(scale: Tensor<1>) -> Tensor<1> {
    let fixed = scale.clone().detach();
    let negative = fixed.clone().lower_elem(0.0);
    let sign = fixed.ones_like().mask_fill(negative, -1.0);
    estimated(fixed.abs().clamp_min(f32::MIN_POSITIVE), scale, sign)
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
