//! LSQ: learned step size quantization (Esser et al., "Learned Step Size Quantization", ICLR 2020),
//! in the clipping-value form of the reference implementation.
//!
//! With s = |`clip_val`|, one value per group, and v = x/s:
//!
//! - unsigned: y = (R(clamp(v, 0, 1)·n)/n)·s
//! - signed: y = (2·R((clamp(v, -1, 1) + 1)/2·n)/n - 1)·s
//!
//! The paper learns the step size, which is s/n (unsigned) or 2s/n (signed), and has the signed
//! levels -2^(b-1)..2^(b-1) - 1. Here the signed levels are symmetric about 0. [`super::lsq_step`]
//! has the paper's form. The two forms are the same function if the range is unsigned, or if the
//! number of levels is odd.
//!
//! **Gradients.** Let g be the incoming gradient. Strictly inside the range of the clamp ∂x = g and
//! ∂s = g·(y/s - v); outside ∂x = 0 and ∂s = g·y/s (equation 3 of the paper in units of s).
//! `STE-scale` multiplies the gradient of the clamp by a factor k: ∂x = k·g, ∂s = g·(y/s - k·v).
//! The sum over a group is multiplied by the [gradient scale](crate::GradientScale), and by the
//! sign of `clip_val`, which counts as 1 at 0. `ewgs` scales the gradient of the rounding element
//! by element ([`crate::Estimator::Ewgs`]).
//!
//! **Shapes.** Any shape; `clip_val` and `gamma` are `[groups]`.
//!
//! **Initial values.** `clip_val` is the boundary (1) until it is calibrated from data, with the
//! paper's step 2·mean|x|/sqrt(Qp) or with the least squared error ([`crate::Calibration`]).
//! `gamma` is 1.
//!
//! **Where the reference differs from the paper.** It learns a clipping value instead of a step
//! size. Signed levels are symmetric. By default it has no gradient scale (here the default is the
//! paper's). It skips a gradient scale whose integer part is 1 (`skip_integer_one`). The initial
//! value is a constant.
//!
//! **Computed by** `ops/clip.rs`, as `Rule::Clip`: on the CPU in `quantize/arithmetic/clip.rs` of
//! `quant-kernels`, on GPUs in `quantize/formula.rs` of `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Tensor},
};

use super::{
    MethodFacts, MethodModule, Parameters, Quantize, Setup, calibrated_by, host, keeps_zeros,
    learned, magnitude, times_gamma,
};
use crate::{
    calibrate::GroupSamples,
    capability::Capability,
    codes::{Affine, Codes, Decoding},
    config::{Levels, QuantizerConfig, Range},
    gradient::{Estimator, GradientScaleRule},
    method::Role,
    normalize::Normalizer,
    ops::ClipQuantize,
    parameter::Parameter,
    site::Grouping,
    staircase::Staircase,
};

/// What the rest of the crate needs to know about the method: see `MethodFacts`.
pub(crate) struct Facts;

impl MethodFacts for Facts {
    fn capability(&self, role: Role, _range: Range) -> Option<Capability> {
        Some(Capability {
            estimators: &[Estimator::Clipped, Estimator::SteScale, Estimator::Ewgs],
            options: match role {
                Role::Activation => &["gradient_scale", "boundary"],
                Role::Weight | Role::Output => &["gradient_scale", "boundary", "gamma"],
            },
            learned: &[Parameter::CLIPPING_VALUE],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::Lsq(Lsq::new(setup))
    }

    fn output_range(&self, _levels: Levels) -> Range {
        Range::Signed
    }

    fn gradient_scale(&self) -> GradientScaleRule {
        GradientScaleRule::Lsq
    }

    fn zero(&self, config: &QuantizerConfig) -> Option<f32> {
        keeps_zeros(config).then_some(0.0)
    }
}

/// Learned step size quantizer, in the clipping-value form: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct Lsq {
    /// The clipping value, `[groups]`.
    pub clip_val: Param<Tensor<1>>,
    /// The factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    operation: ClipQuantize,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    normalizer: Normalizer,
}

impl Lsq {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        Self {
            clip_val: setup.clipping_value(),
            gamma: setup.gamma(),
            operation: ClipQuantize::new(setup.config, setup.gradient_scale()),
            grouping: setup.grouping,
            normalizer: setup.normalizer(),
        }
    }

    /// Returns s.
    fn scale(&self) -> Tensor<1> {
        magnitude(self.clip_val.val())
    }
}

impl Quantize for Lsq {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let view = self.grouping.view(&x.shape());
        let (x, restore) = self.normalizer.apply(x);
        let written = restore.written(&x, output, &self.gamma);
        let y = self.operation.forward(x, self.scale(), view, written);
        restore.apply(times_gamma(y, &self.gamma, self.grouping)).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let clip = self.scale();
        let (x, restore) = self.normalizer.apply(x);
        Codes {
            codes: self.operation.codes(x, clip.clone(), self.grouping).int(),
            decoding: Decoding::Affine(Affine {
                gamma: self.gamma.as_ref().map(Param::val),
                restore,
                ..self.operation.decoding(clip, self.grouping)
            }),
        }
    }

    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.normalizer.apply(x).0
    }
}

impl Parameters for Lsq {
    learned!(Parameter::CLIPPING_VALUE => clip_val, Parameter::GAMMA => gamma);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let unit = self.operation.unit();
        let stairs = host(&self.clip_val).into_iter().map(|clip| unit.scaled(clip.abs()));
        match &self.gamma {
            None => stairs.collect(),
            Some(gamma) => {
                let pairs = stairs.zip(host(gamma));
                pairs.map(|(stairs, gamma)| stairs.with_values_times(gamma)).collect()
            }
        }
    }

    calibrated_by!(operation);

    fn clipping(&self) -> Option<(Parameter, f32)> {
        Some((Parameter::CLIPPING_VALUE, 1.0))
    }
}
