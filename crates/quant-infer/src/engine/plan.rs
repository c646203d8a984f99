//! The steps of a network: which layers are computed together, and what is stored.
//!
//! A step produces numbers, position by position, applies links to them, and stores the results:
//! as floats, or as the operands of the convolutions that read them. So a value that only
//! quantizers of convolutions read is never stored as floats.

use alloc::{vec, vec::Vec};

use quant_kernels::simd::InstructionSet;

use super::{conv::choose, packing::Packing};
use crate::model::{Conv, Dynamic, Model, Op, Quantizer};

/// A layer. Quantizers that depend on the image are layers of their own.
#[derive(Debug, Clone)]
pub(super) struct Layer<'m> {
    pub(super) op: LayerOp<'m>,
    /// Indices of layers.
    pub(super) inputs: Vec<usize>,
    /// The index of the node of the model.
    pub(super) node: usize,
    /// The index of the node of the model that has the size of the result.
    pub(super) shape: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum LayerOp<'m> {
    Op(&'m Op),
    Conv(&'m Conv),
    /// The values of a quantizer that depends on the image.
    Dynamic(&'m Quantizer),
}

/// Something that is stored between steps.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) form: Form,
    /// The layer whose value, or whose quantized value, it is.
    pub(super) layer: usize,
    /// The node of the model that has its size.
    pub(super) shape: usize,
    /// Rows and columns of padding on each side.
    pub(super) padding: [usize; 2],
    /// Whether elements in the padding have the code of 0.
    pub(super) pads_codes: bool,
    /// The step that writes it, and the last one that reads it.
    pub(super) life: [usize; 2],
}

/// In which form numbers are stored: `[height, width, channels]`, with the padding.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Floats: the value, or the quantized value.
    Floats(Option<Quantizer>),
    /// Integers of each term of the quantizer, in words.
    Integers(Quantizer, Packing),
}

/// The layers of a step: the one that produces numbers, and the links.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The layer that produces numbers, unless they are those of a stored value.
    pub(super) head: Option<usize>,
    /// The layers that are links.
    pub(super) links: Vec<usize>,
    /// What is stored: after how many links, and the index of the storage.
    pub(super) sinks: Vec<(usize, usize)>,
}

/// The plan of a network.
pub(super) struct Plan<'m> {
    pub(super) layers: Vec<Layer<'m>>,
    pub(super) drafts: Vec<Draft>,
    pub(super) storages: Vec<Storage>,
    /// The storage that a convolution reads.
    pub(super) operand_of: Vec<Option<usize>>,
    /// The storage that has the floats of a layer's value.
    pub(super) value_of: Vec<Option<usize>>,
    set: InstructionSet,
    /// The packing that convolutions have if they can.
    preferred: Option<Packing>,
}

impl<'m> Plan<'m> {
    pub(super) fn new(model: &'m Model, set: InstructionSet, preferred: Option<Packing>) -> Self {
        let layers = layers_of(model);
        let (drafts, step_of) = draft_steps(&layers);
        let mut plan = Self {
            operand_of: vec![None; layers.len()],
            value_of: vec![None; layers.len()],
            storages: Vec::new(),
            layers,
            drafts,
            set,
            preferred,
        };
        plan.store(&step_of);
        plan
    }

    /// Decides what is stored.
    fn store(&mut self, step_of: &[usize]) {
        for reader in 0..self.layers.len() {
            for input in self.layers[reader].inputs.clone() {
                if self.is_linked(input, reader, step_of) {
                    continue;
                }
                let life = [step_of[input], step_of[reader]];
                match self.layers[reader].op {
                    LayerOp::Conv(conv) => {
                        let operand = self.operand(conv, input, life);
                        self.operand_of[reader] = Some(operand);
                    }
                    _ => self.value(input, life),
                }
            }
        }
        let last = self.layers.len() - 1;
        self.value(last, [step_of[last], self.drafts.len()]);
        for draft in &mut self.drafts {
            draft.sinks.sort_unstable();
        }
    }

    /// Returns whether the reader is the link that follows its input in the same step.
    fn is_linked(&self, input: usize, reader: usize, step_of: &[usize]) -> bool {
        let links = &self.drafts[step_of[reader]].links;
        step_of[input] == step_of[reader] && links.contains(&reader)
    }

    fn value(&mut self, layer: usize, life: [usize; 2]) {
        let storage = self.storage(Form::Floats(None), layer, ([0, 0], false), life);
        self.value_of[layer] = Some(storage);
    }

