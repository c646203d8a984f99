//! DoReFa-Net (Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with
//! Low Bitwidth Gradients", 2016). B = boundary, 1 in the paper.
//!
//! - activations and outputs (section 2.5): y = R(clamp(x, 0, B)·n/B)·B/n
//! - weights (equation 9): t = tanh w, u = t/(2·max|t|) + 1/2 with the maximum over the whole
//!   tensor, y = 2B·R(u·n/B)/n - 1; where all |t| are below 1e-15, u = t + 1/2
//!
//! **Gradients.** For activations g where 0 < x < B, else 0. For weights the rounding passes the
//! gradient, and tanh and the maximum are differentiated. `ewgs` scales the gradient of the
//! rounding element by element.
//!
//! **Shapes.** Any shape. The only learned parameter is `gamma`, of shape `[groups]`, where the
//! configuration asks for it; it multiplies a quantized weight or output.
//!
//! **Where the reference differs from the paper.** It has the boundary, and a normalisation of the
//! weight before tanh (`var-mean`).
//!
//! **Computed by** `ops/clip.rs` for activations and outputs, as `Rule::Clip`: on the CPU in
//! `quantize/arithmetic/clip.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`. Weights are quantized by tensor operations of this file, which Burn's autodiff
//! differentiates; the rounding with its gradient is `rounded` in `ops/mod.rs`.

use burn::{
    module::{Module, Param},
    tensor::{Device, FloatDType, Tensor},
};

use super::{
    MethodFacts, MethodModule, Parameters, Quantize, Setup, host, keeps_zeros, learned, times_gamma,
};
use crate::{
    calibrate::GroupSamples,
    capability::Capability,
    codes::{Affine, Codes, Decoding},
    config::{Normalization, QuantizerConfig, Range},
    gradient::Estimator,
    method::Role,
    normalize::{Normalizer, Restore},
    ops::{ClipQuantize, rounded},
    parameter::Parameter,
    site::Grouping,
    staircase::Staircase,
};

/// What the rest of the crate needs to know about the method: see `MethodFacts`.
pub(crate) struct Facts;

impl MethodFacts for Facts {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        let estimators = &[Estimator::Clipped, Estimator::Ewgs];
        let options: &[&str] = match role {
            Role::Activation => &["boundary"],
            Role::Weight | Role::Output => &["boundary", "gamma"],
        };
        match (role, range) {
            (Role::Activation | Role::Output, Range::Signed) => None,
            _ => Some(Capability {
                groups: role == Role::Weight,
                estimators,
                options,
                ..Capability::base(role)
            }),
        }
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        match setup.config.role {
            Role::Weight => MethodModule::DorefaWeight(DorefaWeight::new(setup)),
            Role::Activation | Role::Output => {
                MethodModule::DorefaActivation(DorefaActivation::new(setup))
            }
        }
    }

    fn is_grouped(&self, config: &QuantizerConfig) -> bool {
        let normalized = config.normalization != Normalization::None;
        config.gamma || normalized && !config.independent_norm
    }

    fn has_fixed_boundary(&self) -> bool {
        true
    }

    fn zero(&self, config: &QuantizerConfig) -> Option<f32> {
        keeps_zeros(config).then_some(0.0)
    }
}

/// A weight whose largest magnitude is below this counts as zeros, which are quantized to the
/// middle. The gradients divide by the square of the magnitude, which would underflow in f32.
const NOTHING: f32 = 1e-15;

/// DoReFa quantizer of activations and outputs: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct DorefaActivation {
    /// The factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    boundary: f32,
    #[module(skip)]
    operation: ClipQuantize,
    #[module(skip)]
    grouping: Grouping,
}

impl DorefaActivation {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let config = setup.config;
        Self {
            gamma: setup.gamma(),
            boundary: config.boundary as f32,
            operation: ClipQuantize::without_gradient_scale(config),
            grouping: setup.grouping,
        }
    }

    fn clip(&self, device: &Device) -> Tensor<1> {
        Tensor::full([1], self.boundary, device)
    }
}

impl Quantize for DorefaActivation {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let clip = self.clip(&x.device());
        let view = Grouping::WHOLE.view(&x.shape());
        let written = Restore::None.written(&x, output, &self.gamma);
        let y = self.operation.forward(x, clip, view, written);
        times_gamma(y, &self.gamma, self.grouping).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let clip = self.clip(&x.device());
        Codes {
            codes: self.operation.codes(x, clip.clone(), Grouping::WHOLE).int(),
            decoding: Decoding::Affine(Affine {
                gamma: self.gamma.as_ref().map(Param::val),
                ..self.operation.decoding(clip, self.grouping)
            }),
        }
    }
}

impl Parameters for DorefaActivation {
    learned!(Parameter::GAMMA => gamma);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let staircase = self.operation.unit().scaled(self.boundary);
        match &self.gamma {
            None => vec![staircase; self.grouping.groups],
            Some(gamma) => {
                host(gamma).into_iter().map(|gamma| staircase.with_values_times(gamma)).collect()
            }
        }
    }
}

/// DoReFa quantizer of weights: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct DorefaWeight {
    /// The factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    boundary: f32,
    #[module(skip)]
    steps: f32,
    #[module(skip)]
    normalizer: Normalizer,
    #[module(skip)]
    ewgs: Option<f32>,
    #[module(skip)]
    grouping: Grouping,
}

impl DorefaWeight {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let config = setup.config;
        Self {
            gamma: setup.gamma(),
            boundary: config.boundary as f32,
            steps: config.levels.steps(),
            normalizer: setup.normalizer(),
            ewgs: (config.estimator == Estimator::Ewgs).then_some(config.ewgs_factor as f32),
            grouping: setup.grouping,
        }
    }

    /// Returns u·n/B for a normalised weight.
    fn position<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let t = w.tanh();
        let largest = t.clone().abs().max().reshape([1; D]);
        let none = largest.clone().detach().lower_elem(NOTHING);
        let u = t / largest.mask_fill(none, 0.5).mul_scalar(2.0) + 0.5;
        u.mul_scalar(self.steps).div_scalar(self.boundary)
    }

    fn decoding(&self, device: &Device) -> Affine {
        Affine {
            steps: self.steps,
            multiplier: 2.0 * self.boundary,
            offset: -1.0,
            scale: Tensor::ones([1], device),
            shift: None,
            gamma: None,
            grouping: self.grouping,
            restore: Restore::None,
        }
    }
}

impl Quantize for DorefaWeight {
    fn forward_as<const D: usize>(&self, w: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let decoding = self.decoding(&w.device());
        let (w, restore) = self.normalizer.apply(w);
        let codes = rounded(self.position(w), self.steps, self.ewgs);
        restore.apply(times_gamma(decoding.values(codes), &self.gamma, self.grouping)).cast(output)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let gamma = self.gamma.as_ref().map(Param::val);
        let (w, restore) = self.normalizer.apply(w);
        let decoding = Decoding::Affine(Affine { gamma, restore, ..self.decoding(&w.device()) });
        let codes = self.position(w).round().int();
        Codes { codes, decoding }
    }
}

impl Parameters for DorefaWeight {
    learned!(Parameter::GAMMA => gamma);
}
