//! Signs: XNOR-Net (Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional
//! Neural Networks", ECCV 2016), XNOR-Net++ (Bulat and Tzimiropoulos, BMVC 2019), and DoReFa's binary
//! weights (Zhou et al. 2016, equation 7).
//!
//! - activations: y = sign(x)·E, where E is the mean of |x| over channels or over the resolution, of
//!   each image by itself, or 1 ([`SignScale`])
//! - weights: y = sign(w)·mean|w| per group, normalised first where asked for; times a learned `gamma`
//!   per group (XNOR-Net++)
//!
//! sign(0) = +1. A value that is not a number stays one.
//!
//! **Gradients.** The estimator m stands for the derivative of the scaled sign ([`Estimator`]): 1
//! (`identity`), \[-1 < x < 1\] (`clipped`; Hubara et al. 2016), or (2 - 2|x|)·\[-1 < x < 1\]
//! (`triangle`; Bi-Real Net, Liu et al. 2018): ∂x = g·m(x), and with a gamma ∂w = g·gamma·m(w),
//! ∂gamma = the sum of g·sign(w)·mean|w| over the group.
//!
//! **Shapes.** Any weight; activations `[batch, channels, height, width]` for scales over a dimension,
//! any for none. `gamma` is `[groups]`.
//!
//! **Initial value.** `gamma` = 1.
//!
//! **Where the reference differs from the papers.** XNOR-Net smooths its activation scale with the
//! convolution's window; here it is the plain mean. The gradient does not carry the scale.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use super::{Parameters, Quantize, gamma, times_gamma};
use crate::{
    codes::{Affine, Codes, Decoding},
    config::{Normalization, QuantizerConfig, SignScale},
    gradient::Estimator,
    normalize::normalize_groups,
    site::Grouping,
};

/// Signs of an activation: see the [module](self).
#[derive(Module, Debug)]
pub struct SignActivation {
    #[module(skip)]
    estimator: Estimator,
    #[module(skip)]
    scale: SignScale,
}

/// Signs of a weight: see the [module](self).
#[derive(Module, Debug)]
pub struct SignWeight {
    /// Factor on the quantized value, `[groups]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    estimator: Estimator,
    #[module(skip)]
    normalization: Normalization,
    #[module(skip)]
    grouping: Grouping,
}

/// 1 where x >= 0, else 0; not a number where x is not.
fn bits<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let nan = x.clone().is_nan();
    x.greater_equal_elem(0.0).float().mask_fill(nan, f32::NAN)
}

/// sign(x) in units of 1.
fn signs<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    bits(x.detach()).mul_scalar(2.0).sub_scalar(1.0)
}

/// `value` with the estimator's derivative by x.
fn estimated<const D: usize>(value: Tensor<D>, x: Tensor<D>, estimator: Estimator) -> Tensor<D> {
    let fixed = x.clone().detach();
    let moving = x - fixed.clone();
    let inside = || fixed.clone().abs().lower_elem(1.0).float();
    let slope = match estimator {
        Estimator::Clipped | Estimator::SteScale => inside(),
        Estimator::Triangle => fixed.clone().abs().mul_scalar(-2.0).add_scalar(2.0) * inside(),
        Estimator::Identity => return value + moving,
    };
    value + moving * slope
}

impl SignActivation {
    pub(crate) fn new(config: &QuantizerConfig) -> Self {
        Self { estimator: config.estimator, scale: config.sign_scale }
    }

    /// E, of a shape that broadcasts to x's.
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
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let value = match self.scale(x.clone()) {
            None => signs(x.clone()),
            Some(scale) => signs(x.clone()) * scale,
        };
        estimated(value, x, self.estimator)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        Codes { decoding: Decoding::Signs(self.scale(x.clone())), codes: bits(x).int() }
    }
}

impl Parameters for SignActivation {}

impl SignWeight {
    pub(crate) fn new(config: &QuantizerConfig, grouping: Grouping, device: &Device) -> Self {
        Self {
            gamma: gamma(config, grouping, device),
            estimator: config.estimator,
            normalization: config.normalization,
            grouping,
        }
    }

    /// mean|w| per group.
    fn decoding<const D: usize>(&self, w: Tensor<D>) -> Affine {
        let [outer, groups, inner] = self.grouping.view(&w.shape());
        let magnitude = w.detach().abs().reshape([outer, groups, inner]);
        let scale = magnitude.mean_dim(2).mean_dim(0).reshape([groups]);
        let (multiplier, offset) = (2.0, -1.0);
        Affine { steps: 1.0, multiplier, offset, scale, gamma: None, grouping: self.grouping }
    }
}

impl Quantize for SignWeight {
    fn forward<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let w = normalize_groups(w, self.normalization, self.grouping);
        let decoding = self.decoding(w.clone());
        let y = estimated(decoding.scaled(signs(w.clone())), w, self.estimator);
        times_gamma(y, &self.gamma, self.grouping)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let w = normalize_groups(w, self.normalization, self.grouping);
        let gamma = self.gamma.as_ref().map(Param::val);
        let decoding = Decoding::Affine(Affine { gamma, ..self.decoding(w.clone()) });
        Codes { codes: bits(w).int(), decoding }
    }
}

impl Parameters for SignWeight {
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<1>>)> {
        self.gamma.iter().map(|gamma| ("gamma", gamma)).collect()
    }

    fn parameters_mut(&mut self) -> Vec<(&'static str, &mut Param<Tensor<1>>)> {
        self.gamma.iter_mut().map(|gamma| ("gamma", gamma)).collect()
    }
}
