//! State dictionaries: a network's parameters and running statistics under PyTorch's names, from PyTorch's
//! checkpoints and safetensors files, and to the latter.

mod codes;
mod description;
mod entry;
mod fit;
mod pytorch;
mod report;
mod safetensors;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::Read,
    path::Path,
};

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Device, Tensor, TensorData},
};
use quant_core::{QuantizerConfig, Role};

use crate::{error::NetworkError, network::Network, rename::Renaming, visit::QuantizedModule};
pub use codes::codes_file;
use description::{Description, quantizer_name};
pub use entry::Entry;
use fit::{Fit, fit, main_prefix};
pub use report::LoadReport;
use report::is_quantizers;

/// A network's state by PyTorch name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    entries: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
    /// Types that entries had in the file they were read from.
    types: BTreeMap<String, String>,
    /// What it says of its network.
    description: Option<Description>,
}

/// Name of the description in the metadata.
const DESCRIPTION: &str = "config";

/// Names, or their beginnings, of what follows the data instead of a gradient.
const RUNNING: [&str; 4] = ["running_", "basis", "iteration", "num_batches_tracked"];

/// Whether the entry of this name follows the data (running statistics, a learned basis) instead of
/// being trained.
pub fn is_running(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    RUNNING.iter().any(|start| last.starts_with(start))
}

/// Entries that PyTorch networks keep beside their state, and ours do without.
const BOOKKEEPING: [&str; 3] = ["num_batches_tracked", "iteration", "level_num"];

