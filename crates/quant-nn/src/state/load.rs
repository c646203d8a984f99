//! Loads a state into a module.

use std::collections::{BTreeMap, HashMap, HashSet};

use burn::{
    module::{ModuleMapper, Param, ParamId},
    tensor::{Tensor, TensorData},
};

use super::{
    description::Description,
    dict::StateDict,
    entry::Entry,
    names::{is_bookkeeping, is_quantizers},
    prefix::{PrefixMatch, best_prefix},
    quantizers::other_quantizers,
    report::LoadReport,
    snapshot::parameter_names,
};
use crate::{rename::Renaming, visit::QuantizedModule};

impl StateDict {
    /// Sets every parameter of `network` that the state has. The two shapes have to be equal, apart
    /// from dimensions of size 1.
    ///
    /// The names of the entries may have any prefix, such as the key of a nested dictionary. The
    /// prefix is used under which the most entries have names of the network
    /// ([`LoadReport::prefix`]). If several prefixes fit equally well, the order is: no prefix, the
    /// usual keys (`state_dict`, `model`, ...), other keys, averaged weights;
    /// [`under`](Self::under) chooses another. torchvision's names of ResNets are translated if the
    /// network has the names of networks that keywords make.
    ///
    /// If the state describes its quantizers, the report lists the network's quantizers that would
    /// compute other values from the same parameters ([`LoadReport::other_quantizers`]).
    pub fn load_into<M: QuantizedModule>(&self, network: M) -> (M, LoadReport) {
        let shapes = StateDict::of(&network);
        let mut quantizer_prefixes = network.quantizer_prefixes();
        let (found, torchvision) = self.find(&shapes, &quantizer_prefixes);
        // The state may describe quantizers that the network does not have. Names that begin like
        // theirs belong to quantizers, unless the network has parameters that begin so.
        let layers = self.description.iter().flat_map(Description::layers);
        let starts = layers.map(|layer| format!("{layer}."));
        let is_unknown =
            |start: &String| shapes.entries.keys().all(|name| !name.starts_with(start));
        quantizer_prefixes.extend(starts.filter(is_unknown));
        let translation = Renaming::torchvision_to_keywords();
        let named = |name: &str| {
            if torchvision { translation.apply(name).unwrap_or_default() } else { name.to_owned() }
        };
        let entries = self.entries.iter().filter_map(|(name, entry)| {
            let rest = name.strip_prefix(found.prefix.as_str())?;
            Some((named(rest), (name.as_str(), entry)))
        });
        let entries: BTreeMap<String, (&str, &Entry)> = entries.collect();
        let unused = entries
            .iter()
            .filter(|(name, _)| !shapes.entries.contains_key(*name) && !is_bookkeeping(name));
        let integer = |name: &str| {
            let stored = self.types.get(name).map_or("", String::as_str);
            !stored.is_empty() && !stored.contains('F')
        };
        let mut report = LoadReport {
            prefix: found.prefix.clone(),
            also_fit: found.others,
            from_torchvision: torchvision,
            quantizer_prefixes,
            ..LoadReport::default()
        };
        for (name, (stored, _)) in unused {
            let list =
                if integer(stored) { &mut report.unused_integers } else { &mut report.unused };
            list.push(name.clone());
        }
        if let Some(description) = &self.description
            && found.prefix.is_empty()
            && !torchvision
        {
            report.other_quantizers = other_quantizers(description, &network);
        }
        let names = parameter_names(&network);
        let mut loader = Loader { entries: &entries, shapes: &shapes, names: &names, report };
        let network = network.map(&mut loader);
        (network, loader.report)
    }

    /// Finds the prefix of the entries that belong to a network with the state `network`. The
    /// second value says whether these entries have torchvision's names.
    fn find(&self, network: &StateDict, quantizers: &[String]) -> (PrefixMatch, bool) {
        let names: HashSet<&str> = network.entries.keys().map(String::as_str).collect();
        let entries = || self.entries.keys().map(String::as_str);
        let plain = best_prefix(entries(), |name| names.contains(name));
        let of_quantizer = |name: &str| {
            is_quantizers(name) || quantizers.iter().any(|start| name.starts_with(start))
        };
        let needed = names.iter().filter(|name| !of_quantizer(name)).count();
        if plain.matched >= needed {
            return (plain, false);
        }
        let translation = Renaming::torchvision_to_keywords();
        let translated = best_prefix(entries(), |name| {
            translation.apply(name).is_some_and(|name| names.contains(name.as_str()))
        });
        if translated.matched > plain.matched { (translated, true) } else { (plain, false) }
    }
}

/// Sets the parameters of a module, and reports what happened to each.
struct Loader<'a> {
    /// For each name in the network: the name in the state, and the tensor.
    entries: &'a BTreeMap<String, (&'a str, &'a Entry)>,
    shapes: &'a StateDict,
    names: &'a HashMap<ParamId, String>,
    report: LoadReport,
}

/// Returns whether tensors of two shapes have the same elements in the same order, which is so if
/// their sizes other than 1 are equal.
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
