//! Constants that an ONNX file keeps in other files beside it, as PyTorch's exporter writes them.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::{
    OnnxError,
    proto::{GraphProto, ModelProto, TensorProto},
};

/// Returns the names of the files in which an ONNX file keeps constants, relative to its own
/// folder. [`ImportOptions::external`](crate::ImportOptions::external) takes their contents. The
/// names come from the file: a program should refuse those that lead out of the folder.
///
/// # Errors
/// [`OnnxError::File`] for bytes that are not an ONNX file.
pub fn external_files(bytes: &[u8]) -> Result<Vec<String>, OnnxError> {
    let mut file = ModelProto::decode(bytes).map_err(OnnxError::not_onnx)?;
    let mut names = BTreeSet::new();
    for tensor in file.graph.iter_mut().flat_map(tensors) {
        names.extend(entry(tensor, "location").map(str::to_owned));
    }
    Ok(names.into_iter().collect())
}

/// Puts the constants that are in these files, by their names, into the graph. Those of other files
/// stay as they are.
///
/// # Errors
/// [`OnnxError::File`] for a constant that is not where it is said to be.
pub(crate) fn take_in(
    graph: &mut GraphProto,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(), OnnxError> {
    // Many constants could name the same bytes, and each of them is a copy.
    let mut left: usize = files.values().map(Vec::len).sum();
    for tensor in tensors(graph) {
        let Some(contents) = entry(tensor, "location").and_then(|name| files.get(name)) else {
            continue;
        };
        let number = |key, usual: usize| entry(tensor, key).map_or(Some(usual), |n| n.parse().ok());
        let bytes = number("offset", 0).and_then(|offset| {
            let rest = contents.get(offset..)?;
            rest.get(..number("length", rest.len())?)
        });
        let (Some(bytes), Some(rest)) = (bytes, bytes.and_then(|b| left.checked_sub(b.len())))
        else {
            let name = tensor.name.as_deref().unwrap_or("without a name");
            return Err(OnnxError::File(format!(
                "has a constant {name} that lies beyond the end of the file that it is stored in"
            )));
        };
        left = rest;
        tensor.raw_data = Some(bytes.to_vec());
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    Ok(())
}

/// All constants of a graph: those by name, and those of nodes.
fn tensors(graph: &mut GraphProto) -> impl Iterator<Item = &mut TensorProto> {
    let of_nodes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    graph.initializer.iter_mut().chain(of_nodes.filter_map(|attribute| attribute.t.as_mut()))
}

/// Returns what a constant says of the place where it is stored.
pub(crate) fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
    found?.value.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImportOptions, import, proto::StringStringEntryProto};

    fn stored(name: &str, place: &[(&str, &str)]) -> TensorProto {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some((*key).into()),
            value: Some((*value).into()),
        };
        TensorProto {
            dims: vec![1],
            data_type: Some(1),
            name: Some(name.into()),
            external_data: place.iter().map(entry).collect(),
            data_location: Some(1),
            ..TensorProto::default()
        }
    }

    fn file(constants: Vec<TensorProto>) -> ModelProto {
        let graph = GraphProto { initializer: constants, ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn constants_are_taken_from_the_files_beside() {
        let second = stored("b", &[("location", "w.data"), ("offset", "4"), ("length", "4")]);
        let model = file(vec![stored("a", &[("location", "w.data"), ("length", "4")]), second]);
        assert_eq!(external_files(&model.encode_to_vec()).unwrap(), ["w.data"]);
        let files = BTreeMap::from([("w.data".to_owned(), (0..8).collect::<Vec<u8>>())]);
        let mut graph = model.graph.unwrap();
        take_in(&mut graph, &files).unwrap();
        let bytes = graph.initializer.iter().map(|tensor| tensor.raw_data.clone().unwrap());
        assert_eq!(bytes.collect::<Vec<_>>(), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    }

    #[test]
    fn places_that_are_not_in_the_file_are_refused() {
        for place in [
            &[("offset", "9")][..],
            &[("length", "9")],
            &[("offset", "4"), ("length", "18446744073709551615")],
            &[("offset", "-1")],
        ] {
            let place = [&[("location", "w.data")], place].concat();
            let bytes = file(vec![stored("w", &place)]).encode_to_vec();
            let external = BTreeMap::from([("w.data".to_owned(), vec![0; 8])]);
            let options = ImportOptions { external, ..ImportOptions::default() };
            let error = import(&bytes, &options).unwrap_err().to_string();
            assert!(error.contains("constant w that lies beyond the end"), "{error}");
        }
        // Each constant alone fits, and together they would need more memory than the file has.
        let many = vec![stored("w", &[("location", "w.data")]); 3];
        let external = BTreeMap::from([("w.data".to_owned(), vec![0; 8])]);
        let options = ImportOptions { external, ..ImportOptions::default() };
        assert!(import(&file(many).encode_to_vec(), &options).is_err());
    }
}
