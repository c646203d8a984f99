//! The quantizer of [`Rule::Clip`], as LSQ, PACT, DoReFa and N2UQ use it.

use burn::tensor::{FloatDType, Tensor};

use super::{Elementwise, Rule, quantize};
use crate::{
    calibrate::{Calibration, GroupSamples},
    codes::Affine,
    config::{QuantizerConfig, Range},
    gradient::Estimator,
    gradient_scale::ScaleByTensor,
    methods::Found,
    normalize::Restore,
    parameter::Parameter,
    site::Grouping,
    staircase::Staircase,
};

/// The clipping quantizer of one call: its levels, its range and its gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClipQuantize {
    /// The number n, one less than the number of levels.
    pub(crate) steps: f32,
    pub(crate) range: Range,
    pub(crate) estimator: Estimator,
    /// Which gradient the clipping value has. `false`: the gradient through the scaling and the
    /// division (LSQ). `true`: only the gradient as the bound of the clamp (PACT), which is the sum
    /// over elements at or above it.
    pub(crate) learned_bound: bool,
    /// The factor on the gradient of the clipping value. Without it the factor is 1.
    pub(crate) gradient_scale: Option<ScaleByTensor>,
    /// The factor d of the estimator `ewgs`.
    pub(crate) ewgs_factor: f32,
}

impl ClipQuantize {
    pub(crate) fn new(config: &QuantizerConfig, gradient_scale: ScaleByTensor) -> Self {
        let gradient_scale = Some(gradient_scale);
        Self { gradient_scale, ..Self::without_gradient_scale(config) }
    }

    /// Returns the quantizer for a clipping value that is not learned.
    pub(crate) fn without_gradient_scale(config: &QuantizerConfig) -> Self {
        Self {
            steps: config.levels.steps(),
            range: config.range,
            estimator: config.estimator,
            learned_bound: false,
            gradient_scale: None,
            ewgs_factor: config.ewgs_factor as f32,
        }
    }

    /// Quantizes `x`, viewed as `view`, within `clip` of shape `[groups]`, which has to be above 0
    /// unless the bound is learned. The result has the type `output`, and is differentiable in
    /// both.
    pub(crate) fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        clip: Tensor<1>,
        view: [usize; 3],
        output: FloatDType,
    ) -> Tensor<D> {
        let rule = Rule::Clip {
            steps: self.steps,
            signed: self.range == Range::Signed,
            rescale: self.estimator == Estimator::SteScale,
            learned_bound: self.learned_bound,
            ewgs: if self.estimator == Estimator::Ewgs { self.ewgs_factor } else { 0.0 },
        };
        let clip = clip.reshape([view[1], 1]);
        let factor = self.gradient_scale.map_or(1.0, |scale| scale.of(&x.shape()));
        quantize(x, clip, Elementwise { rule, view }, factor, output)
    }

    /// Returns the code R(n·u) of every element, as floats from 0 to n.
    pub(crate) fn codes<const D: usize>(
        &self,
        x: Tensor<D>,
        clip: Tensor<1>,
        grouping: Grouping,
    ) -> Tensor<D> {
        let shape = x.shape();
        let view = grouping.view(&shape);
        let v = x.reshape(view) / clip.reshape([1, view[1], 1]);
        let u = match self.range {
            Range::Unsigned => v.clamp(0.0, 1.0),
            Range::Signed => v.clamp(-1.0, 1.0).add_scalar(1.0).mul_scalar(0.5),
        };
        u.mul_scalar(self.steps).round().reshape(shape)
    }

    /// Returns the staircase for the clipping value 1.
    pub(crate) fn unit(&self) -> Staircase {
        let count = self.steps as usize + 1;
        match self.range {
            Range::Unsigned => Staircase::even(0.0, 1.0 / self.steps, count),
            Range::Signed => Staircase::even(-1.0, 2.0 / self.steps, count),
        }
    }

    /// Returns Qp, the number of steps from 0 to the clipping value.
    pub(crate) fn positive_steps(&self) -> f32 {
        match self.range {
            Range::Unsigned => self.steps,
            Range::Signed => self.steps / 2.0,
        }
    }

    /// Returns the initial clipping value for samples, or nothing where the samples do not
    /// determine it.
    pub(crate) fn calibrated(&self, samples: &GroupSamples, calibration: Calibration) -> Found {
        let clip = samples.clipping_value(calibration, &self.unit(), self.positive_steps());
        clip.map(|clip| (Parameter::CLIPPING_VALUE, vec![clip])).into_iter().collect()
    }

    /// Returns the decoding of a code to the value (m·code/n - z)·s.
    pub(crate) fn decoding(&self, clip: Tensor<1>, grouping: Grouping) -> Affine {
        let (multiplier, offset) = match self.range {
            Range::Unsigned => (1.0, 0.0),
            Range::Signed => (2.0, -1.0),
        };
        Affine {
            steps: self.steps,
            multiplier,
            offset,
            scale: clip,
            shift: None,
            gamma: None,
            grouping,
            restore: Restore::None,
        }
    }
}
