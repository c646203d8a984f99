//! What a policy changes of a quantizer.

use quant_core::{
    Estimator, GradientScale, Granularity, Levels, Method, Normalization, Quantizer,
    QuantizerChange, QuantizerConfig, QuantizerError, Range,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    recipe::quantizer::{MethodOptions, QuantizationLossRecipe, options_beside_fields_of},
    schema::{
        choices::Choice,
        stand_ins::{GradientScaleFields, MethodField},
    },
};

/// The fields of quantizers that a policy changes. Fields that are not given keep their values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Change {
    /// Whether the quantizer quantizes. Otherwise it passes its input through.
    pub enabled: Option<bool>,
    /// The number of levels. At most one of `levels`, `levels_by` and `bits` can be given.
    #[schemars(range(min = 2, max = 256))]
    pub levels: Option<usize>,
    /// The number of levels to add, or to remove if it is negative. At least 2 levels remain.
    #[schemars(range(min = -254, max = 254))]
    pub levels_by: Option<i32>,
    /// The number of bits. There are 2^bits levels.
    #[schemars(range(min = 1, max = 8))]
    pub bits: Option<u32>,
    /// Whether clipping values are multiplied by (new - 1)/(old - 1) when the number of levels
    /// changes, so that the step sizes stay. Their momentum is then reset. By default they are
    /// multiplied.
    pub progressive: Option<bool>,
    /// The quantization method. Parameters that do not fit the new method start again, and options
    /// that it does not have are dropped.
    #[schemars(with = "Option<MethodField>")]
    pub method: Option<Method>,
    /// Whether the levels are unsigned or signed.
    #[schemars(with = "Option<Choice<Range>>")]
    pub range: Option<Range>,
    /// Which elements share one clipping value. If there was one clipping value, it is repeated for
    /// all groups. If there were several and the number of groups changes, they start again.
    #[schemars(with = "Option<Choice<Granularity>>")]
    pub granularity: Option<Granularity>,
    /// The gradient estimator, which replaces the derivative of a clamp or sign.
    #[schemars(with = "Option<Choice<Estimator>>")]
    pub estimator: Option<Estimator>,
    /// The strength of the estimator `ewgs`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub ewgs_factor: Option<f64>,
    /// The scale of the gradient of clipping values.
    #[schemars(with = "Option<GradientScaleFields>")]
    pub gradient_scale: Option<GradientScale>,
    /// The initial clipping value, or the fixed one for methods that do not learn a clipping value.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub boundary: Option<f64>,
    /// The normalisation before quantizing.
    #[schemars(with = "Option<Choice<Normalization>>")]
    pub normalization: Option<Normalization>,
    /// Whether the normalisation covers the whole weight, whatever the granularity.
    pub independent_norm: Option<bool>,
    /// Whether the normalised weight is multiplied by its deviation again after quantizing.
    pub restore_normalization: Option<bool>,
    /// Whether a factor on the quantized value is learned.
    pub gamma: Option<bool>,
    /// The value to which the learned clipping value is set. For methods that learn a step size,
    /// the step size is set to this value divided by Qp, the number of levels above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clipping_value: Option<f32>,
    /// The options that belong to a single method. Without `method` they are those of the method
    /// that the quantizer has.
    #[serde(flatten, deserialize_with = "options_beside_fields_of::<Change, _>")]
    pub options: MethodOptions,
    /// The loss on the quantization error.
    pub loss: Option<QuantizationLossRecipe>,
}

impl Change {
    /// Checks which fields go together.
    ///
    /// # Errors
    /// The reason, if two fields contradict each other, an option is not one of `method`, or no
    /// field is given.
    pub(super) fn validate(&self) -> Result<(), String> {
        let given = usize::from(self.levels.is_some())
            + usize::from(self.levels_by.is_some())
            + usize::from(self.bits.is_some());
        if given > 1 {
            return Err("give only one of levels, levels_by and bits".to_owned());
        }
        if *self == Self::default() {
            return Err("it is empty; give at least one field".to_owned());
        }
        self.method.map_or(Ok(()), |mut method| self.options.give_to(&mut method))
    }

