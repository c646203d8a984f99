//! Takes the state of a module.

use std::collections::{BTreeMap, HashMap};

use burn::{
    module::{ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

use super::{
    dict::{DESCRIPTION, StateDict},
    entry::Entry,
    quantizers::describe,
};
use crate::visit::QuantizedModule;

impl StateDict {
    /// Takes the state of a network, with a description of its configuration and its quantizers.
    /// Every tensor is read back from the device.
    pub fn of<M: QuantizedModule>(network: &M) -> Self {
        // This copy has running statistics that are up to date.
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
        let description = describe(&network);
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), description.text())]);
        Self { entries, metadata, description: Some(description), ..Self::default() }
    }
}

/// Returns PyTorch's name of every parameter and running statistic.
#[doc(hidden)]
pub fn parameter_names<M: QuantizedModule>(network: &M) -> HashMap<ParamId, String> {
    let mut collector = Collector { values: false, ..Collector::new(network) };
    network.visit(&mut collector);
    collector.names
}

/// Collects the parameters of a module by their PyTorch names.
struct Collector<'a, M> {
    network: &'a M,
    path: Vec<String>,
    /// Whether the values are collected, too.
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

/// Returns whether a level of the module tree is part of a parameter's name. Variants of enums are
/// not, nor is the field of a quantizer that has its method.
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
