//! The quantizers that a network had when its state was taken: they are described in the state,
//! compared with those of another network, and restored.

use std::collections::HashSet;

use quant_core::{Quantizer, QuantizerConfig};

use super::{
    description::{Description, quantizer_name},
    dict::StateDict,
};
use crate::{error::NetworkError, visit::QuantizedModule};

/// Returns the description of a network and its quantizers.
pub(super) fn describe(network: &impl QuantizedModule) -> Description {
    let quantizers = network.quantizers().into_iter().map(|(layer, _, quantizer)| {
        let config = quantizer.config();
        (quantizer_name(&layer, config.role), config.clone(), quantizer.is_enabled())
    });
    Description::new(network.network_config(), quantizers)
}

/// Returns the quantizers of a network that compute other values than the described ones, each with
/// the difference.
pub(super) fn other_quantizers(
    description: &Description,
    network: &impl QuantizedModule,
) -> Vec<(String, String)> {
    let mut others = Vec::new();
    let mut ours = HashSet::new();
    for (layer, role, quantizer) in network.quantizers() {
        let name = quantizer_name(&layer, role);
        let difference = match description.quantizer(&name) {
            None => Some("none in the state".to_owned()),
            Some((config, enabled)) => difference(config, enabled, &quantizer),
        };
        others.extend(difference.map(|difference| (name.clone(), difference)));
        ours.insert(name);
    }
    let gone = description.names().filter(|name| !ours.contains(*name));
    others.extend(gone.map(|name| (name.to_owned(), "none in the network".to_owned())));
    others
}

impl StateDict {
    /// Gives the quantizers of `network` the configurations that they had when the state was taken,
    /// as far as the state describes them. [`load_into`](Self::load_into) then sets their
    /// parameters.
    ///
    /// # Errors
    /// The error of a quantizer that cannot have its configuration.
    pub fn restore_quantizers<M: QuantizedModule>(
        &self,
        network: &mut M,
    ) -> Result<(), NetworkError> {
        let Some(description) = &self.description else { return Ok(()) };
        let mut result = Ok(());
        network.change_quantizers(|layer, quantizer| {
            let name = quantizer_name(layer, quantizer.config().role);
            if let (Ok(()), Some((config, enabled))) = (&result, description.quantizer(&name)) {
                result = restore(quantizer, config, enabled);
            }
        });
        result
    }
}

/// Returns the difference between a quantizer and one with this configuration that was on or off,
/// if they compute different values.
fn difference(config: &QuantizerConfig, enabled: bool, ours: &Quantizer) -> Option<String> {
    let on = |enabled: bool| if enabled { "on" } else { "off" };
    if enabled != ours.is_enabled() {
        let (theirs, ours) = (on(enabled), on(ours.is_enabled()));
        return Some(format!("{theirs} in the state, {ours} in the network"));
    }
    if !enabled {
        return None;
    }
    let differing = config.without_idle_options().computes_otherwise(ours.config());
    let (field, theirs, ours) = differing.into_iter().next()?;
    Some(format!("{field} = {theirs} in the state, {ours} in the network"))
}

/// Gives a quantizer a configuration, and switches it on or off.
fn restore(
    quantizer: &mut Quantizer,
    config: &QuantizerConfig,
    enabled: bool,
) -> Result<(), NetworkError> {
    let config = config.without_idle_options();
    if config != *quantizer.config() {
        quantizer.reconfigure(&config, false)?;
    }
    if enabled != quantizer.is_enabled() {
        quantizer.set_enabled(enabled);
    }
    Ok(())
}
