//! Which layers of a network are quantized, and how.

use quant_core::QuantizerConfig;
use serde::{Deserialize, Serialize};

use super::{first_last::FirstLast, range::check_range};
use crate::error::NetworkError;

/// Which layers are quantized, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantization {
    /// Quantizer of layer inputs.
    pub activation: Option<QuantizerConfig>,
    /// Quantizer of weights.
    pub weight: Option<QuantizerConfig>,
    /// Quantizer of layer outputs.
    pub output: Option<QuantizerConfig>,
    /// Whether the first and the last layer are quantized too, and how.
    pub first_last: FirstLast,
    /// Whether the convolutions of skip branches stay in full precision.
    pub real_downsample: bool,
    /// Whether convolutions pad after quantizing their input; before it is the default.
    pub padding_after_quant: bool,
    /// Images that gradient scales of a batch count; by default those of each batch.
    pub batch_size: Option<usize>,
}

impl Quantization {
    /// Checks the quantizers' configurations.
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
