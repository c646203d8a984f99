//! The part of a recipe that describes the quantizers of a phase.

use quant_core::{
    Calibration, Estimator, GradientScale, Granularity, Levels, Method, Normalization, Percentile,
    QuantizationLoss, QuantizerConfig, Range, Role, qtool::Compatibility,
};
use quant_nn::Quantization;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    fields::{
        choices::Choice,
        options::{MethodField, MethodOptions},
        shadow::{CompatibilityFields, GradientScaleFields, PercentileField},
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
    /// in most papers: they are small, and lose the most. Choose `true` for hardware that has no
    /// other layers; the score falls.
    #[serde(default)]
    pub first_last: bool,
    /// Whether the convolutions of skip branches stay in 32 bits. They are small, and errors in
    /// them reach every later layer: choose `true` for binary networks, and where a paper has them
    /// so.
    #[serde(default)]
    pub real_downsample: bool,
    /// Whether convolutions pad after quantizing instead of before: the zeros at the borders are
    /// then exact, also where 0 is no level. Choose what the hardware does that the network is for.
    #[serde(default)]
    pub padding_after_quant: bool,
    /// Images that the gradient scales `element-scale` and `scale-element` count. By default they are
    /// those of each batch.
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

/// A quantizer, with defaults by role. `docs/quantizers.md` says which methods have which
/// of these fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantizerRecipe {
    /// The formula. `lsq` is the usual start.
    #[schemars(with = "MethodField")]
    pub method: Method,
    /// Bits: 2^bits levels. Either `bits` or `levels`.
    #[schemars(range(min = 1, max = 8))]
    pub bits: Option<u32>,
    /// Levels, instead of bits: 3 for ternary values.
    #[schemars(range(min = 2, max = 256))]
    pub levels: Option<usize>,
    /// Where the levels lie: from 0 up, or on both sides of 0. By default it is unsigned for
    /// activations, signed for weights and, where the method can, outputs. Choose `signed` for
    /// activations that can be negative, as behind PReLU.
    #[schemars(with = "Option<Choice<Range>>")]
    pub range: Option<Range>,
    /// Which elements share one clipping value. By default all of a tensor do; `per-channel` suits
    /// weights of few bits.
    #[schemars(with = "Option<Choice<Granularity>>")]
    pub granularity: Option<Granularity>,
    /// What stands in for the derivative of a clamp or sign. By default it is `clipped`, the
    /// straight-through estimator; `triangle` suits binary activations.
    #[schemars(with = "Option<Choice<Estimator>>")]
    pub estimator: Option<Estimator>,
    /// Scale of the gradient of clipping values. By default it is the paper's for LSQ's family, and
    /// none for other methods.
    #[schemars(with = "Option<GradientScaleFields>")]
    pub gradient_scale: Option<GradientScale>,
    /// Strength of the estimator `ewgs`. By default it is 0.001.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub ewgs_factor: Option<f64>,
    /// The initial clipping value, or the fixed one of methods that learn none. By default it is 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub boundary: Option<f64>,
    /// Normalisation before quantizing. By default it is `var-mean` for APoT weights, and none for
    /// others.
    #[schemars(with = "Option<Choice<Normalization>>")]
    pub normalization: Option<Normalization>,
    /// Whether the normalisation is over the whole weight, whatever the granularity. By default it
    /// is not.
    pub independent_norm: Option<bool>,
    /// Whether a normalised weight is multiplied by its deviation again. By default it is not.
    pub restore_normalization: Option<bool>,
    /// Whether a factor on the quantized value is learned. By default none is.
    pub gamma: Option<bool>,
    /// Habits of QTool. It is for imported recipes. By default there are none.
    #[schemars(with = "Option<CompatibilityFields>")]
    pub qtool: Option<Compatibility>,
    /// The options that belong to one method alone.
    #[serde(flatten)]
    pub options: MethodOptions,
    /// A loss on the quantization error, added to the training loss. By default there is none.
    pub loss: Option<QuantizationLossRecipe>,
}

/// A loss on the error of each quantizer of a role.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationLossRecipe {
    /// Which, of x and its quantized value y: `l1` is mean |y - x|, `l2` mean (y - x)²,
    /// `distribution` |Σxy/Σy² - 1|.
    #[schemars(with = "Choice<QuantizationLoss>")]
    pub kind: QuantizationLoss,
    /// What it is multiplied by. Choose it so small that the training loss stays the larger part.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub factor: f32,
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

/// A choice as recipes write it, such as `lq-nets`.
pub(crate) fn text_of(choice: &impl Serialize) -> String {
    let text = toml::Value::try_from(choice).ok();
    text.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
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
            first_last: false,
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

/// The options that a recipe and a configuration have in common, handed to a macro.
macro_rules! each_option {
    ($then:ident) => {
        $then!(
            range,
            granularity,
            estimator,
            gradient_scale,
            ewgs_factor,
            boundary,
            normalization,
            independent_norm,
            restore_normalization,
            gamma,
            qtool
        )
    };
}

impl QuantizerRecipe {
    /// The recipe of a configuration: what is as by default is left out.
    pub fn from_config(config: &QuantizerConfig) -> Self {
        let usual = QuantizerConfig::new(config.method, config.role, config.levels);
        macro_rules! unusual {
            ($($field:ident),*) => {
                Self {
                    method: config.method,
                    bits: Levels::from_bits(config.levels.bits())
                        .is_ok_and(|levels| levels == config.levels)
                        .then(|| config.levels.bits()),
                    levels: None,
                    loss: None,
                    options: MethodOptions::of(&config.method),
                    $($field: (config.$field != usual.$field).then(|| config.$field.clone()),)*
                }
            };
        }
        let recipe = each_option!(unusual);
        let levels = recipe.bits.is_none().then(|| config.levels.count());
        Self { levels, ..recipe }
    }

    /// The configuration, or why there is none.
    fn typed(&self, role: Role) -> Result<QuantizerConfig, String> {
        let levels = match (self.bits, self.levels) {
            (Some(bits), None) => Levels::from_bits(bits),
            (None, Some(levels)) => Levels::new(levels),
            (Some(_), Some(_)) => return Err("set either bits or levels, not both".into()),
            (None, None) => return Err("set either bits or levels".into()),
        };
        let levels = levels.map_err(|error| error.to_string())?;
        let mut method = self.method;
        self.options.give_to(&mut method)?;
        let mut config = QuantizerConfig::new(method, role, levels);
        macro_rules! given {
            ($($field:ident),*) => {
                $(if let Some(value) = self.$field { config.$field = value; })*
            };
        }
        each_option!(given);
        Ok(config)
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
