//! The description of a network that a state has with it: the network's configuration, and the
//! configuration of each quantizer when the state was taken. The two can differ, because policies
//! change quantizers during training.

use quant_core::{QuantizerConfig, Role};
use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;

/// The description of a network. It is stored as the text `config` in the metadata of a state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The version of this crate that wrote the description.
    quant_nn: String,
    /// The network's configuration. It is `None` for a network that is not made from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkConfig>,
    /// The quantizers, in groups of equal configurations.
    quantizers: Vec<QuantizerGroup>,
    /// Whether the quantizers that are not listed have the configuration that `network` gives them.
    #[serde(skip)]
    others_as_configured: bool,
}

/// Quantizers that have the same configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct QuantizerGroup {
    config: QuantizerConfig,
    enabled: bool,
    /// The names of the quantizers, such as `layer1.0.conv1.quant_weight`.
    #[serde(rename = "of")]
    names: Vec<String>,
}

/// The description that earlier versions of `quant-train` wrote: the network's configuration, and
/// the quantizers that policies had changed.
#[derive(Deserialize)]
struct EarlierDescription {
    network: NetworkConfig,
    #[serde(default)]
    changed: Vec<(String, Role, QuantizerConfig, bool)>,
}

/// Returns the name of a layer's quantizer in a description.
pub(super) fn quantizer_name(layer: &str, role: Role) -> String {
    format!("{layer}.quant_{role}")
}

impl Description {
    /// Returns the description of a network with this configuration and these quantizers. Each
    /// quantizer has a name, a configuration, and whether it is on.
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

    /// Returns the names of all quantizers.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.quantizers.iter().flat_map(|group| &group.names).map(String::as_str)
    }

    /// Returns the name of the layer of each quantizer.
    pub(super) fn layers(&self) -> impl Iterator<Item = &str> {
        self.names().filter_map(|name| Some(name.rsplit_once(".quant_")?.0))
    }

    /// Parses the text `config` of the metadata. Returns `None` if another program wrote it.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, serde_json::Error> {
        if text.contains("\"quant_nn\"") {
            return serde_json::from_str(text).map(Some);
        }
        if !text.contains("\"quant_train\"") {
            return Ok(None);
        }
        serde_json::from_str(text).map(EarlierDescription::into_description).map(Some)
    }

    /// Returns the text that [`parse`](Self::parse) reads.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the configuration of the quantizer with this name, and whether it was on.
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

    /// Returns the configuration of the network, without the options of quantizers that have no
    /// effect. Earlier versions accepted such options.
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
