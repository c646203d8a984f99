//! A graph with as few bytes as it can have: equal constants are one, what is between layers has
//! short names, and attributes with their usual values are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::exporter::Codes;
use crate::proto::{GraphProto, NodeProto, TensorProto};

/// Makes a graph smaller. Tensors in `kept` keep their names, and `records` are renamed with the
/// others. Nothing that is computed changes.
pub(super) fn compact(
    graph: &mut GraphProto,
    kept: &BTreeSet<String>,
    records: &mut [(String, Codes)],
) {
    let mut renamed = shared(&mut graph.initializer);
    let mut short = ShortNames { taken: kept, count: 0 };
    // Names that are used most often get the shortest names.
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for name in graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)) {
        let name = renamed.get(name).unwrap_or(name);
        *uses.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = uses.into_iter().collect();
    names.sort_by_key(|(_, count)| usize::MAX - count);
    let names: BTreeMap<String, String> = (names.into_iter())
        .filter(|(name, _)| !name.is_empty() && !kept.contains(*name))
        .map(|(name, _)| (name.to_owned(), short.next()))
        .collect();
    for shared in renamed.values_mut() {
        if let Some(short) = names.get(shared) {
            shared.clone_from(short);
        }
    }
    for (name, short) in names {
        renamed.entry(name).or_insert(short);
    }
    let rename = |name: &mut String| {
        if let Some(new) = renamed.get(name) {
            name.clone_from(new);
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(rename);
        name(node);
        without_usual(node);
    }
    for tensor in &mut graph.initializer {
        tensor.name.iter_mut().for_each(rename);
    }
    for (_, codes) in records {
        rename(&mut codes.tensor);
    }
}

/// Keeps one of equal constants. Returns the names of the others, with the name of the one.
fn shared(constants: &mut Vec<TensorProto>) -> BTreeMap<String, String> {
    type Content = (i32, Vec<i64>, Vec<u8>);
    let mut first: BTreeMap<Content, String> = BTreeMap::new();
    let mut renamed = BTreeMap::new();
    constants.retain(|constant| {
        let name = constant.name.clone().unwrap_or_default();
        let kind = constant.data_type.unwrap_or(0);
        let bytes = constant.raw_data.clone().unwrap_or_default();
        let content = (kind, constant.dims.clone(), bytes);
        match first.get(&content) {
            Some(other) => {
                renamed.insert(name, other.clone());
                false
            }
            None => {
                first.insert(content, name);
                true
            }
        }
    });
    renamed
}

/// Gives a convolution the name of its layer, and other nodes none: the name of what they compute
/// says the same.
fn name(node: &mut NodeProto) {
    let layer = node.name.take().filter(|_| node.op_type.as_deref() == Some("Conv"));
    node.name = layer.map(|name| match name.split_once("/sum") {
        Some((layer, "")) => layer.to_owned(),
        _ => name,
    });
}

/// Leaves out the attributes of a convolution that have their usual values.
fn without_usual(node: &mut NodeProto) {
    if node.op_type.as_deref() != Some("Conv") {
        return;
    }
    node.attribute.retain(|attribute| {
        let all = |usual: i64| attribute.ints.iter().all(|int| *int == usual);
        !match attribute.name.as_deref() {
            // The weight has the shape of the kernel.
            Some("kernel_shape") => true,
            Some("strides" | "dilations") => all(1),
            Some("pads") => all(0),
            Some("group") => attribute.i == Some(1),
            _ => false,
        }
    });
}

/// Short names that nothing else has.
struct ShortNames<'a> {
    taken: &'a BTreeSet<String>,
    count: usize,
}

impl ShortNames<'_> {
    fn next(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        loop {
            let mut name = String::new();
            let mut rest = self.count;
            loop {
                name.push(char::from(LETTERS[rest % LETTERS.len()]));
                rest /= LETTERS.len();
                if rest == 0 {
                    break;
                }
                rest -= 1;
            }
            self.count += 1;
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_differ() {
        let taken = BTreeSet::from(["b".to_owned()]);
        let mut names = ShortNames { taken: &taken, count: 0 };
        let found: Vec<String> = (0..3000).map(|_| names.next()).collect();
        assert_eq!(found[..2], ["a", "c"]);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3000);
        assert!(found.iter().all(|name| name.len() <= 3 && name != "b"));
    }
}
