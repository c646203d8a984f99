//! N2UQ (Liu et al., "Nonuniform-to-Uniform Quantization: Towards Accurate Quantization via
//! Generalized Straight-Through Estimation", CVPR 2022). It has learned thresholds and evenly
//! spaced outputs, so that inference is the same as with any uniform quantizer.
//!
//! **Activations and outputs** (section 3.2). Let a_i be the magnitude of the ith of `intervals`,
//! o_1 = `start`, o_(i+1) = o_i + a_i and c = `scale`, each one value per group, with i from 1 to
//! n:
//!
//! y = c·(sum of R(clamp((x - o_i)/a_i, 0, 1)) over i)
//!
//! The thresholds lie in the middle of the intervals.
//!
//! The gradient is that of the expected value of stochastic rounding inside each interval, the
//! generalised straight-through estimator (equation 8): R passes it, and each clamp passes it
//! strictly inside. An x in interval i therefore has ∂x = g·c/a_i. `start` and the intervals up to
//! i learn through (x - o_i)/a_i, which depends on them. ∂c = the sum of g·y/c.
//!
//! **Weights** (section 3.4, entropy-preserving regularisation). Let m = mean|w| per group, taken
//! as a constant, and a = |`clip_val`|: y = Q(w/(r·m))·r·m with r = 2n/(n + 1), where Q is
//! [LSQ's](super::lsq) signed quantizer with the clipping value a, including its gradients.
//! Dividing by r·m makes the levels about equally frequent.
//!
//! All sums are multiplied by the [gradient scale](crate::GradientScale), and those of `intervals`
//! and `clip_val` also by the sign of the parameter (1 at 0).
//!
//! **Shapes.** Any shape; `start`, `scale` and `clip_val` are `[groups]`, and `intervals` is
//! `[n, groups]` row-major.
//!
//! **Initial values.** `start` is 0, `intervals` and `scale` are boundary/n, until they are
//! calibrated to the best uniform range (the paper's boundary is 2). `clip_val` is the boundary
//! until it is calibrated.
//!
//! **Where this differs from the paper.** The paper's implementation also scales the input, which
//! `start` and `intervals` do already, and learns its clipping value from the clipped elements
//! only. The reference implementation does not have this method.
//!
//! **Computed by** `Rule::Intervals` for activations and outputs, which this file calls, and by
//! `ops/clip.rs` for weights, as `Rule::Clip`: on the CPU in `quantize/arithmetic/intervals.rs` and
//! `quantize/arithmetic/clip.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Tensor},
};

use super::{
    BY_LEVELS, Found, MethodFacts, MethodModule, Parameters, Quantize, Setup, calibrated_by, host,
    learned, magnitude,
};
use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::{Capability, LevelSet},
    codes::{Affine, Codes, Decoding},
    config::Range,
    gradient::Estimator,
    gradient_scale::ScaleByTensor,
    method::Role,
    normalize::{Normalizer, Restore},
    ops::{ClipQuantize, Elementwise, Rule, quantize},
    parameter::{Parameter, ParameterKind},
    site::Grouping,
    staircase::Staircase,
};

/// The difference between two neighbouring values.
pub const SCALE: Parameter = Parameter::new("scale", ParameterKind::Scale);
/// The start of the first interval.
pub const START: Parameter = Parameter::new("start", ParameterKind::Free);
/// The widths of the intervals.
pub const INTERVALS: Parameter = Parameter::new("intervals", ParameterKind::Scale);

/// What the rest of the crate needs to know about the method: see `MethodFacts`.
pub(crate) struct Facts;

impl MethodFacts for Facts {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        match (role, range) {
            (Role::Weight, _) => Some(Capability {
                estimators: &[Estimator::Clipped, Estimator::SteScale, Estimator::Ewgs],
                options: &["gradient_scale", "boundary"],
                learned: &[Parameter::CLIPPING_VALUE],
                ..Capability::base(role)
            }),
            (_, Range::Signed) => None,
            (_, Range::Unsigned) => Some(Capability {
                levels: LevelSet::Between(2, 16),
                options: &["gradient_scale", "boundary"],
                learned: &[SCALE, START, INTERVALS],
                ..Capability::base(role)
            }),
        }
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        match setup.config.role {
            Role::Weight => MethodModule::N2uqWeight(N2uqWeight::new(setup)),
            Role::Activation | Role::Output => {
                MethodModule::N2uqActivation(N2uqActivation::new(setup))
            }
        }
    }

    fn fixed_levels(&self, role: Role) -> Option<&'static str> {
        (role != Role::Weight).then_some(BY_LEVELS)
    }
}

/// Quantizer of activations and outputs with learned thresholds: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct N2uqActivation {
    /// The start of the first interval, `[groups]`.
    pub start: Param<Tensor<1>>,
    /// The widths of the intervals, `[n, groups]` row-major.
    pub intervals: Param<Tensor<1>>,
    /// The difference between two neighbouring values, `[groups]`.
    pub scale: Param<Tensor<1>>,
    #[module(skip)]
    steps: usize,
    #[module(skip)]
    gradient_scale: ScaleByTensor,
    #[module(skip)]
    grouping: Grouping,
}

/// Entropy-preserving quantizer of weights: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct N2uqWeight {
    /// The clipping value in units of r·mean|w|, `[groups]`.
    pub clip_val: Param<Tensor<1>>,
    #[module(skip)]
    operation: ClipQuantize,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    normalizer: Normalizer,
}

