//! The quantizers that were in force when a state was taken: described, compared with those of
//! another network, and restored.

use std::collections::HashSet;

use quant_core::{Quantizer, QuantizerConfig};

use super::{
    description::{Description, quantizer_name},
    dict::StateDict,
};
use crate::{error::NetworkError, visit::QuantizedModule};

/// Describes a network and its quantizers.
pub(super) fn describe(network: &impl QuantizedModule) -> Description {
    let quantizers = network.quantizers().into_iter().map(|(layer, _, quantizer)| {
        let config = quantizer.config();
        (quantizer_name(&layer, config.role), config.clone(), quantizer.is_enabled())
    });
    Description::new(network.network_config(), quantizers)
}

/// The quantizers of a network that compute something else than those that were in force, and how.
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
    /// Gives the quantizers of `network` the configurations that were in force when the state was
    /// taken, as far as it says so; their parameters follow with [`load_into`](Self::load_into).
    ///
    /// # Errors
    /// Those of the quantizers.
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

/// What a quantizer does otherwise than one of this configuration, which quantized or not.
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
