//! Sign quantizers: XNOR-Net (Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary
//! Convolutional Neural Networks", ECCV 2016), XNOR-Net++ (Bulat and Tzimiropoulos, BMVC 2019), and
//! DoReFa's binary weights (Zhou et al. 2016, equation 7).
//!
//! - activations: y = sign(x)·E, where E is the mean of |x| over channels or over the resolution,
//!   for each image by itself, or 1 ([`SignScale`]). With `shift`, which has one value per group,
//!   x - `shift` takes the place of x (RSign; Liu et al., "ReActNet: Towards Precise Binary Neural
//!   Network with Generalized Activation Functions", ECCV 2020, equation 1, which uses `triangle`).
//! - weights: y = sign(w)·mean|w| per group, where w is first normalised if the configuration asks
//!   for it. With `gamma`, y is multiplied by a learned factor per group (XNOR-Net++).
//!
//! sign(0) = +1. NaN stays NaN.
//!
//! **Gradients.** The estimator m stands for the derivative of the scaled sign ([`Estimator`]): 1
//! (`identity`), \[-1 < x < 1\] (`clipped`; Hubara et al. 2016), or (2 - 2|x|)·\[-1 < x < 1\]
//! (`triangle`; Bi-Real Net, Liu et al. 2018). ∂x = g·m(x). With a gamma ∂w = g·gamma·m(w) and
//! ∂gamma = the sum of g·sign(w)·mean|w| over the group. ∂shift = minus the sum of ∂x over the
//! group.
//!
//! **Shapes.** Any shape for weights, and for activations without a scale. Activations with a scale
//! over a dimension are `[batch, channels, height, width]`. `gamma` and `shift` are `[groups]`.
//!
//! **Initial values.** `gamma` = 1, `shift` = 0.
//!
//! **Where the reference differs from the papers.** XNOR-Net smooths its activation scale with the
//! window of the convolution; here it is the plain mean. The gradient does not contain the scale.
//!
//! **Computed by** `Rule::Sign`, which this file calls: on the CPU in
//! `quantize/arithmetic/sign.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`. Activations with a scale are quantized by tensor operations of this file, with the
//! gradient of `estimated` in `ops/mod.rs`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Tensor},
};

use super::{
    BY_LEVELS, MethodFacts, MethodModule, Parameters, Quantize, Setup, host, learned, times_gamma,
};
use crate::{
    calibrate::GroupSamples,
    capability::{Capability, LevelSet},
    codes::{Affine, Codes, Decoding},
    config::{Levels, QuantizerConfig, Range},
    gradient::Estimator,
    image_scale::ImageScale,
    method::{Role, SignScale, XnorOptions},
    normalize::{Normalizer, Restore},
    ops::{Elementwise, Rule, columns, estimated, quantize, straight_through},
    options::field_names,
    parameter::{Parameter, ParameterKind},
    per_group::add_per_group,
    site::Grouping,
    staircase::Staircase,
};

/// The value of x at which the sign changes.
pub const SHIFT: Parameter = Parameter::new("shift", ParameterKind::Free);

impl MethodFacts for XnorOptions {
    fn capability(&self, role: Role, _range: Range) -> Option<Capability> {
        let base = Capability {
            levels: LevelSet::Between(2, 2),
            estimators: &[Estimator::Clipped, Estimator::Identity, Estimator::Triangle],
            ..Capability::base(role)
        };
        Some(match role {
            Role::Weight => Capability { options: &["gamma"], ..base },
            Role::Activation | Role::Output => {
                Capability { options: field_names!(XnorOptions: sign_scale, shift), ..base }
            }
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        match setup.config.role {
            Role::Weight => MethodModule::SignWeight(SignWeight::new(setup)),
            Role::Activation | Role::Output => {
                MethodModule::SignActivation(SignActivation::new(setup, *self))
            }
        }
    }

    fn output_range(&self, _levels: Levels) -> Range {
        Range::Signed
    }

    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        Some(BY_LEVELS)
    }

    fn is_grouped(&self, config: &QuantizerConfig) -> bool {
        config.role == Role::Weight || self.shift
    }

    fn zero(&self, config: &QuantizerConfig) -> Option<f32> {
        let plain = self.sign_scale == SignScale::None && !self.shift;
        (plain && config.role != Role::Weight).then_some(1.0)
    }
}

/// Sign quantizer of activations: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct SignActivation {
    /// The value of x at which the sign changes, `[groups]`.
    pub shift: Option<Param<Tensor<1>>>,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    estimator: Estimator,
    #[module(skip)]
    scale: SignScale,
}

/// Sign quantizer of weights: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct SignWeight {
    /// The factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    estimator: Estimator,
    #[module(skip)]
    normalizer: Normalizer,
    #[module(skip)]
    grouping: Grouping,
}

/// Returns 1 where x >= 0, else 0; NaN where x is NaN.
fn bits<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let nan = x.clone().is_nan();
    x.greater_equal_elem(0.0).float().mask_fill(nan, f32::NAN)
}

/// Returns sign(x), -1 or 1.
fn signs<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    bits(x.detach()).mul_scalar(2.0).sub_scalar(1.0)
}

/// Returns scale where x >= shift, else -scale, in the type `output`; differentiable in x and
/// shift.
fn scaled_signs<const D: usize>(
    x: Tensor<D>,
    [shift, scale]: [Tensor<1>; 2],
    estimator: Estimator,
    grouping: Grouping,
    output: FloatDType,
) -> Tensor<D> {
    let rule = Rule::Sign { slope: estimator.into() };
    let operation = Elementwise { rule, view: grouping.view(&x.shape()) };
    quantize(x, columns([shift, scale]), operation, 1.0, output)
}

