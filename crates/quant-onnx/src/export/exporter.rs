//! A model on its way into an ONNX file, to which the other files of this folder add nodes.

use quant_infer::model::Model;

use super::{
    format::Format,
    graph::{Graph, ints},
};

/// A tensor that tells the codes of a quantizer: a code is tensor·factor + offset, exactly.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codes {
    pub(super) tensor: String,
    pub(super) factor: f32,
    pub(super) offset: f32,
    /// The channels of the tensor.
    pub(super) channels: usize,
}

/// A model that is being written.
pub(super) struct Exporter<'a> {
    pub(super) model: &'a Model,
    pub(super) format: Format,
    pub(super) graph: Graph,
    pub(super) shapes: Vec<[usize; 3]>,
    /// The tensor of each node's value.
    pub(super) tensors: Vec<String>,
    /// The names of quantizers, with their codes.
    pub(super) records: Vec<(String, Codes)>,
    pub(super) in_floats: Vec<(String, String)>,
    pub(super) layers: usize,
    pub(super) exact: usize,
    pub(super) near: usize,
    /// The number of elements that the quantizer reads which is being written.
    pub(super) elements: usize,
    /// Whether the file has weights of 2 bits.
    pub(super) two_bits: bool,
    /// The image's bytes as floats.
    pub(super) raw_image: String,
}

impl Exporter<'_> {
    pub(super) fn record(&mut self, name: &str, codes: &Codes) {
        self.records.push((name.to_owned(), codes.clone()));
    }

    pub(super) fn count_quantizer(&mut self, exact: bool) {
        if exact {
            self.exact += 1;
        } else {
            self.near += 1;
        }
    }

    /// Adds the mean over some axes.
    pub(super) fn mean(&mut self, name: &str, x: &str, axes: &[usize]) -> String {
        if self.format.opset(false) < 18 {
            let axes = vec![ints("axes", axes.iter().copied())];
            return self.graph.add("ReduceMean", name, &[x], axes);
        }
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        let axes = self.graph.list(&format!("{name}.axes"), &axes);
        self.graph.add("ReduceMean", name, &[x, &axes], vec![])
    }
}
