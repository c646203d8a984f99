//! Policies: changes of quantizers before training, at an epoch, or at a batch.

use quant_core::{
    Estimator, GradientScale, Granularity, Levels, Method, Normalization, Quantizer,
    QuantizerChange, QuantizerConfig, QuantizerError, Role,
};
use quant_nn::QuantizedModule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantizer::QuantizationLossRecipe;
use crate::schema::{
    choices::Choice,
    stand_ins::{GradientScaleFields, MethodField},
};

/// A change of some quantizers at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The time at which the policy applies.
    pub at: Trigger,
    /// The indices of the quantized layers whose quantizers change, counted from 0 in the order of
    /// `quant summary`. By default the policy applies to all quantized layers.
    #[schemars(inner(range(min = 0, max = 1_000_000)))]
    pub layers: Option<Vec<usize>>,
    /// The role of the quantizers that change. By default those of all three roles change.
    #[schemars(with = "Option<Choice<Role>>")]
    pub role: Option<Role>,
    /// The change. Fields that are not given keep their values.
    pub change: Change,
}

/// The time at which a policy applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The policy applies before calibration.
    Start,
    /// The policy applies before this epoch of the phase, counted from 0.
    Epoch(#[schemars(range(min = 0, max = 1_000_000))] usize),
    /// The policy applies before this batch of the phase, counted from 0.
    Batch(#[schemars(range(min = 0, max = 1_000_000_000))] usize),
}

/// The fields of quantizers that a policy changes. Fields that are not given keep their values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
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
    /// Which elements share one clipping value. If there was one clipping value, it is repeated for
    /// all groups. If there were several and the number of groups changes, they start again.
    #[schemars(with = "Option<Choice<Granularity>>")]
    pub granularity: Option<Granularity>,
    /// The gradient estimator, which replaces the derivative of a clamp or sign.
    #[schemars(with = "Option<Choice<Estimator>>")]
    pub estimator: Option<Estimator>,
    /// The scale of the gradient of clipping values.
    #[schemars(with = "Option<GradientScaleFields>")]
    pub gradient_scale: Option<GradientScale>,
    /// The initial clipping value, or the fixed one for methods that do not learn a clipping value.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub boundary: Option<f64>,
    /// The normalisation before quantizing.
    #[schemars(with = "Option<Choice<Normalization>>")]
    pub normalization: Option<Normalization>,
    /// Whether the normalised weight is multiplied by its deviation again after quantizing.
    pub restore_normalization: Option<bool>,
    /// Whether a factor on the quantized value is learned.
    pub gamma: Option<bool>,
    /// The value to which the learned clipping value is set. For methods that learn a step size,
    /// the step size is set to this value divided by Qp, the number of levels above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clipping_value: Option<f32>,
    /// The loss on the quantization error.
    pub loss: Option<QuantizationLossRecipe>,
}

impl Policy {
    /// Returns whether the policy is due before the batch with this number in the phase, where an
    /// epoch has `iterations` batches.
    pub fn is_due(&self, batch: usize, iterations: usize) -> bool {
        match self.at {
            Trigger::Start => true,
            Trigger::Epoch(epoch) => epoch * iterations <= batch,
            Trigger::Batch(at) => at <= batch,
        }
    }

    /// Applies the policy to a network, and returns the change of each quantizer. Parameters that
    /// were rescaled or that start again have a new identity, by which
    /// [`Optimizers::regroup`](crate::optimizer::Optimizers::regroup) finds them.
    ///
    /// # Errors
    /// The errors of [`Quantizer::reconfigure`], and [`QuantizerError::Option`] for layers that do
    /// not exist or where no quantizer is selected. Quantizers before the error have then changed.
    pub fn apply<M: QuantizedModule>(
        &self,
        network: &mut M,
    ) -> Result<Vec<QuantizerChange>, QuantizerError> {
        let mut changed = Vec::new();
        let mut layers = QuantizedLayers::default();
        network.change_quantizers(|layer, quantizer| {
            let index = layers.index(layer);
            if self.selects(index, quantizer.config().role) {
                changed.push(self.change.apply(quantizer));
            }
        });
        let changes = changed.into_iter().collect::<Result<Vec<_>, _>>()?;
        let found = layers;
        let count = found.0.len();
        let beyond = self.layers.iter().flatten().find(|layer| **layer >= count);
        if let (Some(_), _) | (None, true) = (beyond, changes.is_empty()) {
            let role = self.role.map_or(String::new(), |role| format!("{role} "));
            let layers = self.layers.as_ref().map_or("all layers".into(), |layers| {
                let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
                format!("layers {}", layers.join(", "))
            });
            return Err(QuantizerError::Option {
                option: format!(
                    "policy for the {role}quantizers of {layers}, of a network with {count} \
                     quantized layers{}",
                    layers_by_index(&found.0)
                ),
                value: String::new(),
                accepted: "expected indices from 0 to below that number, and a role that has \
                           quantizers",
            });
        }
        Ok(changes)
    }

