//! Which layers of a network are quantized, and how.

use quant_core::QuantizerConfig;
use serde::{Deserialize, Serialize};

use super::{first_last::FirstLast, range::check_range};
use crate::error::NetworkError;

/// Which layers are quantized, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantization {
    /// The quantizer of layer inputs.
    pub activation: Option<QuantizerConfig>,
    /// The quantizer of weights.
    pub weight: Option<QuantizerConfig>,
    /// The quantizer of layer outputs.
    pub output: Option<QuantizerConfig>,
    /// Whether the first and the last layer are quantized too, and how.
    pub first_last: FirstLast,
    /// Whether these convolutions stay in full precision: those of skip branches, and those of
    /// lossless downsampling in front of a block.
    pub real_downsample: bool,
    /// Whether convolutions add padding after quantizing the input. By default it is added before.
    pub padding_after_quant: bool,
    /// The number of images per batch from which gradient scales are computed. By default it is
    /// that of the actual batch.
    pub batch_size: Option<usize>,
}

impl Quantization {
    /// Checks the configurations of the quantizers.
    pub(crate) fn validate(&self) -> Result<(), NetworkError> {
        let configs = [&self.activation, &self.weight, &self.output];
        for config in configs.into_iter().flatten() {
            config.validate("network")?;
        }
        self.first_last.validate()?;
        let images = self.batch_size.unwrap_or(1);
        check_range("batch_size of gradient scales", images, 1..=1 << 24, "1 to 16777216")
    }
}
