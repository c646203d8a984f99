//! The usual evaluation of a network and that of its lowered form, side by side.

use std::fmt;

use burn::tensor::{Int, Tensor, TensorData};
use quant_core::{Quantizer, probe, quantizers};
use quant_nn::Classifier;

use crate::{lower::Lowered, served::Served};

/// How the codes of one quantizer differ: of the input of a layer, of its output, or of an
/// addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerComparison {
    /// The name of the layer, or of the quantizer if it stands alone.
    pub layer: String,
    /// The codes that were compared.
    pub codes: u64,
    /// The number of codes that differ.
    pub differ: u64,
}

/// How the usual and the served evaluation differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The number of images that were compared.
    pub images: usize,
    /// Images for which both have the same best class.
    pub same_top1: usize,
    /// The quantizers, in execution order.
    pub layers: Vec<LayerComparison>,
    /// Layers and quantizers whose codes could not be compared.
    pub not_compared: Vec<String>,
}

/// A comparison, with the scores of both.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The differences from the usual evaluation.
    pub comparison: Comparison,
    /// Scores of the usual evaluation, `[batch, classes]`.
    pub usual: Tensor<2>,
    /// Scores of the served evaluation, `[batch, classes]`.
    pub served: Tensor<2>,
}

impl Comparison {
    /// Adds what was found for other images.
    pub fn add(&mut self, other: &Comparison) {
        self.images += other.images;
        self.same_top1 += other.same_top1;
        for layer in &other.layers {
            self.add_layer(layer.clone());
        }
        for layer in &other.not_compared {
            self.leave_out(layer);
        }
    }

    fn add_layer(&mut self, layer: LayerComparison) {
        match self.layers.iter_mut().find(|own| own.layer == layer.layer) {
            Some(own) => {
                own.codes += layer.codes;
                own.differ += layer.differ;
            }
            None => self.layers.push(layer),
        }
    }

    fn leave_out(&mut self, layer: &str) {
        if !self.not_compared.iter().any(|other| other == layer) {
            self.not_compared.push(layer.to_owned());
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26} {:>14} {:>10}", "layer", "codes", "differ")?;
        for LayerComparison { layer, codes, differ } in &self.layers {
            writeln!(f, "{layer:<26} {codes:>14} {differ:>10}")?;
        }
        if !self.not_compared.is_empty() {
            let names = self.not_compared.join(", ");
            writeln!(f, "not compared: {names}")?;
        }
        let Self { images, same_top1, .. } = self;
        write!(f, "the best class is the same for {same_top1} of {images} images")
    }
}

/// Evaluates images, `[batch, channels, height, width]` and normalised, in the usual way and as
/// served. `lowered` is the network after [`lower`](crate::lower()) or
/// [`Lowering`](crate::Lowering), and `served` evaluates its model.
///
/// The codes of the inputs and outputs of layers and of additions are compared where a quantizer of
/// the network gives them ([`Lowered::quantizers`]). Quantizers are told apart by their names
/// ([`name_quantizers`](quant_core::name_quantizers)). Of a quantizer that is used several times,
/// the last use is compared, and others that read the same value; further ones are named in
/// [`Comparison::not_compared`]. An element that differs changes those that are computed from it,
/// which count too.
///
/// The inputs of all quantizers are in memory at once: give it batches of some tens of images.
pub fn compare<M: Classifier>(
    network: &M,
    lowered: &Lowered,
    served: &Served,
    images: Tensor<4>,
) -> Compared {
    let network = network.valid();
    let images = if images.device().is_autodiff() { images.inner() } else { images };
    let places = &lowered.quantizers;
    let mut scores = None;
    let probes = probe(
        &network,
        |reached| places.iter().any(|(_, name)| name == reached.quantizer.name()),
        |network| scores = Some(network.forward(images.clone())),
    );
    let usual = scores.unwrap_or_else(|| Tensor::zeros([0, 0], &images.device()));
    let (served_scores, codes) = served.forward_codes(images);
    let found = quantizers(&network);
    let mut comparison = Comparison::default();
    for (node, name) in places {
        let layer = &lowered.model.nodes[*node].name;
        let quantizer = found.iter().map(|found| &found.quantizer).find(|q| q.name() == name);
        let before = probes.iter().find(|probe| probe.layer == *name).and_then(|probe| {
            let (_, data) = probe.tensors.iter().find(|(name, _)| name == "before-quant")?;
            Some(data.clone())
        });
        let before = before.filter(|_| reads_last_call(lowered, *node, name));
        let of_served = codes.iter().find(|codes| codes.node == *node);
        let usual_codes = match (quantizer, before, of_served) {
            (Some(quantizer), Some(before), Some(of_served)) => {
                usual_codes(quantizer, before, of_served.shape, &usual)
                    .map(|codes| (codes, of_served))
            }
            _ => None,
        };
        let Some((usual, of_served)) = usual_codes else {
            comparison.leave_out(layer);
            continue;
        };
        let differ = usual.iter().zip(&of_served.codes).filter(|(a, b)| a != b).count() as u64;
        let codes = usual.len() as u64;
        comparison.add_layer(LayerComparison { layer: layer.clone(), codes, differ });
    }
    let top1 = |scores: &Tensor<2>| -> Vec<i64> {
        let best: Tensor<2, Int> = scores.clone().argmax(1);
        best.into_data().iter().collect()
    };
    let served_top1 = top1(&served_scores);
    let same = top1(&usual).iter().zip(&served_top1).filter(|(a, b)| a == b).count();
    comparison.images = served_top1.len();
    comparison.same_top1 = same;
    Compared { comparison, usual, served: served_scores }
}

/// Whether the codes of a node are those of the last call of its quantizer: if no later node has
/// the same quantizer, or if the last one that has it reads the same value.
fn reads_last_call(lowered: &Lowered, node: usize, quantizer: &str) -> bool {
    let nodes = lowered.quantizers.iter().filter(|(_, other)| other == quantizer);
    let last = nodes.map(|(node, _)| *node).max();
    let inputs = |node: usize| &lowered.model.nodes[node].inputs;
    last.is_some_and(|last| last == node || inputs(last) == inputs(node))
}

/// The codes that a quantizer gives its input in the usual evaluation, without those of padding
/// that was added before quantizing. Returns `None` where the layer reads something else than what
/// the quantizer quantizes.
fn usual_codes(
    quantizer: &Quantizer,
    before: TensorData,
    [images, channels, height, width]: [usize; 4],
    on: &Tensor<2>,
) -> Option<Vec<u8>> {
    let shape: Vec<usize> = before.shape().iter().copied().chain([1, 1]).take(4).collect();
    let shape = [shape[0], shape[1], shape[2], shape[3]];
    let values: Vec<f32> = before.iter().collect();
    let x = Tensor::<4>::from_data(TensorData::new(values, shape), &on.device());
    let codes = quantizer.codes(x).codes;
    let elements = images * channels * height * width;
    let inside = if shape.iter().product::<usize>() == elements {
        codes
    } else if shape[..2] == [images, channels] && shape[2] >= height && shape[3] >= width {
        let [rows, columns] = [(shape[2] - height) / 2, (shape[3] - width) / 2];
        codes.narrow(2, rows, height).narrow(3, columns, width)
    } else {
        return None;
    };
    Some(inside.into_data().iter::<i64>().map(|code| code as u8).collect())
}