    /// Sets the policy's loss of the quantizers again, because checkpoints do not contain it.
    pub fn rearm<M: QuantizedModule>(&self, network: &mut M) {
        let Some(loss) = self.change.loss else {
            return;
        };
        let mut layers = QuantizedLayers::default();
        network.change_quantizers(|layer, quantizer| {
            if self.selects(layers.index(layer), quantizer.config().role) {
                quantizer.set_loss(Some((loss.kind, loss.factor)));
            }
        });
    }

    fn selects(&self, layer: usize, role: Role) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.contains(&layer))
            && self.role.is_none_or(|wanted| wanted == role)
    }

    /// Returns why the policy is invalid, if it is: the field, its value and what is accepted.
    pub fn flaw(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let change = &self.change;
        let given = usize::from(change.levels.is_some())
            + usize::from(change.levels_by.is_some())
            + usize::from(change.bits.is_some());
        if given > 1 {
            return Some(("change", "several numbers of levels", "levels, levels_by or bits"));
        }
        (*change == Change::default()).then_some(("change", "empty", "at least one field"))
    }
}

/// Returns the indices of layers with their names, for messages. For many layers it returns an
/// empty text.
fn layers_by_index(layers: &[String]) -> String {
    const MOST: usize = 40;
    if layers.is_empty() || layers.len() > MOST {
        return String::new();
    }
    let named = layers.iter().enumerate().map(|(index, layer)| format!("{index} {layer}"));
    format!(" ({})", named.collect::<Vec<_>>().join(", "))
}

/// The layers with quantizers in execution order, as far as they have been visited.
#[derive(Default)]
struct QuantizedLayers(Vec<String>);

impl QuantizedLayers {
    /// Returns the index of a layer.
    fn index(&mut self, layer: &str) -> usize {
        match self.0.iter().position(|other| other == layer) {
            Some(index) => index,
            None => {
                self.0.push(layer.to_owned());
                self.0.len() - 1
            }
        }
    }
}

impl Change {
    fn apply(&self, quantizer: &mut Quantizer) -> Result<QuantizerChange, QuantizerError> {
        let old = quantizer.config().clone();
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
            granularity,
            estimator,
            gradient_scale,
            boundary,
            normalization,
            restore_normalization,
            gamma
        );
        let mut change = match config == old {
            true => QuantizerChange {
                layer: quantizer.name().to_owned(),
                from: old.levels.count(),
                to: old.levels.count(),
                rescaled: Vec::new(),
                fresh: Vec::new(),
            },
            false => quantizer.reconfigure(&config, self.progressive.unwrap_or(true))?,
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
            quantizer.renew(name);
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use quant_core::Site;
    use quant_nn::{
        ResNetConfig,
        resnet::{Depth, Stem},
    };

    use super::*;

    #[test]
    fn a_policy_is_due_from_its_batch_on() {
        let policy = |at: &str| -> Policy {
            toml::from_str(&format!("at = {at}\nchange = {{ levels = 4 }}")).unwrap()
        };
        let due = |at, batches: [usize; 3]| batches.map(|batch| policy(at).is_due(batch, 10));
        assert_eq!(due("'start'", [0, 1, 2]), [true, true, true]);
        assert_eq!(due("{ epoch = 2 }", [0, 19, 20]), [false, false, true]);
        assert_eq!(due("{ batch = 7 }", [6, 7, 8]), [false, true, true]);
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

    #[test]
    fn layers_that_are_not_there_are_named_as_a_person_would() {
        let network = ResNetConfig {
            width_alpha: 0.05,
            ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
        };
        let mut network = network.init(&Device::flex()).unwrap();
        let policy: Policy = toml::from_str(
            "at = 'start'\nlayers = [3, 40]\nrole = 'weight'\nchange = { levels = 4 }",
        )
        .unwrap();
        let text = policy.apply(&mut network).unwrap_err().to_string();
        let expected = "policy for the weight quantizers of layers 3, 40, of a network with 0 \
                        quantized layers: expected indices";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_change_that_is_none_or_says_a_thing_twice_is_refused() {
        let flaw = |change: &str| {
            let text = format!("at = 'start'\nchange = {change}");
            toml::from_str::<Policy>(&text).unwrap().flaw()
        };
        assert_eq!(flaw("{}").unwrap().1, "empty");
        assert_eq!(flaw("{ bits = 2, levels = 4 }").unwrap().2, "levels, levels_by or bits");
        assert_eq!(flaw("{ bits = 2 }"), None);
    }
}