    /// Returns the configuration of a quantizer after the change.
    fn changed(&self, old: &QuantizerConfig) -> Result<QuantizerConfig, QuantizerError> {
        let levels = match (self.levels, self.levels_by, self.bits) {
            (Some(levels), ..) => Levels::new(levels)?,
            (_, Some(by), _) => {
                let levels = old.levels.count() as i64 + i64::from(by);
                Levels::new(levels.max(2) as usize)?
            }
            (_, _, Some(bits)) => Levels::from_bits(bits)?,
            _ => old.levels,
        };
        let mut config = QuantizerConfig { levels, ..old.clone() };
        if let Some(method) = self.method.filter(|method| !method.is(&old.method)) {
            // Options that the new method does not have are dropped.
            config = QuantizerConfig { method, ..config }.without_idle_options();
        }
        macro_rules! given {
            ($($field:ident),*) => {
                $(if let Some(value) = self.$field { config.$field = value; })*
            };
        }
        given!(
            range,
            granularity,
            estimator,
            ewgs_factor,
            gradient_scale,
            boundary,
            normalization,
            independent_norm,
            restore_normalization,
            gamma
        );
        Ok(config)
    }

    /// Changes a quantizer.
    ///
    /// # Errors
    /// [`TrainError::Policy`] for options that the quantizer's method does not have, and the errors
    /// of [`Quantizer::reconfigure`]. The quantizer is then unchanged.
    pub(super) fn apply(&self, quantizer: &mut Quantizer) -> Result<QuantizerChange, TrainError> {
        let old = quantizer.config().clone();
        let mut config = self.changed(&old)?;
        self.options.give_to(&mut config.method).map_err(|reason| TrainError::Policy {
            quantizers: quantizer.name().to_owned(),
            reason: format!(
                "{reason}; `role` and `layers` of the policy select the quantizers that change"
            ),
        })?;
        let mut change = if config == old {
            QuantizerChange {
                layer: quantizer.name().to_owned(),
                from: old.levels.count(),
                to: old.levels.count(),
                rescaled: Vec::new(),
                fresh: Vec::new(),
            }
        } else {
            quantizer.reconfigure(&config, self.progressive.unwrap_or(true))?
        };
        if let Some(enabled) = self.enabled {
            quantizer.set_enabled(enabled);
        }
        if let Some(loss) = self.loss {
            quantizer.set_loss(Some((loss.kind, loss.factor)));
        }
        if let Some(value) = self.clipping_value {
            let name =
                quantizer.set_clipping_value(value).ok_or_else(|| QuantizerError::Option {
                    option: format!("{}: clipping_value", quantizer.name()),
                    value: value.to_string(),
                    accepted: "only methods that learn a clipping value or a step size have one",
                })?;
            change.fresh.push(name);
        }
        let moved = change.rescaled.iter().map(|rescaled| rescaled.name);
        for name in moved.chain(change.fresh.iter().copied()).collect::<Vec<_>>() {
            quantizer.reset_optimizer_state(name);
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use quant_core::{OptionValue, Role, Site};

    use super::*;

    fn change(text: &str) -> Change {
        toml::from_str(text).unwrap()
    }

    fn weight(method: Method, levels: usize) -> Quantizer {
        let levels = Levels::new(levels).unwrap();
        let config = QuantizerConfig::new(method, Role::Weight, levels);
        config.init(&Site::weight("a", [2, 2, 1, 1]), &Device::flex()).unwrap()
    }

    /// The option that is not named keeps the value that the quantizer had.
    #[test]
    fn options_of_the_method_change_by_their_names() {
        let mut fatnn = Method::FATNN;
        fatnn.set_option("initial_slope", &OptionValue::Number(0.25));
        let mut quantizer = weight(fatnn, 3);
        change("closed_form = true").apply(&mut quantizer).unwrap();
        fatnn.set_option("closed_form", &OptionValue::Flag(true));
        assert_eq!(quantizer.config().method, fatnn);
    }

    #[test]
    fn a_new_method_comes_with_its_options() {
        let mut quantizer = weight(Method::FATNN, 3);
        let text = "method = 'ttq'\nternary_threshold = 0.1";
        change(text).apply(&mut quantizer).unwrap();
        let threshold = quantizer.config().method.option("ternary_threshold");
        assert_eq!(threshold, Some(OptionValue::Number(0.1)));
        change("method = 'ttq'").apply(&mut quantizer).unwrap();
        assert_eq!(quantizer.config().method.option("ternary_threshold"), threshold);
    }

    #[test]
    fn an_option_of_another_method_is_refused_with_the_quantizer() {
        let mut quantizer = weight(Method::Lsq, 4);
        let error = change("closed_form = true").apply(&mut quantizer).unwrap_err().to_string();
        let start = format!(
            "policy for {}: closed_form is an option of the method fatnn; lsq has no options",
            quantizer.name()
        );
        assert!(error.starts_with(&start), "{error}");
        assert_eq!(quantizer.config().method, Method::Lsq);
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_fields_of_a_change() {
        let error = toml::from_str::<Change>("levls = 4").unwrap_err().to_string();
        for part in ["unknown field `levls`", "`levels_by`", "`ternary_threshold`"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_change_that_is_empty_or_contradicts_itself_is_refused() {
        let reason = |text: &str| change(text).validate().unwrap_err();
        assert_eq!(reason(""), "it is empty; give at least one field");
        assert_eq!(reason("bits = 2\nlevels = 4"), "give only one of levels, levels_by and bits");
        let other = reason("method = 'lsq'\nclosed_form = true");
        assert!(other.starts_with("closed_form is an option of the method fatnn"), "{other}");
        assert_eq!(change("bits = 2").validate(), Ok(()));
    }

    /// Qp step sizes make a clipping value. Qp is 3 for unsigned values of two bits, and 1 for
    /// signed ones.
    #[test]
    fn a_clipping_value_sets_the_step_size_of_methods_that_learn_one() {
        for (method, role, name, expected) in [
            (Method::Lsq, Role::Activation, "clip_val", 1.5),
            (Method::LsqStep, Role::Activation, "step_size", 0.5),
            (Method::LsqPlus, Role::Activation, "step_size", 0.5),
            (Method::LsqStep, Role::Weight, "step_size", 1.5),
        ] {
            let config = QuantizerConfig::new(method, role, Levels::TERNARY);
            let config = QuantizerConfig { levels: Levels::new(4).unwrap(), ..config };
            let site = match role {
                Role::Weight => Site::weight("a", [2, 2, 1, 1]),
                _ => Site::activation("a", 2),
            };
            let mut quantizer = config.init(&site, &Device::flex()).unwrap();
            let change = Change { clipping_value: Some(1.5), ..Change::default() };
            change.apply(&mut quantizer).unwrap();
            assert_eq!(quantizer.learned_values(name), Some(vec![expected]), "{method:?}");
        }
    }

    /// LSQ has a gradient scale by default, and DoReFa has none.
    #[test]
    fn options_of_the_old_method_end_with_it() {
        let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::TERNARY);
        let mut quantizer = config.init(&Site::activation("a", 2), &Device::flex()).unwrap();
        let change = Change { method: Some(Method::Dorefa), ..Change::default() };
        change.apply(&mut quantizer).unwrap();
        let dorefa = QuantizerConfig::new(Method::Dorefa, Role::Activation, Levels::TERNARY);
        assert_eq!(*quantizer.config(), dorefa);
        let gamma = Change { gamma: Some(true), ..change };
        assert!(gamma.apply(&mut quantizer).unwrap_err().to_string().contains("gamma"));
    }
}
