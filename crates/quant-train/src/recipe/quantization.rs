//! The part of a recipe that describes the quantizers of a phase.

use quant_core::{Calibration, Percentile, Role};
use quant_nn::{FirstLast, Quantization};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::quantizer::{MethodOptions, QuantizationLossRecipe, QuantizerRecipe};
use crate::{
    error::TrainError,
    schema::{
        choices::{Choice, text_of},
        stand_ins::{FirstLastField, PercentileField},
    },
};

/// The quantizers of a phase. The first and the last layer stay in 32 bits unless `first_last` says
/// otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationRecipe {
    /// The quantizer of layer inputs. By default they stay in 32 bits.
    pub activation: Option<QuantizerRecipe>,
    /// The quantizer of weights. By default they stay in 32 bits.
    pub weight: Option<QuantizerRecipe>,
    /// The quantizer of layer outputs. By default they stay in 32 bits, which is usual.
    pub output: Option<QuantizerRecipe>,
    /// Whether the first and the last layer are quantized too. By default both stay in 32 bits, as
    /// in most papers: they are small, and lose the most. Choose `{ bits = 8 }` for a network that
    /// is to run in integers, since a first layer in 32 bits can take longer than all binary layers
    /// together. With `true` both have the quantizers of the other layers:
    /// choose it for hardware that has no other layers; the score falls.
    #[serde(default)]
    #[schemars(with = "FirstLastField")]
    pub first_last: FirstLast,
    /// Whether the convolutions of skip branches stay in 32 bits. They are small, and errors in
    /// them reach every later layer: choose `true` for binary networks, and where a paper has them
    /// so.
    #[serde(default)]
    pub real_downsample: bool,
    /// Whether convolutions pad after quantizing instead of before: the zeros at the borders are
    /// then exact, also where 0 is no level. Choose what the hardware does that the network is for.
    #[serde(default)]
    pub padding_after_quant: bool,
    /// Images that the gradient scales `element-scale` and `scale-element` count. By default they
    /// are those of each batch.
    #[schemars(range(min = 1, max = 65_536))]
    pub scale_batch_size: Option<usize>,
    /// How the first parameters are found of quantizers whose parameters do not come with the
    /// weights.
    #[serde(default)]
    pub calibration: CalibrationRecipe,
    /// Whether all quantizers are calibrated, those too whose parameters come with the weights. Set
    /// it for weights that were trained with other settings than the file says.
    #[serde(default)]
    pub recalibrate: bool,
    /// Training batches that activations are calibrated on. Raise it for small batches; beyond some
    /// hundred images little changes. With 0 they keep the defaults of their method.
    #[serde(default = "calibration_batches")]
    #[schemars(range(min = 0, max = 100_000))]
    pub calibration_batches: usize,
    /// Training steps in full precision first, from whose statistics clipping values start. It
    /// replaces calibration, as in QTool. By default there are none.
    pub warm_up: Option<WarmUpRecipe>,
    /// A share of unquantized values that falls over training. Use it where training at few bits
    /// does not start well. By default there is none.
    pub proximal: Option<ProximalRecipe>,
}

/// How the first parameters of quantizers are found from data. Quantizers whose parameters come
/// with the weights, trained with the same method, levels, range, granularity and normalisation,
/// keep them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationRecipe {
    /// The clipping value with the smallest squared error.
    #[default]
    SquaredError,
    /// From the mean magnitude, as in LSQ's paper.
    MeanMagnitude,
    /// The largest magnitude: nothing is clipped.
    MinMax,
    /// This percentile of the magnitudes.
    Percentile(#[schemars(with = "PercentileField")] Percentile),
    /// `squared-error` of every quantizer, as with `recalibrate = true`.
    Always,
}

impl CalibrationRecipe {
    /// The formula.
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
    /// Training steps.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub steps: usize,
    /// Factor on the largest magnitude. Numbers below 1 clip more.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub correlate: f32,
    /// Whose quantizers.
    #[serde(default = "all_roles")]
    #[schemars(with = "Vec<Choice<Role>>")]
    pub roles: Vec<Role>,
}

/// Proximal quantization: training goes on with share·x + (1 - share)·Q(x).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProximalRecipe {
    /// The share of the unquantized value in the first epoch.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1))]
    pub start: f32,
    /// The epoch from which on it is 0; it falls linearly until then.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1_000_000))]
    pub epochs: f32,
}

impl ProximalRecipe {
    /// The share in an epoch, counted from 0: max(0, start·(1 - epoch/epochs)).
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
    /// Of these quantizers, with all else as usual.
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

    /// Whether quantizers are calibrated whose parameters came with the weights.
    pub fn calibrates_always(&self) -> bool {
        self.recalibrate || self.calibration == CalibrationRecipe::Always
    }

    /// The quantizer of a role.
    pub fn of(&self, role: Role) -> Option<&QuantizerRecipe> {
        match role {
            Role::Activation => self.activation.as_ref(),
            Role::Weight => self.weight.as_ref(),
            Role::Output => self.output.as_ref(),
        }
    }

    /// The configurations of the quantizers.
    ///
    /// # Errors
    /// [`TrainError::Invalid`] with the field, from `quantization` on.
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
