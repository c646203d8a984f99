//! What a state says of the network it is of: its configuration, and the quantizers that were in
//! force, which policies may have changed.

use std::collections::HashSet;

use burn::tensor::Device;
use quant_core::{Quantizer, QuantizerConfig, Role};
use serde::{Deserialize, Serialize};

use crate::{
    error::NetworkError,
    network::{Network, NetworkConfig},
    visit::QuantizedModule,
};

/// What travels with a state, as the text `config` of its metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The version that wrote it.
    quant_nn: String,
    /// The network's configuration; none of networks that are not made from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkConfig>,
    /// The quantizers, equal ones together.
    quantizers: Vec<Equal>,
    /// Whether the quantizers that are not named are as the network's configuration has them.
    #[serde(skip)]
    others_as_configured: bool,
}

/// Quantizers of one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Equal {
    config: QuantizerConfig,
    enabled: bool,
    /// Their names, such as `layer1.0.conv1.quant_weight`.
    of: Vec<String>,
}

/// What earlier versions of the training crate wrote: the network's configuration, and the quantizers
/// that policies had changed.
#[derive(Deserialize)]
struct Earlier {
    network: NetworkConfig,
    #[serde(default)]
    changed: Vec<(String, Role, QuantizerConfig, bool)>,
}

/// The name under which a layer's quantizer is described.
pub(super) fn quantizer_name(layer: &str, role: Role) -> String {
    format!("{layer}.quant_{role}")
}

impl Description {
    pub(super) fn of(network: &impl QuantizedModule) -> Self {
        let mut quantizers: Vec<Equal> = Vec::new();
        for (layer, role, quantizer) in network.quantizers() {
            let (config, enabled) = (quantizer.config(), quantizer.is_enabled());
            let name = quantizer_name(&layer, role);
            let equal = quantizers.iter_mut().find(|e| e.config == *config && e.enabled == enabled);
            match equal {
                Some(equal) => equal.of.push(name),
                None => quantizers.push(Equal { config: config.clone(), enabled, of: vec![name] }),
            }
        }
        Self {
            quant_nn: env!("CARGO_PKG_VERSION").to_owned(),
            network: network.network_config().cloned(),
            quantizers,
            others_as_configured: false,
        }
    }

    /// The layers that have quantizers.
    pub(super) fn layers(&self) -> impl Iterator<Item = &str> {
        let names = self.quantizers.iter().flat_map(|equal| &equal.of);
        names.filter_map(|name| Some(name.rsplit_once(".quant_")?.0))
    }

    /// From the metadata's `config`; none where another program wrote it.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, serde_json::Error> {
        if text.contains("\"quant_nn\"") {
            return serde_json::from_str(text).map(Some);
        }
        match text.contains("\"quant_train\"") {
            true => serde_json::from_str(text).map(Earlier::into_description).map(Some),
            false => Ok(None),
        }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The quantizers of a network that compute something else than those that were in force, and how.
    pub(super) fn other_quantizers(&self, network: &impl QuantizedModule) -> Vec<(String, String)> {
        let mut others = Vec::new();
        let mut ours = HashSet::new();
        for (layer, role, quantizer) in network.quantizers() {
            let name = quantizer_name(&layer, role);
            let difference = match self.quantizer(&name) {
                None => Some("none in the state".to_owned()),
                Some((config, enabled)) => difference(config, enabled, &quantizer),
            };
            others.extend(difference.map(|difference| (name.clone(), difference)));
            ours.insert(name);
        }
        let names = self.quantizers.iter().flat_map(|equal| &equal.of);
        let gone = names.filter(|name| !ours.contains(*name));
        others.extend(gone.map(|name| (name.clone(), "none in the network".to_owned())));
        others
    }

    /// The configuration of a quantizer by its name, and whether it quantized.
    pub(super) fn quantizer(&self, name: &str) -> Option<(&QuantizerConfig, bool)> {
        let equal = self.quantizers.iter().find(|equal| equal.of.iter().any(|of| of == name));
        if let Some(equal) = equal {
            return Some((&equal.config, equal.enabled));
        }
        let network = self.network.as_ref().filter(|_| self.others_as_configured)?;
        let quantization = network.quantization();
        let config = match name.rsplit_once(".quant_")?.1 {
            "activation" => quantization.activation.as_ref(),
            "weight" => quantization.weight.as_ref(),
            _ => quantization.output.as_ref(),
        };
        config.map(|config| (config, true))
    }

    /// The network with fresh weights and the quantizers that were in force.
    pub(super) fn init(&self, device: &Device) -> Result<Option<Network>, NetworkError> {
        let Some(config) = &self.network else { return Ok(None) };
        let mut network = tidied(config).init(device)?;
        self.restore(&mut network)?;
        Ok(Some(network))
    }

    /// Gives a network the quantizers that were in force.
    pub(super) fn restore(&self, network: &mut impl QuantizedModule) -> Result<(), NetworkError> {
        let mut result = Ok(());
        network.change_quantizers(|layer, quantizer| {
            let name = quantizer_name(layer, quantizer.config().role);
            if let (Ok(()), Some((config, enabled))) = (&result, self.quantizer(&name)) {
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

/// Earlier versions let options pass that nothing acts on.
fn tidied(config: &NetworkConfig) -> NetworkConfig {
    let mut config = config.clone();
    let quantization = config.quantization_mut();
    let all = [&mut quantization.activation, &mut quantization.weight, &mut quantization.output];
    for quantizer in all.into_iter().flatten() {
        *quantizer = quantizer.without_idle_options();
    }
    config
}

impl Earlier {
    fn into_description(self) -> Description {
        let changed = self.changed.into_iter().map(|(layer, role, config, enabled)| Equal {
            config,
            enabled,
            of: vec![quantizer_name(&layer, role)],
        });
        Description {
            quant_nn: String::new(),
            network: Some(self.network),
            quantizers: changed.collect(),
            others_as_configured: true,
        }
    }
}
