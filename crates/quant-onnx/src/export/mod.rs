//! Models become ONNX files.

mod codes;
mod compact;
mod conv;
mod exporter;
mod format;
mod formula;
mod graph;
mod int8;
mod plain;
mod weights;

use std::{collections::BTreeSet, fmt};

use prost::Message;
use quant_infer::model::{Input, Model, Node, Op};

pub use self::format::Format;
use self::{
    exporter::{Codes, Exporter},
    graph::{Graph, int},
};
use crate::{
    OnnxError, Pixels,
    proto::{
        DimensionProto, ModelProto, OperatorSetIdProto, QONNX, StringStringEntryProto,
        TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
    },
};

/// An ONNX file, and what its writer had to do otherwise than the format intends.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// The convolutions and linear layers that compute in floats of any kind, each with the reason.
    pub in_floats: Vec<(String, String)>,
    /// The convolutions and linear layers of the network.
    pub layers: usize,
    /// The quantizers whose codes are those of the network for every input.
    pub exact_quantizers: usize,
    /// The quantizers whose codes may differ from the network's for inputs within a few units in
    /// the last place of a threshold.
    pub near_quantizers: usize,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, reason) in &self.in_floats {
            writeln!(f, "{layer} computes in floats: {reason}")?;
        }
        let in_integers = self.layers - self.in_floats.len();
        writeln!(f, "{in_integers} of {} layers multiply integers", self.layers)?;
        let all = self.exact_quantizers + self.near_quantizers;
        write!(
            f,
            "{} of {all} quantizers have the network's thresholds to the bit, and {} within a few \
             units in the last place",
            self.exact_quantizers, self.near_quantizers
        )
    }
}

/// Writes a model as an ONNX file.
///
/// The file's input `image` has bytes `[N, channels, height, width]`, which the first nodes
/// normalise, and its output `scores` has floats `[N, classes]`. Nodes have the names of the
/// network's layers. For each quantizer the entry `codes:<layer>` of the file's metadata has the
/// name of a tensor, a factor and an offset: a code is tensor·factor + offset. In
/// [`Format::Compact`] and [`Format::Int8`] the tensor has floats or bytes.
///
/// ```
/// use quant_infer::model::Model;
/// use quant_onnx::{Format, export};
/// # use quant_infer::model::{Input, Node, Op};
/// # let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
/// # let model = Model {
/// #     name: "average".into(),
/// #     producer: "example".into(),
/// #     classes: vec!["red".into(), "green".into()],
/// #     input: Input {
/// #         size: [1, 2],
/// #         shorter_side: None,
/// #         scale: vec![0.5; 2],
/// #         shift: vec![0.0; 2],
/// #     },
/// #     nodes: vec![
/// #         node("input", Op::Input, vec![]),
/// #         node("pool", Op::GlobalPool, vec![0]),
/// #     ],
/// # };
///
/// fn write(model: &Model) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
///     let exported = export(model, Format::Qonnx)?;
///     println!("{exported}"); // which layers compute in floats, and why
///     Ok(exported.bytes)
/// }
/// assert!(!write(&model)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`OnnxError::Model`] for a model that is not valid.
pub fn export(model: &Model, format: Format) -> Result<Exported, OnnxError> {
    model.check()?;
    let shapes = model.shapes(model.input.size)?;
    let mut exporter = Exporter {
        model,
        format,
        graph: Graph::default(),
        shapes,
        tensors: Vec::new(),
        records: Vec::new(),
        in_floats: Vec::new(),
        layers: 0,
        exact: 0,
        near: 0,
        elements: 0,
        two_bits: false,
        raw_image: String::new(),
    };
    let mut at = 0;
    while at < model.nodes.len() {
        at = exporter.node(at);
    }
    Ok(exporter.finish())
}

