//! An ONNX file that is being read, whose nodes the other files of this folder turn into a model.

use std::collections::{BTreeMap, BTreeSet};

use quant_infer::model::{Input, Node, Op};

use super::dynamic::Dynamic;
use crate::tensor::Constant;

/// The numbers of a `BatchNormalization`, one of each for a channel: x becomes
/// (x - mean)/sqrt(variance + 1e-5)·weight + bias.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// The factor γ of each channel.
    pub weight: Vec<f32>,
    /// The number β that is added to each channel.
    pub bias: Vec<f32>,
    /// The mean of each channel.
    pub mean: Vec<f32>,
    /// The variance of each channel.
    pub variance: Vec<f32>,
}

/// The value of a tensor of the file.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Constant(Constant),
    Dynamic(Dynamic),
}

/// A file that is being read.
pub(super) struct Importer {
    pub(super) nodes: Vec<Node>,
    /// The shape of each node's value.
    pub(super) shapes: Vec<[usize; 3]>,
    pub(super) values: BTreeMap<String, Value>,
    /// How often each tensor is read.
    pub(super) uses: BTreeMap<String, usize>,
    /// The types of constants.
    pub(super) kinds: BTreeMap<String, i64>,
    /// The constants that other constants were computed from.
    pub(super) origins: BTreeMap<String, String>,
    pub(super) names: BTreeSet<String>,
    pub(super) notes: BTreeSet<String>,
    pub(super) quantized: Vec<(usize, String)>,
    /// The batch norms, by the node that computes them.
    pub(super) norms: BTreeMap<usize, BatchNorm>,
    /// How many thresholds have been found so far.
    pub(super) thresholds: usize,
    pub(super) input: Input,
}

impl Importer {
    /// Adds a node to the model.
    pub(super) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<usize>,
        shape: [usize; 3],
    ) -> usize {
        let mut unique = name.to_owned();
        let mut count = 1;
        while !self.names.insert(unique.clone()) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        self.nodes.push(Node { name: unique, op, inputs });
        // Larger sides than a model may have are refused by its check.
        self.shapes.push(shape.map(|side| side.min(1 << 21)));
        self.nodes.len() - 1
    }

    /// Whether exactly one node reads a tensor.
    pub(super) fn read_once(&self, tensor: &str) -> bool {
        self.uses.get(tensor) == Some(&1)
    }
}
