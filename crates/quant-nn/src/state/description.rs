//! What a state says of the network it is of: its configuration, and the quantizers that were in
//! force, which policies may have changed.

use quant_core::{QuantizerConfig, Role};
use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;

/// What travels with a state, as the text `config` of its metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The version that wrote it.
    quant_nn: String,
    /// The network's configuration; none of networks that are not made from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkConfig>,
    /// The quantizers, equal ones together.
    quantizers: Vec<QuantizerGroup>,
    /// Whether the quantizers that are not named are as the network's configuration has them.
    #[serde(skip)]
    others_as_configured: bool,
}

/// Quantizers of one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct QuantizerGroup {
    config: QuantizerConfig,
    enabled: bool,
    /// Their names, such as `layer1.0.conv1.quant_weight`.
    #[serde(rename = "of")]
    names: Vec<String>,
}

/// What earlier versions of the training crate wrote: the network's configuration, and the
/// quantizers that policies had changed.
#[derive(Deserialize)]
struct EarlierDescription {
    network: NetworkConfig,
    #[serde(default)]
    changed: Vec<(String, Role, QuantizerConfig, bool)>,
}

/// The name under which a layer's quantizer is described.
pub(super) fn quantizer_name(layer: &str, role: Role) -> String {
    format!("{layer}.quant_{role}")
}

impl Description {
    /// Describes a network of this configuration with these quantizers: their names, their
    /// configurations and whether they quantize.
    pub(super) fn new(
        network: Option<&NetworkConfig>,
        quantizers: impl Iterator<Item = (String, QuantizerConfig, bool)>,
    ) -> Self {
        let mut groups: Vec<QuantizerGroup> = Vec::new();
        for (name, config, enabled) in quantizers {
            let equal = groups.iter_mut().find(|g| g.config == config && g.enabled == enabled);
            match equal {
                Some(group) => group.names.push(name),
                None => groups.push(QuantizerGroup { config, enabled, names: vec![name] }),
            }
        }
        Self {
            quant_nn: env!("CARGO_PKG_VERSION").to_owned(),
            network: network.cloned(),
            quantizers: groups,
            others_as_configured: false,
        }
    }

    /// The names of all quantizers.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.quantizers.iter().flat_map(|group| &group.names).map(String::as_str)
    }

    /// The layers that have quantizers.
    pub(super) fn layers(&self) -> impl Iterator<Item = &str> {
        self.names().filter_map(|name| Some(name.rsplit_once(".quant_")?.0))
    }

    /// From the metadata's `config`; none where another program wrote it.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, serde_json::Error> {
        if text.contains("\"quant_nn\"") {
            return serde_json::from_str(text).map(Some);
        }
        if !text.contains("\"quant_train\"") {
            return Ok(None);
        }
        serde_json::from_str(text).map(EarlierDescription::into_description).map(Some)
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The configuration of a quantizer by its name, and whether it quantized.
    pub(super) fn quantizer(&self, name: &str) -> Option<(&QuantizerConfig, bool)> {
        let group = self.quantizers.iter().find(|group| group.names.iter().any(|own| own == name));
        if let Some(group) = group {
            return Some((&group.config, group.enabled));
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

    /// The configuration of the network. Earlier versions let options of quantizers pass that
    /// nothing acts on: it has none of them.
    pub(super) fn network(&self) -> Option<NetworkConfig> {
        let mut config = self.network.clone()?;
        let quantization = config.quantization_mut();
        let all =
            [&mut quantization.activation, &mut quantization.weight, &mut quantization.output];
        for quantizer in all.into_iter().flatten() {
            *quantizer = quantizer.without_idle_options();
        }
        Some(config)
    }
}

impl EarlierDescription {
    fn into_description(self) -> Description {
        let changed = self.changed.into_iter().map(|(layer, role, config, enabled)| {
            QuantizerGroup { config, enabled, names: vec![quantizer_name(&layer, role)] }
        });
        Description {
            quant_nn: String::new(),
            network: Some(self.network),
            quantizers: changed.collect(),
            others_as_configured: true,
        }
    }
}