/// Returns `value` with the estimator's derivative by x.
fn by_estimator<const D: usize>(value: Tensor<D>, x: Tensor<D>, estimator: Estimator) -> Tensor<D> {
    let magnitude = x.clone().detach().abs();
    let inside = || magnitude.clone().lower_elem(1.0).float();
    match estimator {
        Estimator::Identity => straight_through(value, x),
        Estimator::Triangle => {
            let slope = magnitude.clone().clamp_max(1.0).mul_scalar(-2.0).add_scalar(2.0);
            estimated(value, x, slope)
        }
        Estimator::Clipped | Estimator::SteScale | Estimator::Ewgs => estimated(value, x, inside()),
    }
}

impl SignActivation {
    pub(crate) fn new(setup: &Setup<'_>, options: XnorOptions) -> Self {
        Self {
            shift: options.shift.then(|| setup.parameter(0.0)),
            grouping: setup.grouping,
            estimator: setup.config.estimator,
            scale: options.sign_scale,
        }
    }

    /// Returns x minus the shift.
    fn shifted<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.shift {
            None => x,
            Some(shift) => add_per_group(x, &shift.val().neg(), self.grouping),
        }
    }

    /// Returns E, with a shape that broadcasts to that of x.
    fn scale<const D: usize>(&self, x: Tensor<D>) -> Option<Tensor<D>> {
        let magnitude = || x.clone().detach().abs();
        match self.scale {
            SignScale::None => None,
            SignScale::OverChannels => Some(magnitude().mean_dim(1)),
            SignScale::OverResolution => {
                Some((2..D).fold(magnitude(), |mean, dimension| mean.mean_dim(dimension)))
            }
        }
    }
}

impl Quantize for SignActivation {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        if self.scale != SignScale::None {
            let x = self.shifted(x);
            let value = signs(x.clone());
            let value = match self.scale(x.clone()) {
                None => value,
                Some(scale) => value * scale,
            };
            return by_estimator(value, x, self.estimator).cast(output);
        }
        let groups = self.grouping.groups;
        let ones = Tensor::ones([groups], &x.device());
        let shift = match &self.shift {
            None => ones.zeros_like(),
            Some(shift) => shift.val(),
        };
        scaled_signs(x, [shift, ones], self.estimator, self.grouping, output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let x = self.shifted(x);
        Codes { decoding: Decoding::Signs(self.scale(x.clone())), codes: bits(x).int() }
    }
}

impl Parameters for SignActivation {
    learned!(SHIFT => shift);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let at = |threshold| Staircase::new(vec![-1.0, 1.0], vec![threshold]);
        match (&self.shift, self.scale) {
            (None, SignScale::None) => vec![at(0.0); self.grouping.groups],
            (Some(shift), SignScale::None) => host(shift).into_iter().map(at).collect(),
            _ => Vec::new(),
        }
    }

    fn take_image_scale(&mut self) -> Option<ImageScale> {
        let scale = std::mem::take(&mut self.scale);
        let mut shift = || self.shift.take().as_ref().map(host);
        match scale {
            SignScale::None => None,
            SignScale::OverChannels => Some(ImageScale::MeanOverChannels { shift: shift() }),
            SignScale::OverResolution => Some(ImageScale::MeanOverPositions { shift: shift() }),
        }
    }
}

impl SignWeight {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        Self {
            gamma: setup.gamma(),
            estimator: setup.config.estimator,
            normalizer: setup.normalizer(),
            grouping: setup.grouping,
        }
    }

    /// Returns how codes decode, with the scale mean|w| per group.
    fn decoding<const D: usize>(&self, w: Tensor<D>) -> Affine {
        let [outer, groups, inner] = self.grouping.view(&w.shape());
        let magnitude = w.detach().abs().reshape([outer, groups, inner]);
        let scale = magnitude.mean_dim(2).mean_dim(0).reshape([groups]);
        let (multiplier, offset) = (2.0, -1.0);
        Affine {
            steps: 1.0,
            multiplier,
            offset,
            scale,
            shift: None,
            gamma: None,
            grouping: self.grouping,
            restore: Restore::None,
        }
    }
}

impl Quantize for SignWeight {
    fn forward_as<const D: usize>(&self, w: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (w, restore) = self.normalizer.apply(w);
        let scale = self.decoding(w.clone()).scale;
        let written = restore.written(&w, output, &self.gamma);
        let parameters = [scale.zeros_like(), scale];
        let y = scaled_signs(w, parameters, self.estimator, self.grouping, written);
        restore.apply(times_gamma(y, &self.gamma, self.grouping)).cast(output)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let (w, restore) = self.normalizer.apply(w);
        let gamma = self.gamma.as_ref().map(Param::val);
        let decoding = Decoding::Affine(Affine { gamma, restore, ..self.decoding(w.clone()) });
        Codes { codes: bits(w).int(), decoding }
    }
}

impl Parameters for SignWeight {
    learned!(Parameter::GAMMA => gamma);

    fn staircases(&self, seen: &[GroupSamples]) -> Vec<Staircase> {
        let gammas = match &self.gamma {
            None => vec![1.0; self.grouping.groups],
            Some(gamma) => host(gamma),
        };
        let of = |(seen, gamma): (&GroupSamples, f32)| {
            let value = seen.mean_magnitude() * gamma;
            Staircase::new(vec![-value, value], vec![0.0])
        };
        seen.iter().zip(gammas).map(of).collect()
    }
}
