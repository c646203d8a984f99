//! The quantizers of a phase, as a recipe describes them.

use quant_core::{Calibration, Percentile, Role};
use quant_nn::{FirstLast, Quantization};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::quantizer::{MethodOptions, QuantizationLossRecipe, QuantizerRecipe};
use crate::{
    error::TrainError,
    output::text_of,
    schema::{
        choices::Choice,
        stand_ins::{FirstLastField, PercentileField},
    },
};

/// The quantizers of a phase. The first and the last layer stay in 32 bits unless `first_last` says
/// otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationRecipe {
    /// The quantizer of the inputs of layers. By default they stay in 32 bits.
    pub activation: Option<QuantizerRecipe>,
    /// The quantizer of the weights. By default they stay in 32 bits.
    pub weight: Option<QuantizerRecipe>,
    /// The quantizer of the outputs of layers. By default they stay in 32 bits, which is usual.
    pub output: Option<QuantizerRecipe>,
    /// Whether the first and the last layer are quantized too. By default both stay in 32 bits, as
    /// in most papers, because they are small and their quantization costs most of the accuracy.
    /// Choose `{ bits = 8 }` for a network that is to run in integers: the pixels that the first
    /// layer reads are bytes, and both layers then have weights of 8 bits. With `true` both have
    /// the quantizers of the other layers: choose it for hardware that has no other layers. The
    /// score is then lower.
    #[serde(default)]
    #[schemars(with = "FirstLastField")]
    pub first_last: FirstLast,
    /// Whether these convolutions stay in 32 bits: those of skip branches, and those of lossless
    /// downsampling in front of a block. They are small, and their errors reach every later layer.
    /// Choose `true` for binary networks, and where the paper does so.
    #[serde(default)]
    pub real_downsample: bool,
    /// Whether convolutions pad after quantizing instead of before it. The zeros at the borders are
    /// then exact, even if 0 is not a level. Choose what your target hardware does.
    #[serde(default)]
    pub padding_after_quant: bool,
    /// The number of images that the gradient scales `element-scale` and `scale-element` use. By
    /// default it is the number of images of each batch.
    #[schemars(range(min = 1, max = 65_536))]
    pub scale_batch_size: Option<usize>,
    /// How the initial parameters of quantizers are found if the weights do not come with
    /// parameters for them.
    #[serde(default)]
    pub calibration: CalibrationRecipe,
    /// Whether all quantizers are calibrated, including those whose parameters come with the
    /// weights. Set it for weights that were trained with other settings than their file says.
    #[serde(default)]
    pub recalibrate: bool,
    /// The number of training batches on which activations are calibrated. Raise it for small
    /// batches. More than a few hundred images change little. With 0, activations keep the defaults
    /// of their method.
    #[serde(default = "calibration_batches")]
    #[schemars(range(min = 0, max = 100_000))]
    pub calibration_batches: usize,
    /// Training steps in full precision at the start, from whose statistics the clipping values
    /// start. They replace calibration, as in QTool. By default there are none.
    pub warm_up: Option<WarmUpRecipe>,
    /// Proximal quantization: a share of unquantized values, which falls during training. Use it if
    /// training with few bits does not start well. By default there is none.
    pub proximal: Option<ProximalRecipe>,
}

/// How the initial parameters of quantizers are found from data. Quantizers whose parameters come
/// with the weights keep them if they were trained with the same method, levels, range, granularity
/// and normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationRecipe {
    /// The clipping value with the smallest squared error.
    #[default]
    SquaredError,
    /// The clipping value from the mean magnitude, as in LSQ's paper.
    MeanMagnitude,
    /// The largest magnitude as the clipping value, so that nothing is clipped.
    MinMax,
    /// This percentile of the magnitudes as the clipping value.
    Percentile(#[schemars(with = "PercentileField")] Percentile),
    /// The calibration `squared-error` for every quantizer, as with `recalibrate = true`.
    Always,
}

