//! The part of a recipe that describes the quantizers of a phase.

use quant_core::{
    Calibration, Estimator, GradientScale, Granularity, Levels, Method, Normalization, Percentile,
    QuantizationLoss, QuantizerConfig, QuantizerError, Range, Role, SignScale,
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
    /// Images that the gradient scales `element-scale` and `scale-element` count; by default those of
    /// each batch.
    pub scale_batch_size: Option<usize>,
    /// How the parameters of quantizers start that the weights do not have.
    #[serde(default)]
    pub calibration: CalibrationRecipe,
    /// Whether they all start so, those too that the weights have.
    #[serde(default)]
    pub recalibrate: bool,
    /// Batches that activations are calibrated on.
    #[serde(default = "calibration_batches")]
    pub calibration_batches: usize,
    /// Training steps in full precision first, from whose statistics clipping values start.
    pub warm_up: Option<WarmUpRecipe>,
    /// A share of unquantized values that falls over training.
    pub proximal: Option<ProximalRecipe>,
}

/// How the first parameters of quantizers are found from data. Quantizers whose parameters come with
/// the weights, trained with the same method, levels, range, granularity and normalisation, keep them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationRecipe {
    /// [`Calibration::SquaredError`].
    #[default]
    SquaredError,
    /// [`Calibration::MeanMagnitude`].
    MeanMagnitude,
    /// [`Calibration::MinMax`].
    MinMax,
    /// [`Calibration::Percentile`].
    Percentile(Percentile),
    /// [`Calibration::SquaredError`] of every quantizer, as with `recalibrate = true`.
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
    /// By default unsigned for activations, signed for weights and, where the method can, outputs.
    pub range: Option<Range>,
    /// By default per tensor.
    pub granularity: Option<Granularity>,
    /// By default clipped.
    pub estimator: Option<Estimator>,
    /// By default the paper's for LSQ's family, else none.
    pub gradient_scale: Option<GradientScale>,
    /// Strength of the estimator `ewgs`. By default 0.001.
    pub ewgs_factor: Option<f64>,
    /// Initial or fixed clipping value. By default 1.
    pub boundary: Option<f64>,
    /// By default `var-mean` for APoT weights, else none.
    pub normalization: Option<Normalization>,
    /// Whether the normalisation is over the whole weight, whatever the granularity.
    pub independent_norm: Option<bool>,
    /// Whether a normalised weight is multiplied by its deviation again.
    pub restore_normalization: Option<bool>,
    /// Whether a factor is learned.
    pub gamma: Option<bool>,
    /// What XNOR activations are multiplied by; by default nothing.
    pub sign_scale: Option<SignScale>,
    /// Whether XNOR activations learn where their sign changes.
    pub shift: Option<bool>,
    /// Initial slope of FATNN's pieces. By default 0.5.
    pub initial_slope: Option<f64>,
    /// Whether FATNN's values are multiplied by a least squares factor.
    pub closed_form: Option<bool>,
    /// Where LQ-Nets' thresholds lie between two levels; by default in the middle.
    pub threshold_position: Option<f64>,
    /// Whether LQ-Nets' basis is the running mean of all solutions.
    pub running_mean_basis: Option<bool>,
    /// TTQ's thresholds in units of the largest magnitude. By default 0.05.
    pub ternary_threshold: Option<f64>,
    /// Whether groups that do not fit fall back as in the reference implementation. For imported recipes.
    pub group_fallback: Option<bool>,
    /// Whether FATNN keeps a clipping value that nothing uses. For imported recipes.
    pub unused_clipping_value: Option<bool>,
    /// A loss on the quantization error, added to the training loss.
    pub loss: Option<QuantizationLossRecipe>,
}

/// A loss on the error of each quantizer of a role.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationLossRecipe {
    /// Which.
    pub kind: QuantizationLoss,
    /// What it is multiplied by.
    pub factor: f32,
}

/// Training steps in which quantizers pass their inputs through, while clipping values follow the
/// running mean of the largest magnitude.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUpRecipe {
    /// How many.
    pub steps: usize,
    /// Factor on the largest magnitude. By default 1.
    #[serde(default = "one")]
    pub correlate: f32,
    /// Whose quantizers. By default all.
    #[serde(default = "all_roles")]
    pub roles: Vec<Role>,
}

/// Proximal quantization: training goes on with share·x + (1 - share)·Q(x).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProximalRecipe {
    /// The share of the unquantized value in the first epoch: 0 to 1. By default 1.
    #[serde(default = "one")]
    pub start: f32,
    /// The epoch from which on it is 0; it falls linearly until then.
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

    /// Fields of the training aids that cannot be: name, value and what would work.
    pub(crate) fn flaw(&self) -> Option<(String, String, &'static str)> {
        let positive = "a finite number above 0";
        let bad = |x: f32| !(x.is_finite() && x > 0.0);
        if let Some(WarmUpRecipe { correlate, .. }) =
            self.warm_up.as_ref().filter(|w| bad(w.correlate))
        {
            return Some(("warm_up.correlate".into(), correlate.to_string(), positive));
        }
        if let Some(proximal) = self.proximal {
            if bad(proximal.epochs) {
                return Some(("proximal.epochs".into(), proximal.epochs.to_string(), positive));
            }
            if !(0.0..=1.0).contains(&proximal.start) {
                return Some(("proximal.start".into(), proximal.start.to_string(), "0 to 1"));
            }
        }
        Role::ALL.into_iter().find_map(|role| {
            let factor = self.of(role)?.loss?.factor;
            let field = format!("{}.loss.factor", format!("{role:?}").to_lowercase());
            bad(factor).then(|| (field, factor.to_string(), positive))
        })
    }

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
            sign_scale,
            shift,
            initial_slope,
            closed_form,
            threshold_position,
            running_mean_basis,
            ternary_threshold,
            group_fallback,
            unused_clipping_value
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
                    $($field: (config.$field != usual.$field).then(|| config.$field.clone()),)*
                }
            };
        }
        let recipe = each_option!(unusual);
        let levels = recipe.bits.is_none().then(|| config.levels.count());
        Self { levels, ..recipe }
    }

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
        let mut config = QuantizerConfig::new(self.method, role, levels);
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
