//! Policies: changes of quantizers before training, at an epoch, or at a batch.

mod change;
mod layers;

use quant_core::{QuantizerChange, Role};
use quant_nn::QuantizedModule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, schema::choices::Choice};
pub use change::Change;
pub use layers::LayerSelection;
use layers::{QuantizedLayers, described};

/// A change of some quantizers at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The time at which the policy applies.
    pub at: Trigger,
    /// The quantized layers whose quantizers change: their indices, counted from 0 in the order of
    /// `quant summary`, or their names, such as `"layer1.0.conv1"`, in which each `*` stands for
    /// any text. By default the policy applies to all quantized layers.
    pub layers: Option<Vec<LayerSelection>>,
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
    /// ```
    /// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
    /// use quant_core::{Levels, Method, QuantizerConfig, Role, WeightQuantization};
    /// use quant_nn::QuantizedModule;
    /// use quant_train::policy::Policy;
    ///
    /// #[derive(Module, Debug)]
    /// struct Net {
    ///     hidden: Linear,
    ///     fc: Linear,
    /// }
    ///
    /// impl QuantizedModule for Net {}
    ///
    /// let device = Device::flex();
    /// let hidden = LinearConfig::new(8, 8).init(&device);
    /// let net = Net { hidden, fc: LinearConfig::new(8, 4).init(&device) };
    /// let config = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(4)?);
    /// let (mut net, _) = WeightQuantization::new(config).apply(net)?;
    ///
    /// let text = "at = { epoch = 30 }\nlayers = ['hid*']\nchange = { bits = 2 }";
    /// let policy: Policy = toml::from_str(text).unwrap();
    /// let changes = policy.apply(&mut net)?;
    /// assert_eq!((changes.len(), changes[0].to), (1, 4));
    /// # Ok::<(), quant_train::TrainError>(())
    /// ```
    ///
    /// # Errors
    /// [`TrainError::Policy`] where no quantizer is selected, which lists the quantized layers, and
    /// for options that a method does not have; the errors of
    /// [`Quantizer::reconfigure`](quant_core::Quantizer::reconfigure). Quantizers before the error
    /// have then changed.
    pub fn apply<M: QuantizedModule>(
        &self,
        network: &mut M,
    ) -> Result<Vec<QuantizerChange>, TrainError> {
        let selected = self.selected(network)?;
        let mut changed = Vec::new();
        network.change_quantizers(|layer, quantizer| {
            if self.selects(&selected, layer, quantizer.config().role) {
                changed.push(self.change.apply(quantizer));
            }
        });
        changed.into_iter().collect()
    }

    /// Sets the policy's loss of the quantizers again, because checkpoints do not contain it.
    pub fn rearm<M: QuantizedModule>(&self, network: &mut M) {
        let (Some(loss), Ok(selected)) = (self.change.loss, self.selected(network)) else {
            return;
        };
        network.change_quantizers(|layer, quantizer| {
            if self.selects(&selected, layer, quantizer.config().role) {
                quantizer.set_loss(Some((loss.kind, loss.factor)));
            }
        });
    }

    /// Returns the names of the layers whose quantizers change.
    fn selected<M: QuantizedModule>(&self, network: &M) -> Result<Vec<String>, TrainError> {
        let quantizers = network.quantizers().into_iter();
        let layers: QuantizedLayers = quantizers.map(|(layer, role, _)| (layer, role)).collect();
        let selections = self.layers.as_deref();
        layers.select(selections, self.role).map_err(|reason| TrainError::Policy {
            quantizers: described(selections, self.role),
            reason,
        })
    }

    fn selects(&self, layers: &[String], layer: &str, role: Role) -> bool {
        layers.iter().any(|name| name == layer) && self.role.is_none_or(|wanted| wanted == role)
    }

    /// Checks which fields go together. `path` is where the policy is in its recipe.
    ///
    /// # Errors
    /// [`TrainError::Invalid`] with the field and the reason.
    pub(super) fn validate(&self, path: &str) -> Result<(), TrainError> {
        let invalid = |field: &str, reason: String| {
            Err(TrainError::Invalid { field: format!("{path}.{field}"), reason })
        };
        if self.layers.as_ref().is_some_and(Vec::is_empty) {
            let reason = "the list is empty; name layers, or leave the field out for all layers";
            return invalid("layers", reason.to_owned());
        }
        self.change.validate().or_else(|reason| invalid("change", reason))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
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

    #[test]
    fn layers_that_are_not_there_are_named_as_a_person_would() {
        let network = ResNetConfig {
            width_alpha: 0.05,
            ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
        };
        let mut network = network.init(&Device::flex()).unwrap();
        let policy: Policy = toml::from_str(
            "at = 'start'\nlayers = [3, 'layer1.*']\nrole = 'weight'\nchange = { levels = 4 }",
        )
        .unwrap();
        let text = policy.apply(&mut network).unwrap_err().to_string();
        let expected = "policy for the weight quantizers of layers 3, \"layer1.*\": there is no \
                        quantized layer 3; the network has no quantized layers";
        assert_eq!(text, expected);
    }
}
