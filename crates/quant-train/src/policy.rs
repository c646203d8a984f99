//! Policies: changes to quantizers before training, at an epoch, or at a batch.

use quant_core::{
    Estimator, GradientScale, Granularity, Levels, Method, Normalization, Quantizer,
    QuantizerChange, QuantizerConfig, QuantizerError, Role,
};
use quant_nn::{Network, QuantizedModule};
use serde::{Deserialize, Serialize};

/// A change to some quantizers at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// When.
    pub at: Trigger,
    /// Indices of the quantized layers, in the order of the network's modules; by default all.
    pub layers: Option<Vec<usize>>,
    /// Whose quantizers; by default all three.
    pub role: Option<Role>,
    /// What changes.
    pub change: Change,
}

/// When a policy applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Before calibration.
    Start,
    /// Before this epoch of the phase, from 0.
    Epoch(usize),
    /// Before this batch of the phase, from 0.
    Batch(usize),
}

/// What a policy changes; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Whether it quantizes.
    pub enabled: Option<bool>,
    /// Levels, 2 to 256.
    pub levels: Option<usize>,
    /// Levels more, or fewer where negative; at least 2 remain.
    pub levels_by: Option<i32>,
    /// Bits, 1 to 8, instead of levels.
    pub bits: Option<u32>,
    /// Whether clipping values are rescaled by (new - 1)/(old - 1) when levels change, so that step sizes
    /// stay, and their momentum is reset. By default they are.
    pub progressive: Option<bool>,
    /// The formula; parameters that do not fit start anew, and options that it does not have end.
    pub method: Option<Method>,
    /// Groups; one clipping value is repeated for several, several start anew for others.
    pub granularity: Option<Granularity>,
    /// Gradient at the clamp.
    pub estimator: Option<Estimator>,
    /// Gradient scale.
    pub gradient_scale: Option<GradientScale>,
    /// Initial or fixed clipping value.
    pub boundary: Option<f64>,
    /// Normalisation before quantizing.
    pub normalization: Option<Normalization>,
    /// Whether the deviation is restored after quantizing.
    pub restore_normalization: Option<bool>,
    /// Whether a factor is learned.
    pub gamma: Option<bool>,
    /// The learned clipping value; of methods that learn a step size, Qp of which make one.
    pub clipping_value: Option<f32>,
    /// A loss on the quantization error.
    pub loss: Option<crate::quantization::QuantizationLossRecipe>,
}

impl Policy {
    /// Whether it is due before the batch of this number in the phase, of epochs of `iterations` batches.
    pub fn is_due(&self, batch: usize, iterations: usize) -> bool {
        match self.at {
            Trigger::Start => true,
            Trigger::Epoch(epoch) => epoch * iterations <= batch,
            Trigger::Batch(at) => at <= batch,
        }
    }

    /// Applies it to a network. What it did, per quantizer. Parameters that were rescaled or start anew
    /// have a new identity: [`Optimizers::regroup`](crate::optimizer::Optimizers::regroup) finds them.
    ///
    /// # Errors
    /// Those of [`Quantizer::reconfigure`], and [`QuantizerError::Option`] for layers that are not there or where
    /// nothing is selected; earlier quantizers have then changed.
    pub fn apply(&self, network: &mut Network) -> Result<Vec<QuantizerChange>, QuantizerError> {
        let quantized = network.layers_mut().into_iter().filter_map(|layer| {
            let quantizers = layer.quantizers();
            (!quantizers.is_empty()).then_some(quantizers)
        });
        let mut changes = Vec::new();
        let mut count = 0;
        for (index, quantizers) in quantized.enumerate() {
            count = index + 1;
            for (role, quantizer) in quantizers {
                if self.selects(index, role) {
                    changes.push(self.change.apply(quantizer)?);
                }
            }
        }
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
    pub fn rearm(&self, network: &Network) {
        let Some(loss) = self.change.loss else {
            return;
        };
        let layers = network.layers().into_iter().map(|visited| visited.layer.quantizers());
        for (index, quantizers) in layers.filter(|quantizers| !quantizers.is_empty()).enumerate() {
            for (role, quantizer) in quantizers {
                if self.selects(index, role) {
                    quantizer.set_loss(Some((loss.kind, loss.factor)));
                }
            }
        }
    }

    fn selects(&self, layer: usize, role: Role) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.contains(&layer))
            && self.role.is_none_or(|wanted| wanted == role)
    }

    /// The first field that cannot be: name, value and what would work.
    pub fn flaw(&self) -> Option<(&'static str, String, &'static str)> {
        let change = &self.change;
        let given = usize::from(change.levels.is_some())
            + usize::from(change.levels_by.is_some())
            + usize::from(change.bits.is_some());
        if given > 1 {
            return Some(("change", format!("{given} of them"), "levels, levels_by or bits"));
        }
        if let Some(levels) = change.levels.filter(|levels| Levels::new(*levels).is_err()) {
            return Some(("change.levels", levels.to_string(), "2 to 256"));
        }
        if let Some(bits) = change.bits.filter(|bits| Levels::from_bits(*bits).is_err()) {
            return Some(("change.bits", bits.to_string(), "1 to 8"));
        }
        if let Some(value) = change.clipping_value.filter(|v| !v.is_finite() || *v <= 0.0) {
            return Some(("change.clipping_value", value.to_string(), "a finite number above 0"));
        }
        (*change == Change::default()).then(|| ("change", "empty".into(), "at least one field"))
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
        if let Some(method) = self.method.filter(|method| *method != old.method) {
            // Options that the new method does not have end with the old one.
            config = QuantizerConfig { method, ..config }.without_idle_options();
        }
        macro_rules! given {
            ($($field:ident),*) => {
                $(if let Some(value) = self.$field { config.$field = value; })*
            };
        }
        given!(
            method,
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
    fn what_cannot_be_is_named() {
        for (change, field) in [
            ("{}", "change"),
            ("{ levels = 1 }", "change.levels"),
            ("{ bits = 9 }", "change.bits"),
            ("{ bits = 2, levels = 4 }", "change"),
            ("{ clipping_value = -1.0 }", "change.clipping_value"),
        ] {
            let policy: Policy =
                toml::from_str(&format!("at = 'start'\nchange = {change}")).unwrap();
            assert_eq!(policy.flaw().unwrap().0, field);
        }
    }
}
