//! Layers: quantized convolution, linear and addition, batch normalisation with PyTorch's statistics, learned
//! activation functions.

pub mod activation;
pub mod conv;
pub mod eltwise;
pub mod linear;
pub mod norm;

use quant_core::{Quantizer, QuantizerConfig, QuantizerError, Site};

use burn::tensor::Device;

/// The quantizers of one layer; a role without one stays in full precision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerQuantizers {
    /// Of the layer's input.
    pub activation: Option<QuantizerConfig>,
    /// Of its weight.
    pub weight: Option<QuantizerConfig>,
    /// Of its output.
    pub output: Option<QuantizerConfig>,
    /// Positions (height times width) of the layer's input, for gradient scales that count elements.
    pub positions: Option<usize>,
    /// Batch size, for gradient scales that count the elements of a batch.
    pub batch_size: Option<usize>,
}

fn init_quantizer(
    config: &Option<QuantizerConfig>,
    site: Site,
    device: &Device,
) -> Result<Option<Quantizer>, QuantizerError> {
    config.as_ref().map(|config| config.init(&site, device)).transpose()
}
