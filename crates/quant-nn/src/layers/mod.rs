//! Layers: quantized convolution, linear and addition, batch normalisation with PyTorch's
//! statistics, learned activation functions.

pub mod activation;
pub mod conv;
pub mod eltwise;
pub mod linear;
pub mod norm;

use quant_core::{Quantizer, QuantizerConfig, QuantizerError, Site};

use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// The quantizers of one layer; a role without one stays in full precision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerQuantizers {
    /// Of the layer's input.
    pub activation: Option<QuantizerConfig>,
    /// Of its weight.
    pub weight: Option<QuantizerConfig>,
    /// Of its output.
    pub output: Option<QuantizerConfig>,
}

fn init_quantizer(
    config: &Option<QuantizerConfig>,
    site: Site,
    device: &Device,
) -> Result<Option<Quantizer>, QuantizerError> {
    config.as_ref().map(|config| config.init(&site, device)).transpose()
}

/// The type that a layer's products are computed in. Its weights, quantizers and outputs are in 32
/// bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision: 11 bits of precision, up to 65504.
    F16,
    /// 8 bits of precision, with the range of 32 bits.
    Bf16,
}

impl Compute {
    /// What a product takes.
    fn input<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Compute::F32 => x,
            Compute::F16 => x.cast(FloatDType::F16),
            Compute::Bf16 => x.cast(FloatDType::BF16),
        }
    }

    /// What a product gives.
    fn output<const D: usize>(self, y: Tensor<D>) -> Tensor<D> {
        match self {
            Compute::F32 => y,
            Compute::F16 | Compute::Bf16 => y.cast(FloatDType::F32),
        }
    }
}