impl CalibrationRecipe {
    /// Returns how initial values are calibrated.
    pub fn method(self) -> Calibration {
        match self {
            Self::SquaredError | Self::Always => Calibration::SquaredError,
            Self::MeanMagnitude => Calibration::MeanMagnitude,
            Self::MinMax => Calibration::MinMax,
            Self::Percentile(percent) => Calibration::Percentile(percent),
        }
    }
}

/// Training steps in which quantizers pass their inputs through, while clipping values follow the
/// running mean of the largest magnitude.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmUpRecipe {
    /// The number of training steps.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub steps: usize,
    /// The factor on the largest magnitude. Numbers below 1 clip more.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub correlate: f32,
    /// The roles of the quantizers that warm up.
    #[serde(default = "all_roles")]
    #[schemars(with = "Vec<Choice<Role>>")]
    pub roles: Vec<Role>,
}

/// Proximal quantization: training continues with share·x + (1 - share)·Q(x).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProximalRecipe {
    /// The share of the unquantized value in the first epoch.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1))]
    pub start: f32,
    /// The epoch at which the share becomes 0. It falls linearly until then.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1_000_000))]
    pub epochs: f32,
}

impl ProximalRecipe {
    /// Returns the share in an epoch, counted from 0: max(0, start·(1 - epoch/epochs)).
    pub fn share(&self, epoch: usize) -> f32 {
        (self.start * (1.0 - epoch as f32 / self.epochs)).max(0.0)
    }
}

fn one() -> f32 {
    1.0
}

fn all_roles() -> Vec<Role> {
    Role::ALL.to_vec()
}

fn calibration_batches() -> usize {
    4
}

impl QuantizationRecipe {
    /// Returns a description with these quantizers, and the defaults for everything else.
    pub fn new(
        activation: Option<QuantizerRecipe>,
        weight: Option<QuantizerRecipe>,
        output: Option<QuantizerRecipe>,
    ) -> Self {
        Self {
            activation,
            weight,
            output,
            first_last: FirstLast::FullPrecision,
            real_downsample: false,
            padding_after_quant: false,
            scale_batch_size: None,
            calibration: CalibrationRecipe::default(),
            recalibrate: false,
            calibration_batches: calibration_batches(),
            warm_up: None,
            proximal: None,
        }
    }

    /// Returns whether quantizers whose parameters came with the weights are calibrated too.
    pub fn calibrates_always(&self) -> bool {
        self.recalibrate || self.calibration == CalibrationRecipe::Always
    }

    /// Returns the quantizer of a role.
    pub fn of(&self, role: Role) -> Option<&QuantizerRecipe> {
        match role {
            Role::Activation => self.activation.as_ref(),
            Role::Weight => self.weight.as_ref(),
            Role::Output => self.output.as_ref(),
        }
    }

    /// Returns the configurations of the quantizers.
    ///
    /// # Errors
    /// [`TrainError::Invalid`] with the path of the field, which begins with `quantization`.
    pub fn typed(&self) -> Result<Quantization, TrainError> {
        let typed = |recipe: &Option<QuantizerRecipe>, role| {
            let invalid = |reason| TrainError::Invalid {
                field: format!("quantization.{}", text_of(&role)),
                reason,
            };
            recipe.as_ref().map(|recipe| recipe.typed(role).map_err(invalid)).transpose()
        };
        self.first_last.validate().map_err(|error| TrainError::Invalid {
            field: "quantization.first_last".into(),
            reason: error.to_string(),
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proximal_share_falls_to_zero_in_its_epochs() {
        let recipe = ProximalRecipe { start: 0.8, epochs: 4.0 };
        let shares = [0, 1, 2, 3, 4, 5].map(|epoch| recipe.share(epoch));
        for (share, expected) in shares.into_iter().zip([0.8, 0.6, 0.4, 0.2, 0.0, 0.0]) {
            assert!((share - expected).abs() < 1e-6, "{shares:?}");
        }
    }
}