impl Exporter<'_> {
    /// Whether only the node after this one reads it.
    fn only_next_reads(&self, at: usize) -> bool {
        let readers = |node: &Node| node.inputs.contains(&at);
        let mut nodes = self.model.nodes.iter().enumerate().filter(|(_, node)| readers(node));
        matches!((nodes.next(), nodes.next()), (Some((next, _)), None) if next == at + 1)
    }

    /// The step of the `QuantizeLinear` that alone reads a node, or a ReLU that reads it. `None` if
    /// anything else reads it.
    fn step_of_reader(&self, at: usize) -> Option<f32> {
        let mut readers =
            self.model.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&at));
        match (readers.next(), readers.next()) {
            (Some((at, Node { op: Op::Relu, .. })), None) => self.step_of_reader(at),
            (Some((_, Node { op: Op::Conv(conv), .. })), None) => {
                int8::plan(conv).ok().and_then(|plan| plan.step())
            }
            _ => None,
        }
    }

    /// Adds a node, and what its convolution takes in of the nodes after it. Returns the next node.
    fn node(&mut self, at: usize) -> usize {
        let model = self.model;
        let node = &model.nodes[at];
        let inputs: Vec<String> =
            node.inputs.iter().map(|input| self.tensors[*input].clone()).collect();
        let shape = node.inputs.first().map_or(self.shapes[at], |input| self.shapes[*input]);
        self.elements = shape.iter().product();
        match &node.op {
            Op::Conv(conv) => {
                self.layers += 1;
                if self.format == Format::Int8 {
                    let after = model.nodes.get(at + 1).map(|node| &node.op);
                    let norm = match after {
                        Some(Op::Affine { scale, shift }) if self.only_next_reads(at) => {
                            Some((&scale[..], &shift[..]))
                        }
                        _ => None,
                    };
                    match int8::plan(conv) {
                        Ok(plan) => {
                            let name = match norm {
                                Some(_) => &model.nodes[at + 1].name,
                                None => &node.name,
                            };
                            let names = [&*node.name, name];
                            let last = at + usize::from(norm.is_some());
                            let step = self.step_of_reader(last);
                            let tensor = self.int8(names, conv, plan, &inputs[0], norm, step);
                            self.tensors.push(tensor.clone());
                            if norm.is_some() {
                                self.tensors.push(tensor);
                                return at + 2;
                            }
                            return at + 1;
                        }
                        Err(reason) => self.in_floats.push((node.name.clone(), reason)),
                    }
                }
                let reads_image = node.inputs[0] == 0;
                let tensor = self.conv(&node.name, conv, &inputs[0], reads_image);
                self.tensors.push(tensor);
            }
            Op::Quantize(quantizer) => {
                self.values(&node.name, quantizer, &inputs[0], shape[0]);
                let tensor = self.graph.rename_last(&node.name);
                // The codes may be the values themselves.
                for (_, codes) in &mut self.records {
                    if !self.graph.graph.node.iter().any(|node| node.output[0] == codes.tensor) {
                        codes.tensor.clone_from(&tensor);
                    }
                }
                self.tensors.push(tensor);
            }
            op => {
                let inputs: Vec<&str> = inputs.iter().map(|input| &**input).collect();
                let tensor = self.plain(&node.name, op, &inputs, shape, self.shapes[at]);
                self.tensors.push(tensor);
            }
        }
        at + 1
    }

    fn finish(mut self) -> Exported {
        let last = self.tensors.last().cloned().unwrap_or_default();
        let scores = self.graph.add("Flatten", "scores", &[&last], vec![int("axis", 1)]);
        let side = |side: usize| DimensionProto { dim_value: Some(side as i64), dim_param: None };
        let batch = DimensionProto { dim_value: None, dim_param: Some("N".to_owned()) };
        let value = |name: String, elem_type: i32, sides: &[usize]| ValueInfoProto {
            name: Some(name),
            kind: Some(TypeProto {
                tensor_type: Some(TensorTypeProto {
                    elem_type: Some(elem_type),
                    shape: Some(TensorShapeProto {
                        dim: [batch.clone()]
                            .into_iter()
                            .chain(sides.iter().copied().map(side))
                            .collect(),
                    }),
                }),
            }),
        };
        let model = self.model;
        let mut graph = self.graph.graph;
        if self.format == Format::Compact {
            let kept: BTreeSet<String> =
                self.tensors.iter().cloned().chain([scores.clone(), "image".to_owned()]).collect();
            compact::compact(&mut graph, &kept, &mut self.records);
        }
        graph.name = Some(model.name.clone());
        graph.input = vec![value("image".to_owned(), data_type::UINT8, &self.shapes[0])];
        let classes = self.shapes.last().map_or(0, |shape| shape[0]);
        graph.output = vec![value(scores, data_type::FLOAT, &[classes])];
        let version = |domain: &str, version: i64| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let mut versions = vec![version("", self.format.opset(self.two_bits))];
        if self.format == Format::Qonnx {
            versions.push(version(QONNX, 1));
        }
        let entry = |key: String, value: String| StringStringEntryProto {
            key: Some(key),
            value: Some(value),
        };
        let mut metadata: Vec<StringStringEntryProto> = (self.records.iter())
            .map(|(name, codes)| {
                let Codes { tensor, factor, offset, .. } = codes;
                entry(format!("codes:{name}"), format!("{tensor} {factor} {offset}"))
            })
            .collect();
        metadata.push(entry("producer".to_owned(), model.producer.clone()));
        let list = |numbers: &[f32]| -> String {
            let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
            numbers.join(" ")
        };
        let Input { scale, shift, .. } = &model.input;
        for (key, numbers) in Pixels::ENTRIES.into_iter().zip([scale, shift]) {
            metadata.push(entry(key.to_owned(), list(numbers)));
        }
        if let Some(side) = model.input.shorter_side {
            metadata.push(entry("shorter_side".to_owned(), side.to_string()));
        }
        if !model.classes.is_empty() {
            metadata.push(entry("classes".to_owned(), model.classes.join("\n")));
        }
        let proto = ModelProto {
            ir_version: Some(self.format.ir_version(self.two_bits)),
            producer_name: Some("quant-onnx".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(graph),
            opset_import: versions,
            metadata_props: metadata,
        };
        Exported {
            bytes: proto.encode_to_vec(),
            in_floats: self.in_floats,
            layers: self.layers,
            exact_quantizers: self.exact,
            near_quantizers: self.near,
        }
    }
}
