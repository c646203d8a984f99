//! Collects the parameters of a module by their PyTorch names.

use std::collections::{BTreeMap, HashMap};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

use super::entry::Entry;

/// Returns the PyTorch name of every parameter and running statistic of a module. `rename` makes a
/// PyTorch name of a path.
pub(crate) fn names_of_parameters<M: Module>(
    module: &M,
    rename: &dyn Fn(&str) -> String,
) -> HashMap<ParamId, String> {
    let mut collector = Collector { values: false, ..Collector::new(rename) };
    module.visit(&mut collector);
    collector.names
}

/// What has been collected so far.
pub(super) struct Collector<'a> {
    rename: &'a dyn Fn(&str) -> String,
    path: Vec<String>,
    /// Whether the values are collected, too.
    values: bool,
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) names: HashMap<ParamId, String>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(rename: &'a dyn Fn(&str) -> String) -> Self {
        Self {
            rename,
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

impl ModuleVisitor for Collector<'_> {
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
        let name = (self.rename)(&self.path.join("."));
        if self.values {
            let data = param.val().into_data().convert::<f32>();
            let (shape, values) = (param.lazy_shape().to_vec(), data.iter().collect());
            self.entries.insert(name.clone(), Entry { shape, values });
        }
        self.names.insert(param.id, name);
    }
}