impl StateDict {
    /// The state of a network, with its configuration and the quantizers in force. Reads every tensor
    /// back from the device.
    pub fn of<M: QuantizedModule>(network: &M) -> Self {
        // A snapshot: it brings running statistics up to date.
        let network = network.valid();
        let mut collector = Collector::new(&network);
        network.visit(&mut collector);
        let mut entries = collector.entries;
        for (_, _, quantizer) in network.quantizers() {
            for learned in quantizer.learned() {
                if let Some(name) = collector.names.get(&learned.value.id)
                    && let Some(entry) = entries.get_mut(name)
                {
                    entry.shape = learned.pytorch_shape;
                }
            }
        }
        let description = Description::of(&network);
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), description.text())]);
        Self { entries, metadata, description: Some(description), ..Self::default() }
    }

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

    /// The network that the state says it is of, with fresh weights, and with the quantizers that were
    /// in force when it was taken, whatever policies had changed. `None` where it does not say.
    ///
    /// # Errors
    /// Those of [`NetworkConfig::init`](crate::NetworkConfig::init), for a network that cannot be.
    pub fn network(&self, device: &Device) -> Result<Option<Network>, NetworkError> {
        self.description.as_ref().map_or(Ok(None), |description| description.init(device))
    }

    /// Gives the quantizers of `network` the configurations that were in force when the state was taken, as
    /// far as it says so; their parameters follow with [`load_into`](Self::load_into).
    ///
    /// # Errors
    /// Those of the quantizers.
    pub fn restore_quantizers<M: QuantizedModule>(
        &self,
        network: &mut M,
    ) -> Result<(), NetworkError> {
        self.description.as_ref().map_or(Ok(()), |description| description.restore(network))
    }

    /// Whether it says which quantizers were in force.
    pub fn describes_quantizers(&self) -> bool {
        self.description.is_some()
    }

    /// The configuration of a layer's quantizer that was in force, and whether it quantized. `None` where
    /// the layer had none, or the state does not say.
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
            let tops: std::collections::BTreeSet<_> = tops.map(|(top, _)| top.to_owned()).collect();
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

    /// Sets every parameter of `network` that the state has in the same shape, or in another one
    /// with the same sizes but for ones.
    ///
    /// The state may lie anywhere among the entries: it is taken from where the most names are the
    /// network's, below any key and behind any prefix ([`LoadReport::prefix`]). Where several places
    /// fit as well, the top level comes first, then the usual keys, and averaged weights last;
    /// [`under`](Self::under) chooses. torchvision's names of ResNets are translated where the
    /// network has those of keyword networks.
    ///
    /// Where the state says which quantizers were in force, those of the network that would make
    /// something else of the same parameters are reported ([`LoadReport::other_quantizers`]).
    pub fn load_into<M: QuantizedModule>(&self, network: M) -> (M, LoadReport) {
        let shapes = StateDict::of(&network);
        let mut quantizer_prefixes = network.quantizer_prefixes();
        let (fit, torchvision) = self.fit(&shapes, &quantizer_prefixes);
        // Of quantizers that the network does not have, nor anything else of their names.
        let layers = self.description.iter().flat_map(Description::layers);
        let starts = layers.map(|layer| format!("{layer}."));
        let is_unknown =
            |start: &String| shapes.entries.keys().all(|name| !name.starts_with(start));
        quantizer_prefixes.extend(starts.filter(is_unknown));
        let translation = Renaming::torchvision_to_keywords();
        let named = |name: &str| match torchvision {
            true => translation.apply(name).unwrap_or_default(),
            false => name.to_owned(),
        };
        let entries = self.entries.iter().filter_map(|(name, entry)| {
            let rest = name.strip_prefix(fit.prefix.as_str())?;
            Some((named(rest), (name.as_str(), entry)))
        });
        let entries: BTreeMap<String, (&str, &Entry)> = entries.collect();
        let unused = entries.iter().filter(|(name, _)| {
            let bookkeeping = BOOKKEEPING.iter().any(|end| name.ends_with(end));
            !shapes.entries.contains_key(*name) && !bookkeeping
        });
        let integer = |name: &str| {
            let stored = self.types.get(name).map_or("", String::as_str);
            !stored.is_empty() && !stored.contains('F')
        };
        let mut report = LoadReport {
            prefix: fit.prefix.clone(),
            also_fit: fit.others,
            from_torchvision: torchvision,
            quantizer_prefixes,
            ..LoadReport::default()
        };
        for (name, (stored, _)) in unused {
            match integer(stored) {
                true => report.unused_integers.push(name.clone()),
                false => report.unused.push(name.clone()),
            }
        }
        if let Some(description) = &self.description
            && fit.prefix.is_empty()
            && !torchvision
        {
            report.other_quantizers = description.other_quantizers(&network);
        }
        let names = parameter_names(&network);
        let mut loader = Loader { entries: &entries, shapes: &shapes, names: &names, report };
        let network = network.map(&mut loader);
        (network, loader.report)
    }

    /// Where the state of a network with these entries lies, and whether under torchvision's names.
    fn fit(&self, network: &StateDict, quantizers: &[String]) -> (Fit, bool) {
        let names: HashSet<&str> = network.entries.keys().map(String::as_str).collect();
        let entries = || self.entries.keys().map(String::as_str);
        let plain = fit(entries(), |name| names.contains(name));
        let of_quantizer = |name: &str| {
            is_quantizers(name) || quantizers.iter().any(|start| name.starts_with(start))
        };
        let needed = names.iter().filter(|name| !of_quantizer(name)).count();
        if plain.matched >= needed {
            return (plain, false);
        }
        let translation = Renaming::torchvision_to_keywords();
        let translated = fit(entries(), |name| {
            translation.apply(name).is_some_and(|name| names.contains(name.as_str()))
        });
        match translated.matched > plain.matched {
            true => (translated, true),
            false => (plain, false),
        }
    }

    /// The state as the bytes of a safetensors file, with a checksum of its contents in the metadata.
    /// Equal states are equal bytes.
    ///
    /// # Errors
    /// [`NetworkError::Format`] where the format refuses the entries.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NetworkError> {
        safetensors::write(&self.entries, &self.metadata)
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

    /// Reads a safetensors file or a PyTorch checkpoint, told apart by their first bytes. Entries
    /// have the names of the file; those of nested dictionaries follow their key and a dot. A whole
    /// module that was saved is read as its state. Floats of 16, 32 and 64 bits, integers and truth
    /// values become floats. Nothing in a file is executed.
    ///
    /// # Errors
    /// [`NetworkError::Io`], [`NetworkError::Format`], [`NetworkError::Pytorch`], [`NetworkError::Type`],
    /// [`NetworkError::TooLarge`] and [`NetworkError::Description`]; [`NetworkError::Checksum`] for a file
    /// that carries a checksum and other contents. All with the path.
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        let io = |source| NetworkError::Io { path: path.to_owned(), source };
        let mut start = Vec::new();
        fs::File::open(path).and_then(|file| file.take(9).read_to_end(&mut start)).map_err(io)?;
        // The length of a JSON header, and its brace.
        let (entries, metadata) = match start.get(8) == Some(&b'{') || start.is_empty() {
            true => {
                let contents = safetensors::read(&fs::read(path).map_err(io)?, path)?;
                (contents.entries, contents.metadata)
            }
            false => (pytorch::read(path)?, HashMap::new()),
        };
        let description = match metadata.get(DESCRIPTION) {
            None => None,
            Some(text) => Description::parse(text)
                .map_err(|source| NetworkError::Description { path: path.to_owned(), source })?,
        };
        let mut state = Self { metadata, description, ..Self::default() };
        for (name, stored, entry) in entries {
            state.types.insert(name.clone(), stored);
            state.entries.insert(name, entry);
        }
        Ok(state)
    }
}