impl N2uqActivation {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let Setup { config, grouping, device, .. } = *setup;
        let (groups, steps) = (grouping.groups, config.levels.count() - 1);
        let step = config.boundary / steps as f64;
        Self {
            start: setup.parameter(0.0),
            intervals: Param::from_tensor(Tensor::full([steps * groups], step, device)),
            scale: setup.parameter(step),
            steps,
            gradient_scale: setup.gradient_scale(),
            grouping,
        }
    }

    /// Returns c times the number of thresholds below x in the type `output`, differentiable in all
    /// of them.
    fn scaled<const D: usize>(
        &self,
        x: Tensor<D>,
        scale: Tensor<1>,
        output: FloatDType,
    ) -> Tensor<D> {
        let (groups, pieces) = (self.grouping.groups, self.steps);
        let column = |value: Tensor<1>| value.reshape([groups, 1]);
        let widths = magnitude(self.intervals.val()).reshape([pieces, groups]).transpose();
        let parameters = vec![column(scale), column(self.start.val()), widths];
        let rule = Rule::Intervals { pieces };
        let operation = Elementwise { rule, view: self.grouping.view(&x.shape()) };
        let factor = self.gradient_scale.of(&x.shape());
        quantize(x, Tensor::cat(parameters, 1), operation, factor, output)
    }
}

impl Quantize for N2uqActivation {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        self.scaled(x, self.scale.val(), output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let (scale, dtype) = (self.scale.val().detach(), x.dtype().into());
        Codes {
            codes: self.scaled(x.detach(), scale.ones_like(), dtype).int(),
            decoding: Decoding::Affine(Affine {
                steps: 1.0,
                multiplier: 1.0,
                offset: 0.0,
                scale,
                shift: None,
                gamma: None,
                grouping: self.grouping,
                restore: Restore::None,
            }),
        }
    }
}

impl Parameters for N2uqActivation {
    learned!(SCALE => scale, START => start, INTERVALS => intervals);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let groups = self.grouping.groups;
        let (starts, widths, scales) =
            (host(&self.start), host(&self.intervals), host(&self.scale));
        (0..groups)
            .map(|group| {
                let mut from = starts[group];
                let thresholds = (0..self.steps).map(|index| {
                    let width = widths[index * groups + group].abs();
                    from += width;
                    from - width / 2.0
                });
                let thresholds = thresholds.collect();
                let values = (0..=self.steps).map(|code| code as f32 * scales[group]);
                Staircase::new(values.collect(), thresholds)
            })
            .collect()
    }

    fn calibrated(&self, samples: &GroupSamples, calibration: Calibration) -> Found {
        let steps = self.steps as f32;
        let unit = Staircase::even(0.0, 1.0 / steps, self.steps + 1);
        let Some(clip) = samples.clipping_value(calibration, &unit, steps) else {
            return Vec::new();
        };
        let step = clip / steps;
        let intervals = vec![step; self.steps];
        vec![(SCALE, vec![step]), (START, vec![0.0]), (INTERVALS, intervals)]
    }

    fn calibrates(&self) -> bool {
        true
    }
}

impl N2uqWeight {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        Self {
            clip_val: setup.clipping_value(),
            operation: ClipQuantize::new(setup.config, setup.gradient_scale()),
            grouping: setup.grouping,
            normalizer: setup.normalizer(),
        }
    }

    /// Returns r·mean|w| per group, or 1 for zeros and denormal numbers.
    fn unit<const D: usize>(&self, w: &Tensor<D>) -> Tensor<1> {
        let [outer, groups, inner] = self.grouping.view(&w.shape());
        let magnitude = w.clone().detach().abs().reshape([outer, groups, inner]);
        let mean = magnitude.mean_dim(2).mean_dim(0).reshape([groups]);
        let steps = self.operation.steps;
        let unit = mean.mul_scalar(2.0 * steps / (steps + 1.0));
        let none = unit.clone().lower_elem(f32::MIN_POSITIVE);
        unit.mask_fill(none, 1.0)
    }

    /// Returns the weight in units of r·mean|w|, and how to undo this and a normalisation.
    fn measured<const D: usize>(&self, w: Tensor<D>) -> (Tensor<D>, Restore) {
        let (w, restore) = self.normalizer.apply(w);
        let unit = self.unit(&w);
        let shape = w.shape();
        let grouped = w.reshape(self.grouping.view(&shape));
        let w = grouped / unit.clone().reshape([1, self.grouping.groups, 1]);
        (w.reshape(shape), restore.after(unit, self.grouping))
    }

    fn clip(&self) -> Tensor<1> {
        magnitude(self.clip_val.val())
    }
}

impl Quantize for N2uqWeight {
    fn forward_as<const D: usize>(&self, w: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (w, restore) = self.measured(w);
        let view = self.grouping.view(&w.shape());
        let written = restore.written(&w, output, &None);
        restore.apply(self.operation.forward(w, self.clip(), view, written)).cast(output)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let (w, restore) = self.measured(w);
        let clip = self.clip();
        Codes {
            codes: self.operation.codes(w, clip.clone(), self.grouping).int(),
            decoding: Decoding::Affine(Affine {
                restore,
                ..self.operation.decoding(clip, self.grouping)
            }),
        }
    }

    fn presented<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        self.measured(w).0
    }
}

impl Parameters for N2uqWeight {
    learned!(Parameter::CLIPPING_VALUE => clip_val);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let unit = self.operation.unit();
        host(&self.clip_val).into_iter().map(|clip| unit.scaled(clip.abs())).collect()
    }

    calibrated_by!(operation);
}
