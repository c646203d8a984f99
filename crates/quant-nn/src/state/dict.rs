//! State dictionaries as data: entries, texts that travel with them, and what the state says of the
//! network it is of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quant_core::{QuantizerConfig, Role};

use super::{
    description::{Description, quantizer_name},
    entry::Entry,
    prefix::main_prefix,
};
use crate::{config::NetworkConfig, error::NetworkError, rename::Renaming};

/// A network's state by PyTorch name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: HashMap<String, String>,
    /// Types that entries had in the file they were read from.
    pub(super) types: BTreeMap<String, String>,
    /// What it says of its network.
    pub(super) description: Option<Description>,
}

/// Name of the description in the metadata.
pub(super) const DESCRIPTION: &str = "config";

impl StateDict {
    /// From entries.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Entry)>) -> Self {
        Self { entries: entries.into_iter().collect(), ..Self::default() }
    }

    /// The entries, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// One entry.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The type that an entry had in the file it was read from, such as F32 or BF16.
    pub fn stored_type(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }

    /// Text that travels with the file, such as the network's configuration.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// Adds text that travels with the file.
    pub fn with_metadata(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Whether it says which quantizers were in force.
    pub fn describes_quantizers(&self) -> bool {
        self.description.is_some()
    }

    /// The configuration of the network that the state says it is of.
    pub(crate) fn network_config(&self) -> Option<NetworkConfig> {
        self.description.as_ref()?.network()
    }

    /// The configuration of a layer's quantizer that was in force, and whether it quantized. `None`
    /// where the layer had none, or the state does not say.
    pub fn quantizer(&self, layer: &str, role: Role) -> Option<(&QuantizerConfig, bool)> {
        self.description.as_ref()?.quantizer(&quantizer_name(layer, role))
    }

    /// The entries below a key, such as `state_dict_ema` or `checkpoint.model`, without it.
    ///
    /// # Errors
    /// [`NetworkError::Key`] where there are none, with the keys that there are.
    pub fn under(mut self, key: &str) -> Result<Self, NetworkError> {
        let prefix = format!("{key}.");
        if !self.entries.keys().any(|name| name.starts_with(&prefix)) {
            let tops = self.entries.keys().filter_map(|name| name.split_once('.'));
            let tops: BTreeSet<_> = tops.map(|(top, _)| top.to_owned()).collect();
            return Err(NetworkError::Key {
                key: key.to_owned(),
                keys: tops.into_iter().collect(),
            });
        }
        self.cut(&prefix);
        Ok(self)
    }

    /// The entries of the state that a file is about, where there is no network to compare with:
    /// those below the first of the usual keys (`state_dict`, `model`, `net`, ...) that weights are
    /// filed under, without the prefixes that wrappers put before every name (`module.`,
    /// `_orig_mod.`, `model.`, `backbone.`, `net.`).
    #[must_use]
    pub fn main(mut self) -> Self {
        let prefix = main_prefix(self.entries.keys().map(String::as_str));
        self.cut(&prefix);
        self
    }

    /// Keeps what begins with `prefix`, without it.
    fn cut(&mut self, prefix: &str) {
        fn cut<T>(all: &mut BTreeMap<String, T>, prefix: &str) {
            let old = std::mem::take(all).into_iter();
            let kept = old.filter_map(|(name, value)| {
                name.strip_prefix(prefix).map(|rest| (rest.to_owned(), value))
            });
            *all = kept.collect();
        }
        cut(&mut self.entries, prefix);
        cut(&mut self.types, prefix);
    }

    /// Gives entries other names, and leaves out those that the rules drop.
    ///
    /// # Errors
    /// [`NetworkError::Renaming`] where two entries would get the same name.
    pub fn renamed(self, renaming: &Renaming) -> Result<Self, NetworkError> {
        let (metadata, description) = (self.metadata, self.description);
        let mut renamed = Self { metadata, description, ..Self::default() };
        let mut old_names: BTreeMap<String, String> = BTreeMap::new();
        for (old, entry) in self.entries {
            let Some(name) = renaming.apply(&old) else { continue };
            if let Some(other) = old_names.insert(name.clone(), old.clone()) {
                let reason = format!("the entries {other} and {old} would both be named {name}");
                return Err(NetworkError::Renaming { line: None, text: name, reason });
            }
            if let Some(stored) = self.types.get(&old) {
                renamed.types.insert(name.clone(), stored.clone());
            }
            renamed.entries.insert(name, entry);
        }
        Ok(renamed)
    }
}