/// The PyTorch name of every parameter and running statistic.
pub fn parameter_names<M: QuantizedModule>(network: &M) -> HashMap<ParamId, String> {
    let mut collector = Collector { values: false, ..Collector::new(network) };
    network.visit(&mut collector);
    collector.names
}

struct Collector<'a, M> {
    network: &'a M,
    path: Vec<String>,
    values: bool,
    entries: BTreeMap<String, Entry>,
    names: HashMap<ParamId, String>,
}

impl<'a, M> Collector<'a, M> {
    fn new(network: &'a M) -> Self {
        Self {
            network,
            path: Vec::new(),
            values: true,
            entries: BTreeMap::new(),
            names: HashMap::new(),
        }
    }
}

/// Enum variants are no part of a name, nor is a quantizer's choice of method.
fn is_named(name: &str, container: &str) -> bool {
    let method = container == "Struct:Parts" && name == "method";
    !(method || container.starts_with("Enum:"))
}

impl<M: QuantizedModule> ModuleVisitor for Collector<'_, M> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if is_named(name, container_type) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        if is_named(name, container_type) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.network.pytorch_name(&self.path.join("."));
        if self.values {
            let data = param.val().into_data().convert::<f32>();
            let (shape, values) = (param.lazy_shape().to_vec(), data.iter().collect());
            self.entries.insert(name.clone(), Entry { shape, values });
        }
        self.names.insert(param.id, name);
    }
}

struct Loader<'a> {
    /// By the network's name: the name in the file, and the tensor.
    entries: &'a BTreeMap<String, (&'a str, &'a Entry)>,
    shapes: &'a StateDict,
    names: &'a HashMap<ParamId, String>,
    report: LoadReport,
}

/// Whether two shapes hold the same elements in the same order: their sizes other than one agree.
fn same_elements(a: &[usize], b: &[usize]) -> bool {
    let sizes = |shape: &[usize]| -> Vec<usize> {
        shape.iter().copied().filter(|size| *size != 1).collect()
    };
    sizes(a) == sizes(b)
}

impl ModuleMapper for Loader<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(name) = self.names.get(&param.id).cloned() else {
            return param;
        };
        let Some((_, entry)) = self.entries.get(&name) else {
            self.report.missing.push(name);
            return param;
        };
        let expected = self.shapes.get(&name).map(|entry| entry.shape.clone());
        let expected = expected.unwrap_or_default();
        if !same_elements(&entry.shape, &expected) {
            self.report.mismatched.push((name, entry.shape.clone(), expected));
            return param;
        }
        if entry.shape != expected {
            self.report.reshaped.push((name.clone(), entry.shape.clone(), expected));
        }
        self.report.loaded.push(name);
        param.map(|old| {
            let data = TensorData::new(entry.values.clone(), old.shape());
            let value = Tensor::from_data(data, &old.device());
            value.set_require_grad(old.is_require_grad())
        })
    }
}
