//! The part of a recipe that describes the quantizers of a phase.

use quant_core::{
    Calibration, Estimator, GradientScale, Granularity, Levels, Method, Normalization,
    QuantizerConfig, QuantizerError, Range, Role, SignScale,
};
use quant_nn::Quantization;
use serde::{Deserialize, Serialize};

/// The quantizers of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationRecipe {
    /// Of layer inputs.
    pub activation: Option<QuantizerRecipe>,
    /// Of weights.
    pub weight: Option<QuantizerRecipe>,
    /// Of layer outputs.
    pub output: Option<QuantizerRecipe>,
    /// Whether the first and the last layer are quantized too.
    #[serde(default)]
    pub first_last: bool,
    /// Whether the convolutions of skip branches stay in full precision.
    #[serde(default)]
    pub real_downsample: bool,
    /// Whether convolutions pad after quantizing.
    #[serde(default)]
    pub padding_after_quant: bool,
    /// Batch size for the gradient scales `element-scale` and `scale-element`.
    pub scale_batch_size: Option<usize>,
    /// How clipping values start.
    #[serde(default)]
    pub calibration: Calibration,
    /// Batches that activations are calibrated on.
    #[serde(default = "calibration_batches")]
    pub calibration_batches: usize,
}

/// A quantizer: [`QuantizerConfig`] with bits for levels, and defaults by role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizerRecipe {
    /// The formula.
    pub method: Method,
    /// Bits, 1 to 8.
    pub bits: Option<u32>,
    /// Levels, 2 to 256, instead of bits.
    pub levels: Option<usize>,
    /// By default unsigned for activations, signed for weights and outputs.
    pub range: Option<Range>,
    /// By default per tensor.
    pub granularity: Option<Granularity>,
    /// By default clipped.
    #[serde(default)]
    pub estimator: Estimator,
    /// By default the paper's for LSQ, else none.
    pub gradient_scale: Option<GradientScale>,
    /// Initial or fixed clipping value. By default 1.
    pub boundary: Option<f64>,
    /// By default none.
    #[serde(default)]
    pub normalization: Normalization,
    /// Whether a factor is learned.
    #[serde(default)]
    pub gamma: bool,
    /// What XNOR activations are multiplied by; by default nothing.
    #[serde(default)]
    pub sign_scale: SignScale,
    /// Whether FATNN's values are multiplied by a least squares factor.
    #[serde(default)]
    pub closed_form: bool,
    /// Where LQ-Nets' thresholds lie between two levels; by default in the middle.
    pub threshold_position: Option<f64>,
    /// Whether LQ-Nets' basis is the running mean of all solutions.
    #[serde(default)]
    pub running_mean_basis: bool,
}

fn calibration_batches() -> usize {
    4
}

impl QuantizationRecipe {
    pub(crate) fn typed(&self) -> Result<Quantization, QuantizerError> {
        let typed = |recipe: &Option<QuantizerRecipe>, role| {
            recipe.as_ref().map(|recipe| recipe.typed(role)).transpose()
        };
        Ok(Quantization {
            activation: typed(&self.activation, Role::Activation)?,
            weight: typed(&self.weight, Role::Weight)?,
            output: typed(&self.output, Role::Output)?,
            first_last: self.first_last,
            real_downsample: self.real_downsample,
            padding_after_quant: self.padding_after_quant,
            batch_size: self.scale_batch_size,
        })
    }
}

impl QuantizerRecipe {
    fn typed(&self, role: Role) -> Result<QuantizerConfig, QuantizerError> {
        let levels = match (self.bits, self.levels) {
            (Some(bits), None) => Levels::from_bits(bits)?,
            (None, Some(levels)) => Levels::new(levels)?,
            (bits, levels) => {
                return Err(QuantizerError::Option {
                    option: format!("{role:?} quantizer: bits and levels"),
                    value: format!("{bits:?} and {levels:?}"),
                    accepted: "give one of the two",
                });
            }
        };
        let defaults = QuantizerConfig::new(self.method, role, levels);
        Ok(QuantizerConfig {
            range: self.range.unwrap_or(defaults.range),
            granularity: self.granularity.unwrap_or(defaults.granularity),
            estimator: self.estimator,
            gradient_scale: self.gradient_scale.unwrap_or(defaults.gradient_scale),
            boundary: self.boundary.unwrap_or(defaults.boundary),
            normalization: self.normalization,
            gamma: self.gamma,
            sign_scale: self.sign_scale,
            closed_form: self.closed_form,
            threshold_position: self.threshold_position.unwrap_or(defaults.threshold_position),
            running_mean_basis: self.running_mean_basis,
            ..defaults
        })
    }
}
