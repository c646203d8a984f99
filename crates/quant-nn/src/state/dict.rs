//! State dictionaries as data: the entries, the texts that are stored with them, and the
//! description of the network.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quant_core::{QuantizerConfig, Role};

use super::{
    description::{Description, quantizer_name},
    entry::Entry,
    prefix::main_prefix,
};
use crate::{config::NetworkConfig, error::NetworkError, rename::Renaming};

/// The state of a network: its parameters and running statistics, by PyTorch's names.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// use quant_nn::{QuantizedModule, StateDict};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     fc: Linear,
/// }
///
/// impl QuantizedModule for Net {}
///
/// let net = || Net { fc: LinearConfig::new(8, 4).init(&Device::flex()) };
/// let state = StateDict::of(&net());
/// let file = state.to_bytes()?; // the bytes of a safetensors file
/// let (loaded, report) = StateDict::from_bytes(&file)?.load_into(net());
/// report.require(false)?; // an error lists what is missing or too much
/// assert_eq!(StateDict::of(&loaded).get("fc.weight"), state.get("fc.weight"));
/// # Ok::<(), quant_nn::NetworkError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: HashMap<String, String>,
    /// The types that the entries had in the file that they were read from.
    pub(super) types: BTreeMap<String, String>,
    /// The description of the network, if the state has one.
    pub(super) description: Option<Description>,
}

/// The name of the description in the metadata.
pub(super) const DESCRIPTION: &str = "config";

impl StateDict {
    /// Makes a state of entries, each with its name.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Entry)>) -> Self {
        Self { entries: entries.into_iter().collect(), ..Self::default() }
    }

    /// Makes a state of entries that were read from a file, each with its name and the type that
    /// its numbers had in the file, such as `F32` or `BF16`.
    pub fn from_typed_entries(entries: impl IntoIterator<Item = (String, String, Entry)>) -> Self {
        let mut state = Self::default();
        for (name, stored, entry) in entries {
            state.types.insert(name.clone(), stored);
            state.entries.insert(name, entry);
        }
        state
    }

    /// Returns the entries with their names, in alphabetical order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Returns the entry with this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Returns the type that an entry had in the file that it was read from, such as `F32` or
    /// `BF16`.
    pub fn stored_type(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }

    /// Returns the texts that are stored with the entries, such as the description of the network.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// Adds a text that is stored with the entries.
    pub fn with_metadata(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Returns whether the state describes the quantizers that its network had.
    pub fn describes_quantizers(&self) -> bool {
        self.description.is_some()
    }

    /// Returns the configuration of the network that the state was taken from, if the state has it.
    pub(crate) fn network_config(&self) -> Option<NetworkConfig> {
        self.description.as_ref()?.network()
    }

    /// Returns the configuration that a layer's quantizer had when the state was taken, and whether
    /// the quantizer was on. It is `None` if the layer had no such quantizer, or if the state does
    /// not describe its quantizers.
    pub fn quantizer(&self, layer: &str, role: Role) -> Option<(&QuantizerConfig, bool)> {
        self.description.as_ref()?.quantizer(&quantizer_name(layer, role))
    }

    /// Returns the entries whose names begin with a key and a dot, without the key and the dot.
    /// Keys are, for example, `state_dict_ema` or `checkpoint.model`.
    ///
    /// # Errors
    /// [`NetworkError::Key`] if there are no such entries. The error lists the keys that exist.
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

    /// Returns the weights in a file that has other things beside them, without a network to
    /// compare the names with. These are the entries below the first of the usual keys
    /// (`state_dict`, `model`, `net`, ...) that has weights below it. Prefixes that wrappers put
    /// before every name (`module.`, `_orig_mod.`, `model.`, `backbone.`, `net.`) are removed.
    #[must_use]
    pub fn main(mut self) -> Self {
        let prefix = main_prefix(self.entries.keys().map(String::as_str));
        self.cut(&prefix);
        self
    }

    /// Keeps the entries whose names begin with `prefix`, and removes the prefix from the names.
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

    /// Renames the entries by rules, and leaves out those that the rules drop.
    ///
    /// # Errors
    /// [`NetworkError::Renaming`] if two entries would get the same name.
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
