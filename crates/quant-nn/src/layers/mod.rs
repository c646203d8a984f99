//! Layers: quantized convolution, linear layer and addition, batch normalisation with PyTorch's
//! statistics, and learned activation functions.

pub mod activation;
pub mod conv;
pub mod eltwise;
pub mod linear;
pub mod norm;

use quant_core::{Quantizer, QuantizerConfig, QuantizerError, Site};

use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// The quantizers of one layer. A role without a quantizer stays in full precision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerQuantizers {
    /// The quantizer of the layer's input.
    pub activation: Option<QuantizerConfig>,
    /// The quantizer of the layer's weight.
    pub weight: Option<QuantizerConfig>,
    /// The quantizer of the layer's output.
    pub output: Option<QuantizerConfig>,
}

fn init_quantizer(
    config: &Option<QuantizerConfig>,
    site: Site,
    device: &Device,
) -> Result<Option<Quantizer>, QuantizerError> {
    config.as_ref().map(|config| config.init(&site, device)).transpose()
}

/// The type in which the products of a layer are computed. Its weights, quantizers and outputs have
/// 32 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// Floats of 32 bits.
    #[default]
    F32,
    /// IEEE half precision: 11 bits of precision, up to 65504.
    F16,
    /// 8 bits of precision, with the range of 32 bits.
    Bf16,
}

impl Compute {
    /// Returns the type of a factor of a product which is given in `dtype`.
    fn dtype(self, dtype: DType) -> FloatDType {
        match self {
            Compute::F32 => dtype.into(),
            Compute::F16 => FloatDType::F16,
            Compute::Bf16 => FloatDType::BF16,
        }
    }

    /// Converts a factor of a product to this type.
    fn input<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let dtype = self.dtype(x.dtype());
        x.cast(dtype)
    }

    /// Returns a factor of a product, quantized if there is a quantizer, which then writes this
    /// type itself.
    fn factor<const D: usize>(self, quantizer: &Option<Quantizer>, x: Tensor<D>) -> Tensor<D> {
        match quantizer {
            Some(quantizer) => {
                let dtype = self.dtype(x.dtype());
                quantizer.forward_as(x, dtype)
            }
            None => self.input(x),
        }
    }

    /// Converts the result of a product to 32 bits.
    fn output<const D: usize>(self, y: Tensor<D>) -> Tensor<D> {
        match self {
            Compute::F32 => y,
            Compute::F16 | Compute::Bf16 => y.cast(FloatDType::F32),
        }
    }
}
