//! DoReFa-Net (Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with
//! Low Bitwidth Gradients", 2016). B = boundary, 1 in the paper.
//!
//! - activations and outputs (section 2.5): y = R(clamp(x, 0, B)·n/B)·B/n
//! - weights (equation 9): t = tanh w, u = t/(2·max|t|) + 1/2 with the maximum over the whole
//!   tensor, y = 2B·R(u·n/B)/n - 1
//!
//! **Gradients.** Activations: g where 0 < x < B, else 0. Weights: the rounding passes the
//! gradient; tanh and the maximum are differentiated.
//!
//! **Shapes.** Any; no learned parameter but, where asked for, `gamma` of shape `[groups]`, which
//! multiplies a quantized weight.
//!
//! **Where the reference differs from the paper.** The boundary; normalisation of the weight
//! before tanh (`var-mean`).

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use super::{Parameters, Quantize, gamma, straight_through, times_gamma};
use crate::{
    codes::{Affine, Codes, Decoding},
    config::{Normalization, QuantizerConfig, Range},
    gradient::Estimator,
    normalize::normalize_groups,
    ops::ClipQuantize,
    site::Grouping,
};

/// DoReFa quantizer of activations and outputs: see the [module](self).
#[derive(Module, Debug)]
pub struct DorefaActivation {
    /// Factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    boundary: f32,
    #[module(skip)]
    operation: ClipQuantize,
    #[module(skip)]
    grouping: Grouping,
}

impl DorefaActivation {
    pub(crate) fn new(config: &QuantizerConfig, grouping: Grouping, device: &Device) -> Self {
        Self {
            gamma: gamma(config, grouping, device),
            boundary: config.boundary as f32,
            operation: ClipQuantize {
                steps: config.levels.steps(),
                range: Range::Unsigned,
                estimator: Estimator::Clipped,
                learned_bound: false,
                clip_gradient_scale: 1.0,
            },
            grouping,
        }
    }

    fn clip(&self, device: &Device) -> Tensor<1> {
        Tensor::full([1], self.boundary, device)
    }
}

impl Quantize for DorefaActivation {
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let clip = self.clip(&x.device());
        let view = Grouping::WHOLE.view(&x.shape());
        let y = self.operation.forward(x, clip, view);
        times_gamma(y, &self.gamma, self.grouping)
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
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<1>>)> {
        self.gamma.iter().map(|gamma| ("gamma", gamma)).collect()
    }

    fn parameters_mut(&mut self) -> Vec<(&'static str, &mut Param<Tensor<1>>)> {
        self.gamma.iter_mut().map(|gamma| ("gamma", gamma)).collect()
    }
}

/// DoReFa quantizer of weights: see the [module](self).
#[derive(Module, Debug)]
pub struct DorefaWeight {
    /// Factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    boundary: f32,
    #[module(skip)]
    steps: f32,
    #[module(skip)]
    normalization: Normalization,
    #[module(skip)]
    grouping: Grouping,
}

impl DorefaWeight {
    pub(crate) fn new(config: &QuantizerConfig, grouping: Grouping, device: &Device) -> Self {
        Self {
            gamma: gamma(config, grouping, device),
            boundary: config.boundary as f32,
            steps: config.levels.steps(),
            normalization: config.normalization,
            grouping,
        }
    }

    /// u·n/B.
    fn position<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let t = normalize_groups(w, self.normalization, self.grouping).tanh();
        let largest = t.clone().abs().max().reshape([1; D]);
        let u = t / largest.mul_scalar(2.0) + 0.5;
        u.mul_scalar(self.steps).div_scalar(self.boundary)
    }

    fn decoding(&self, device: &Device) -> Affine {
        Affine {
            steps: self.steps,
            multiplier: 2.0 * self.boundary,
            offset: -1.0,
            scale: Tensor::ones([1], device),
            gamma: None,
            grouping: self.grouping,
        }
    }
}

impl Quantize for DorefaWeight {
    fn forward<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let decoding = self.decoding(&w.device());
        let position = self.position(w);
        let rounded = straight_through(position.clone().round(), position);
        times_gamma(decoding.values(rounded), &self.gamma, self.grouping)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let gamma = self.gamma.as_ref().map(Param::val);
        let decoding = Decoding::Affine(Affine { gamma, ..self.decoding(&w.device()) });
        let codes = self.position(w).round().int();
        Codes { codes, decoding }
    }
}

impl Parameters for DorefaWeight {
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<1>>)> {
        self.gamma.iter().map(|gamma| ("gamma", gamma)).collect()
    }

    fn parameters_mut(&mut self) -> Vec<(&'static str, &mut Param<Tensor<1>>)> {
        self.gamma.iter_mut().map(|gamma| ("gamma", gamma)).collect()
    }
}
