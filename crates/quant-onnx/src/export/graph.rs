//! A graph that is being written.

use std::collections::BTreeSet;

use crate::proto::{
    AttributeProto, GraphProto, NodeProto, QONNX, TensorProto, attribute_type, data_type,
};

/// Nodes and constants, with names that are used once.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) graph: GraphProto,
    names: BTreeSet<String>,
}

impl Graph {
    /// Returns a name that nothing else has, which begins with `wanted`.
    pub(super) fn name(&mut self, wanted: &str) -> String {
        let wanted = wanted.replace(": ", "/").replace(' ', "_");
        let mut name = wanted.clone();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{wanted}_{count}");
        }
        name
    }

    /// Adds a node with one output, which has the node's name, and returns this name.
    pub(super) fn add(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let name = self.name(name);
        let domain =
            matches!(op, "Quant" | "BipolarQuant" | "MultiThreshold").then(|| QONNX.to_owned());
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(op.to_owned()),
            attribute: attributes,
            domain,
        });
        name
    }

    /// Gives the node that was added last, whose output nothing reads yet, another name.
    pub(super) fn rename_last(&mut self, name: &str) -> String {
        if let Some(old) = self.graph.node.last().and_then(|node| node.output.first()) {
            self.names.remove(old);
        }
        let name = self.name(name);
        if let Some(node) = self.graph.node.last_mut() {
            node.output = vec![name.clone()];
            node.name = Some(name.clone());
        }
        name
    }

    fn constant(&mut self, name: &str, tensor: TensorProto) -> String {
        let name = self.name(name);
        self.graph.initializer.push(TensorProto { name: Some(name.clone()), ..tensor });
        name
    }

    /// Adds a constant of floats.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], numbers: &[f32]) -> String {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.raw(name, data_type::FLOAT, dims, bytes)
    }

    /// Adds a float without dimensions.
    pub(super) fn scalar(&mut self, name: &str, number: f32) -> String {
        self.floats(name, &[], &[number])
    }

    /// Adds a list of integers, such as a shape.
    pub(super) fn list(&mut self, name: &str, numbers: &[i64]) -> String {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.raw(name, data_type::INT64, &[numbers.len()], bytes)
    }

    /// Adds a constant whose bytes are given as the file has them.
    pub(super) fn raw(
        &mut self,
        name: &str,
        data_type: i32,
        dims: &[usize],
        bytes: Vec<u8>,
    ) -> String {
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        let tensor = TensorProto {
            dims,
            data_type: Some(data_type),
            raw_data: Some(bytes),
            ..TensorProto::default()
        };
        self.constant(name, tensor)
    }
}

/// Returns an attribute that is an integer.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(i),
        kind: Some(attribute_type::INT),
        ..AttributeProto::default()
    }
}

/// Returns an attribute that is a list of integers.
pub(super) fn ints(name: &str, ints: impl IntoIterator<Item = usize>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints: ints.into_iter().map(|int| int as i64).collect(),
        kind: Some(attribute_type::INTS),
        ..AttributeProto::default()
    }
}

/// Returns an attribute that is a float.
pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(f),
        kind: Some(attribute_type::FLOAT),
        ..AttributeProto::default()
    }
}

/// Returns an attribute that is a text.
pub(super) fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        s: Some(text.as_bytes().to_vec()),
        kind: Some(attribute_type::STRING),
        ..AttributeProto::default()
    }
}
