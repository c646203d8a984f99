//! Binary weights: y = sign(w)·mean|w| over the whole tensor, with sign(0) = +1 (Zhou et al.,
//! "DoReFa-Net", 2016, equation 7; after Rastegari et al., "XNOR-Net", 2016).
//!
//! **Gradient.** ∂w = g; the mean is a constant.
//!
//! **Shapes.** Any weight; no parameter but, where asked for, `gamma` of shape `[1]`, which
//! multiplies the quantized value. Two levels. The scale is recomputed from the weight at each call.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use super::{Quantize, gamma, straight_through, times_gamma};
use crate::{
    codes::{Codes, Decoding},
    config::{Normalization, QuantizerConfig},
    normalize::normalize_groups,
    site::Grouping,
};

/// Sign and mean magnitude: see the [module](self).
#[derive(Module, Debug)]
pub struct BinaryWeight {
    /// Factor on the quantized value, `[1]`.
    pub gamma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    normalization: Normalization,
    #[module(skip)]
    grouping: Grouping,
}

impl BinaryWeight {
    pub(crate) fn new(config: &QuantizerConfig, grouping: Grouping, device: &Device) -> Self {
        Self {
            gamma: gamma(config, grouping, device),
            normalization: config.normalization,
            grouping,
        }
    }

    /// 1 where w >= 0, else 0, and what the two stand for.
    fn parts<const D: usize>(&self, w: Tensor<D>) -> (Tensor<D>, Decoding) {
        let decoding = Decoding {
            steps: 1.0,
            multiplier: 2.0,
            offset: -1.0,
            scale: w.clone().abs().mean(),
            gamma: None,
            grouping: self.grouping,
        };
        (w.greater_equal_elem(0.0).float(), decoding)
    }
}

impl Quantize for BinaryWeight {
    fn forward<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let w = normalize_groups(w, self.normalization, self.grouping);
        let (bits, decoding) = self.parts(w.clone().detach());
        let y = straight_through(decoding.values(bits), w);
        times_gamma(y, &self.gamma, self.grouping)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let w = normalize_groups(w, self.normalization, self.grouping);
        let (bits, decoding) = self.parts(w.detach());
        let gamma = self.gamma.as_ref().map(Param::val);
        Codes { codes: bits.int(), decoding: Decoding { gamma, ..decoding } }
    }
}