    fn operand(&mut self, conv: &Conv, layer: usize, life: [usize; 2]) -> usize {
        let quantizer = conv.quantizer.as_ref().filter(|q| q.dynamic == Dynamic::None);
        let form = match (quantizer, conv.integer_terms()) {
            (Some(quantizer), Some(terms)) => {
                let packing = choose(self.set, conv, terms, self.preferred);
                Form::Integers(quantizer.clone(), packing)
            }
            (quantizer, _) => Form::Floats(quantizer.cloned()),
        };
        if form == Form::Floats(None) && conv.padding == [0, 0] {
            self.value(layer, life);
        }
        self.storage(form, layer, (conv.padding, conv.pads_codes), life)
    }

    /// Returns a storage of this kind; one that exists is used if it fits.
    fn storage(
        &mut self,
        form: Form,
        layer: usize,
        (padding, pads_codes): ([usize; 2], bool),
        life: [usize; 2],
    ) -> usize {
        // Values are read without padding, so they are not stored together with operands.
        let is_value = form == Form::Floats(None);
        let fits = |storage: &Storage| {
            let either_is_bare = padding == [0, 0] || storage.padding == [0, 0];
            storage.layer == layer
                && storage.form == form
                && if is_value {
                    storage.padding == padding
                } else {
                    either_is_bare || storage.pads_codes == pads_codes
                }
        };
        if let Some(index) = self.storages.iter().position(fits) {
            let storage = &mut self.storages[index];
            if storage.padding == [0, 0] {
                storage.pads_codes = pads_codes;
            }
            for (largest, padding) in storage.padding.iter_mut().zip(padding) {
                *largest = padding.max(*largest);
            }
            storage.life[1] = storage.life[1].max(life[1]);
            return index;
        }
        let index = self.storages.len();
        let shape = self.layers[layer].shape;
        self.storages.push(Storage { form, layer, shape, padding, pads_codes, life });
        let draft = &mut self.drafts[life[0]];
        let links = draft.links.iter().position(|link| *link == layer).map_or(0, |at| at + 1);
        draft.sinks.push((links, index));
        index
    }
}

/// Returns the layers of a model.
fn layers_of(model: &Model) -> Vec<Layer<'_>> {
    let mut layers: Vec<Layer<'_>> = Vec::with_capacity(model.nodes.len());
    let mut layer_of = Vec::with_capacity(model.nodes.len());
    for (node, content) in model.nodes.iter().enumerate() {
        let mut inputs: Vec<usize> = content.inputs.iter().map(|input| layer_of[*input]).collect();
        let op = match &content.op {
            Op::Conv(conv) => {
                let dynamic = conv.quantizer.as_ref().filter(|q| q.dynamic != Dynamic::None);
                if let Some(quantizer) = dynamic {
                    let op = LayerOp::Dynamic(quantizer);
                    layers.push(Layer { op, inputs, node, shape: content.inputs[0] });
                    inputs = vec![layers.len() - 1];
                }
                LayerOp::Conv(conv)
            }
            Op::Quantize(quantizer) if quantizer.dynamic != Dynamic::None => {
                LayerOp::Dynamic(quantizer)
            }
            op => LayerOp::Op(op),
        };
        layer_of.push(layers.len());
        layers.push(Layer { op, inputs, node, shape: node });
    }
    layers
}

/// Returns the steps, and the step of each layer.
fn draft_steps(layers: &[Layer<'_>]) -> (Vec<Draft>, Vec<usize>) {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut step_of: Vec<usize> = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let ends = |layer: usize| {
            let draft: &Draft = &drafts[step_of[layer]];
            draft.links.last().copied().or(draft.head) == Some(layer)
        };
        let step = match (layer.op, &layer.inputs[..]) {
            (LayerOp::Op(op), [input]) if is_link(op) && ends(*input) => Some(step_of[*input]),
            // A sum of two values belongs to the step of the later one.
            (LayerOp::Op(Op::Add), [a, b]) if step_of[*a] != step_of[*b] => {
                let later = if step_of[*a] > step_of[*b] { *a } else { *b };
                ends(later).then(|| step_of[later])
            }
            _ => None,
        };
        let step = step.unwrap_or_else(|| {
            drafts.push(Draft { head: None, links: Vec::new(), sinks: Vec::new() });
            drafts.len() - 1
        });
        step_of.push(step);
        let draft = &mut drafts[step];
        let is_first = draft.head.is_none() && draft.links.is_empty();
        if is_first && !matches!(layer.op, LayerOp::Op(op) if is_link(op)) {
            draft.head = Some(index);
        } else {
            draft.links.push(index);
        }
    }
    (drafts, step_of)
}

fn is_link(op: &Op) -> bool {
    matches!(
        op,
        Op::Quantize(_)
            | Op::Affine { .. }
            | Op::AddScalar(_)
            | Op::MulScalar(_)
            | Op::Relu
            | Op::Relu6
            | Op::LeakyRelu(_)
            | Op::RPRelu { .. }
    )
}
