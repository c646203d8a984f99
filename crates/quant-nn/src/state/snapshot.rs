//! Takes the state of a module.

use std::collections::HashMap;

use burn::module::ParamId;

use super::{
    collect::{Collector, names_of_parameters},
    dict::{DESCRIPTION, StateDict},
    drawing::drawing,
    quantizers::describe,
};
use crate::visit::QuantizedModule;

impl StateDict {
    /// Takes the state of a network, with a description of its configuration and its quantizers.
    /// Every tensor is read back from the device.
    pub fn of<M: QuantizedModule>(network: &M) -> Self {
        // Parameters that nothing has read so far are drawn here.
        let _drawing = drawing();
        // This copy has running statistics that are up to date.
        let network = network.valid();
        let rename = |path: &str| network.pytorch_name(path);
        let mut collector = Collector::new(&rename);
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
    names_of_parameters(network, &|path| network.pytorch_name(path))
}
