//! State dictionaries: a network's parameters and running statistics under PyTorch's names, from PyTorch's
//! checkpoints and safetensors files, and to the latter.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    io::Read,
    path::Path,
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Bytes, DType, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{error::NetworkError, pytorch, rename::Renaming, visit::QuantizedModule};

/// A module whose parameters have PyTorch names.
pub trait PytorchNames {
    /// The PyTorch name of the parameter at a path of the module tree, such as
    /// `layers.0.blocks.1.conv1.weight`, given without the names of enum variants.
    fn pytorch_name(&self, path: &str) -> String;
}

/// A float tensor of a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Shape under PyTorch.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
}

/// A network's state by PyTorch name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    entries: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
    /// Types that entries had in the file they were read from.
    types: BTreeMap<String, String>,
}

/// What became of every entry and parameter when a state was loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport {
    /// Parameters that were set.
    pub loaded: Vec<String>,
    /// Parameters of the network that the state lacks.
    pub missing: Vec<String>,
    /// Entries of the state that the network lacks, bookkeeping (`num_batches_tracked` and the
    /// like) left aside.
    pub unused: Vec<String>,
    /// Parameters whose shape in the state is another one (state, network); they were not set.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// Whether every parameter was set and every entry used.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.mismatched.is_empty()
    }

    /// # Errors
    /// [`NetworkError::State`] unless [complete](Self::is_complete), quantizers' parameters aside
    /// where `quantizers_may_miss`: a full-precision state has none.
    pub fn require(&self, quantizers_may_miss: bool) -> Result<(), NetworkError> {
        let quantizer = |name: &String| quantizers_may_miss && name.contains(".quant_");
        let missing = self.missing.iter().filter(|name| !quantizer(name)).cloned().collect();
        let rest = LoadReport { missing, ..self.clone() };
        match rest.is_complete() {
            true => Ok(()),
            false => Err(NetworkError::State { report: rest.to_string() }),
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let few = |names: &[String]| {
            let shown: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
            let more = names.len() - shown.len();
            shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        };
        write!(f, "{} loaded", self.loaded.len())?;
        if !self.missing.is_empty() {
            write!(f, ", {} missing ({})", self.missing.len(), few(&self.missing))?;
        }
        if !self.unused.is_empty() {
            write!(f, ", {} unused ({})", self.unused.len(), few(&self.unused))?;
        }
        if let Some((name, theirs, ours)) = self.mismatched.first() {
            let count = self.mismatched.len();
            write!(f, ", {count} of another shape ({name} is {theirs:?}, expected {ours:?})")?;
        }
        Ok(())
    }
}

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
    /// The state of a network. Reads every tensor back from the device.
    pub fn of<M: Module + PytorchNames + QuantizedModule>(network: &M) -> Self {
        // A snapshot: it brings running statistics up to date.
        let network = network.valid();
        let mut collector = Collector::new(&network);
        network.visit(&mut collector);
        let mut entries = collector.entries;
        for visited in network.layers() {
            for (_, quantizer) in visited.layer.quantizers() {
                for learned in quantizer.learned() {
                    if let Some(name) = collector.names.get(&learned.value.id)
                        && let Some(entry) = entries.get_mut(name)
                    {
                        entry.shape = learned.pytorch_shape;
                    }
                }
            }
        }
        Self { entries, ..Self::default() }
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

    /// Sets every parameter of `network` that the state has in the same shape.
    pub fn load_into<M: Module + PytorchNames + QuantizedModule>(
        &self,
        network: M,
    ) -> (M, LoadReport) {
        let shapes = StateDict::of(&network);
        let names = parameter_names(&network);
        let mut loader =
            Loader { state: self, shapes: &shapes, names: &names, report: LoadReport::default() };
        let network = network.map(&mut loader);
        let mut report = loader.report;
        let unused = self.entries.keys().filter(|name| {
            let bookkeeping = BOOKKEEPING.iter().any(|end| name.ends_with(end));
            !shapes.entries.contains_key(*name) && !bookkeeping
        });
        report.unused = unused.cloned().collect();
        (network, report)
    }

    /// The state as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`NetworkError::Format`] where the format refuses the entries.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NetworkError> {
        let format = |source| NetworkError::Format { path: "<memory>".into(), source };
        let bytes: Vec<(&String, &Entry, Vec<u8>)> = self
            .entries
            .iter()
            .map(|(name, entry)| {
                let bytes = entry.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (name, entry, bytes)
            })
            .collect();
        let views = bytes
            .iter()
            .map(|(name, entry, bytes)| {
                let view = TensorView::new(Dtype::F32, entry.shape.clone(), bytes);
                view.map(|view| (name.as_str(), view)).map_err(format)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone());
        safetensors::serialize(views, metadata).map_err(format)
    }

    /// Gives entries other names. Of several that get the same name, the last by old name stays.
    #[must_use]
    pub fn renamed(self, renaming: &Renaming) -> Self {
        let entries = self.entries.into_iter();
        let entries = entries.map(|(name, entry)| (renaming.apply(&name), entry)).collect();
        let types = self.types.into_iter();
        let types = types.map(|(name, dtype)| (renaming.apply(&name), dtype)).collect();
        Self { entries, metadata: self.metadata, types }
    }

    /// Reads a safetensors file or a PyTorch checkpoint, told apart by their first bytes: weights at the top
    /// level or under `state_dict` or `model`, `module.` taken off. 16-bit floats, doubles and integers become
    /// floats. Nothing in a file is executed.
    ///
    /// # Errors
    /// [`NetworkError::Io`], [`NetworkError::Format`], [`NetworkError::Pytorch`] and [`NetworkError::Type`],
    /// with the path.
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        let io = |source| NetworkError::Io { path: path.to_owned(), source };
        let mut start = Vec::new();
        fs::File::open(path).and_then(|file| file.take(9).read_to_end(&mut start)).map_err(io)?;
        // The length of a JSON header, and its brace.
        if start.get(8) != Some(&b'{') && !start.is_empty() {
            let mut state = Self::default();
            for (name, dtype, entry) in pytorch::read(path)? {
                state.types.insert(name.clone(), dtype);
                state.entries.insert(name, entry);
            }
            return Ok(state);
        }
        let bytes = fs::read(path).map_err(io)?;
        let format = |source| NetworkError::Format { path: path.to_owned(), source };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let file = SafeTensors::deserialize(&bytes).map_err(format)?;
        let (mut entries, mut types) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in file.iter() {
            let Some(dtype) = burn_type(view.dtype()) else {
                return Err(NetworkError::Type {
                    path: path.to_owned(),
                    name: name.to_owned(),
                    dtype: format!("{:?}", view.dtype()),
                });
            };
            let shape = view.shape().to_vec();
            let bytes = Bytes::from_bytes_vec(view.data().to_vec());
            let values = TensorData::from_bytes(bytes, shape.clone(), dtype);
            let values = values.convert::<f32>().iter().collect();
            entries.insert(name.to_owned(), Entry { shape, values });
            types.insert(name.to_owned(), format!("{:?}", view.dtype()));
        }
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { entries, metadata, types })
    }
}

