//! Policies: changes to quantizers before training, at an epoch, or at a batch.

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

/// A change to some quantizers at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// When it applies.
    pub at: Trigger,
    /// Indices of the quantized layers, from 0, in the order of `quant summary`. By default all are
    /// meant.
    #[schemars(inner(range(min = 0, max = 1_000_000)))]
    pub layers: Option<Vec<usize>>,
    /// Whose quantizers change. By default all three roles' do.
    #[schemars(with = "Option<Choice<Role>>")]
    pub role: Option<Role>,
    /// What changes; what is not named stays.
    pub change: Change,
}

/// When a policy applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Before calibration.
    Start,
    /// Before this epoch of the phase, from 0.
    Epoch(#[schemars(range(min = 0, max = 1_000_000))] usize),
    /// Before this batch of the phase, from 0.
    Batch(#[schemars(range(min = 0, max = 1_000_000_000))] usize),
}

/// What a policy changes; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Whether it quantizes.
    pub enabled: Option<bool>,
    /// Levels. One of `levels`, `levels_by` and `bits`.
    #[schemars(range(min = 2, max = 256))]
    pub levels: Option<usize>,
    /// Levels more, or fewer where negative; at least 2 remain.
    #[schemars(range(min = -254, max = 254))]
    pub levels_by: Option<i32>,
    /// Bits: 2^bits levels.
    #[schemars(range(min = 1, max = 8))]
    pub bits: Option<u32>,
    /// Whether clipping values are rescaled by (new - 1)/(old - 1) when levels change, so that step
    /// sizes stay, and their momentum is reset. By default they are.
    pub progressive: Option<bool>,
    /// The formula; parameters that do not fit it start anew, and options that it does not have
    /// end.
    #[schemars(with = "Option<MethodField>")]
    pub method: Option<Method>,
    /// Which elements share one clipping value. One clipping value is repeated for several; several
    /// start anew for others.
    #[schemars(with = "Option<Choice<Granularity>>")]
    pub granularity: Option<Granularity>,
    /// What stands in for the derivative of a clamp or sign.
    #[schemars(with = "Option<Choice<Estimator>>")]
    pub estimator: Option<Estimator>,
    /// Scale of the gradient of clipping values.
    #[schemars(with = "Option<GradientScaleFields>")]
    pub gradient_scale: Option<GradientScale>,
    /// The initial clipping value, or the fixed one of methods that learn none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub boundary: Option<f64>,
    /// Normalisation before quantizing.
    #[schemars(with = "Option<Choice<Normalization>>")]
    pub normalization: Option<Normalization>,
    /// Whether the deviation is restored after quantizing.
    pub restore_normalization: Option<bool>,
    /// Whether a factor on the quantized value is learned.
    pub gamma: Option<bool>,
    /// The learned clipping value, which is set to this; of methods that learn a step size, Qp of
    /// which make one.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clipping_value: Option<f32>,
    /// A loss on the quantization error.
    pub loss: Option<QuantizationLossRecipe>,
}

impl Policy {
    /// Whether it is due before the batch of this number in the phase, of epochs of `iterations`
    /// batches.
    pub fn is_due(&self, batch: usize, iterations: usize) -> bool {
        match self.at {
            Trigger::Start => true,
            Trigger::Epoch(epoch) => epoch * iterations <= batch,
            Trigger::Batch(at) => at <= batch,
        }
    }

    /// Applies it to a network. What it did, per quantizer. Parameters that were rescaled or start
    /// anew have a new identity: [`Optimizers::regroup`](crate::optimizer::Optimizers::regroup)
    /// finds them.
    ///
    /// # Errors Those of [`Quantizer::reconfigure`], and [`QuantizerError::Option`] for layers that
    /// are not there or where nothing is selected; earlier quantizers have then changed.
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
        let count = layers.0.len();
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
                     quantized layers"
                ),
                value: String::new(),
                accepted: "expected indices from 0 to below that number, and a role that has \
                           quantizers",
            });
        }
        Ok(changes)
    }

    /// Gives the quantizers its loss again, which no checkpoint holds.
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

    /// Why it cannot be, where it cannot: field, value and what would work.
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

/// The layers with quantizers, in execution order, as far as they have come by.
#[derive(Default)]
struct QuantizedLayers(Vec<String>);

impl QuantizedLayers {
    /// The index of a layer.
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
            // Options that the new method does not have end with the old one.
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

    /// Qp steps make a clipping value: 3 of unsigned two bits, 1 of signed ones.
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

    /// LSQ has a gradient scale by default, DoReFa none at all.
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