fn burn_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F64 => Some(DType::F64),
        Dtype::I64 => Some(DType::I64),
        _ => None,
    }
}

/// The PyTorch name of every parameter and running statistic.
pub fn parameter_names<M: Module + PytorchNames>(network: &M) -> HashMap<ParamId, String> {
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
    let method = container == "Struct:Quantizer" && name == "method";
    !(method || container.starts_with("Enum:"))
}

impl<M: PytorchNames> ModuleVisitor for Collector<'_, M> {
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
    state: &'a StateDict,
    shapes: &'a StateDict,
    names: &'a HashMap<ParamId, String>,
    report: LoadReport,
}

impl ModuleMapper for Loader<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(name) = self.names.get(&param.id).cloned() else {
            return param;
        };
        let Some(entry) = self.state.get(&name) else {
            self.report.missing.push(name);
            return param;
        };
        let expected = self.shapes.get(&name).map(|entry| entry.shape.clone());
        let expected = expected.unwrap_or_default();
        if entry.shape != expected {
            self.report.mismatched.push((name, entry.shape.clone(), expected));
            return param;
        }
        self.report.loaded.push(name);
        param.map(|old| {
            let data = TensorData::new(entry.values.clone(), old.shape());
            let value = Tensor::from_data(data, &old.device());
            value.set_require_grad(old.is_require_grad())
        })
    }
}
