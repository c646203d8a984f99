//! The steps of a plan, with their numbers in the order in which they are read.

use alloc::{boxed::Box, vec, vec::Vec};

use quant_kernels::simd::InstructionSet;

use super::{
    coder::Coder,
    conv::{FloatConv, Folded, IntegerConv, fold},
    integers::Integers,
    links::Link,
    operations,
    packing::Encoding,
    per_channel::PerChannel,
    pixels::ByteWords,
    plan::{Form, Layer, LayerOp, Plan, Storage},
    step::{CodesOf, Content, Producer, Sink, Step},
};
use crate::model::{Input, Op, Quantizer, Term, Weight};

/// Prepares the steps of a plan.
pub(super) struct Prepare<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) input: &'a Input,
    pub(super) shapes: &'a [[usize; 3]],
    pub(super) set: InstructionSet,
}

impl Prepare<'_> {
    fn channels(&self, layer: usize) -> usize {
        self.shapes[self.plan.layers[layer].shape][0]
    }

    /// Returns the storage of a value that is known to be stored.
    fn value(&self, layer: usize) -> usize {
        self.plan.value_of[layer].unwrap_or_default()
    }

    /// Prepares a step, and notes where the codes of its nodes are found.
    pub(super) fn step(&self, step: usize, codes: &mut [Option<CodesOf>]) -> Step {
        let draft = &self.plan.drafts[step];
        let layers = &self.plan.layers;
        let mut links = Vec::new();
        let mut previous = draft.head;
        let head = draft.head.map(|head| &layers[head]);
        if let Some(Layer { op: LayerOp::Conv(conv), .. }) = head {
            links.extend(conv.bias.as_ref().map(|bias| Link::Bias(PerChannel::new(bias))));
        }
        let biases = links.len();
        for (index, layer) in draft.links.iter().enumerate() {
            links.push(self.link(*layer, previous));
            if matches!(links.last(), Some(Link::Quantize(_))) {
                let link = biases + index;
                codes[layers[*layer].node] = Some(CodesOf::Link { step, link });
            }
            previous = Some(*layer);
        }
        let mut sinks: Vec<Sink> = (draft.sinks.iter())
            .map(|(after, storage)| {
                let after = biases + after;
                Sink { after, storage: *storage, content: self.content(*storage) }
            })
            .collect();
        let folded = head.and_then(|head| self.fold(head, &links, &mut sinks));
        let (producer, shape) = match (draft.head, draft.links.first()) {
            (Some(head), _) => {
                (self.producer(step, head, folded.as_ref(), codes), layers[head].shape)
            }
            (None, Some(first)) => {
                (Producer::Value(self.value(layers[*first].inputs[0])), layers[*first].shape)
            }
            (None, None) => (Producer::Input, 0),
        };
        if matches!(producer, Producer::Input) {
            self.take_bytes(&mut sinks);
        }
        let first = draft.head.or(draft.links.first().copied()).unwrap_or(0);
        let node = layers[first].node;
        let is_folded = folded.is_some();
        let channels = self.shapes[shape][0];
        let takes_one_pass = operations::suffice(channels, (&producer, is_folded), &links, &sinks);
        Step {
            node,
            producer,
            links,
            sinks,
            shape,
            is_folded,
            negated: folded.map(|folded| folded.negate).unwrap_or_default(),
            takes_one_pass,
            follows_rows: false,
        }
    }

    /// Lets sinks that read the image's own numbers store its bytes.
    fn take_bytes(&self, sinks: &mut [Sink]) {
        for sink in sinks.iter_mut().filter(|sink| sink.after == 0) {
            if let Content::Integers { coder, terms, bytes, .. } = &mut sink.content {
                *bytes = terms.iter().map(|term| ByteWords::new(self.input, coder, term)).collect();
            }
        }
    }

    fn link(&self, layer: usize, previous: Option<usize>) -> Link {
        let content = &self.plan.layers[layer];
        let LayerOp::Op(op) = content.op else { return Link::AddScalar(0.0) };
        if let (Op::Add, [a, b]) = (op, &content.inputs[..]) {
            let other = if previous == Some(*a) { *b } else { *a };
            return Link::Add(self.value(other));
        }
        // Only layers that have a link are planned as links.
        Link::new(op, self.channels(layer)).unwrap_or(Link::AddScalar(0.0))
    }

    fn content(&self, storage: usize) -> Content {
        let storage = &self.plan.storages[storage];
        let channels = self.channels(storage.layer);
        let pads = |quantizer: &Quantizer, channel: usize| {
            let group = quantizer.group_of(channel, channels);
            (group, quantizer.code_of(group, 0.0))
        };
        match &storage.form {
            Form::Floats(None) => Content::Floats { coder: None, padding: vec![0.0; channels] },
            Form::Floats(Some(quantizer)) => {
                let value = |channel| {
                    let (group, code) = pads(quantizer, channel);
                    if storage.pads_codes { quantizer.value_of(group, code) } else { 0.0 }
                };
                Content::Floats {
                    coder: Some(Coder::new(quantizer, channels)),
                    padding: (0..channels).map(value).collect(),
                }
            }
            Form::Integers(quantizer, _) => {
                let coder = Coder::new(quantizer, channels);
                let encodings = self.encodings(storage);
                let contents = quantizer.terms.as_ref().map(|terms| &terms.0[..]);
                let terms: Vec<Integers> = (contents.unwrap_or_default().iter())
                    .zip(encodings)
                    .map(|(term, encoding)| Integers::new(&coder, term, encoding))
                    .collect();
                let padding = (terms.iter())
                    .map(|term| {
                        term.words(|channel| {
                            if storage.pads_codes {
                                term.of_code(&coder, channel, pads(quantizer, channel).1)
                            } else {
                                term.number_of_zero()
                            }
                        })
                    })
                    .collect();
                Content::Integers { coder, terms, padding, folded: None, bytes: Vec::new() }
            }
        }
    }

    /// Returns how the integers of each term of a storage are stored.
    fn encodings(&self, storage: &Storage) -> Vec<Encoding> {
        let Form::Integers(quantizer, packing) = &storage.form else { return Vec::new() };
        let pads_zeros = !storage.pads_codes && storage.padding != [0, 0];
        let terms = quantizer.terms.as_ref().map(|terms| &terms.0[..]);
        let encoding = |term: &Term| {
            let integers = term.integers.iter().copied().chain(pads_zeros.then_some(0));
            // The packing was chosen because it can store them.
            packing.encoding(integers).unwrap_or_default()
        };
        terms.unwrap_or_default().iter().map(encoding).collect()
    }

    /// Turns what follows a convolution into thresholds, if that is possible.
    fn fold(&self, head: &Layer<'_>, links: &[Link], sinks: &mut [Sink]) -> Option<Folded> {
        let LayerOp::Conv(conv) = head.op else { return None };
        let (Some(terms), Weight::Codes(codes)) = (conv.integer_terms(), &conv.weight) else {
            return None;
        };
        let mut coders = Vec::new();
        for sink in sinks.iter() {
            match &sink.content {
                Content::Integers { coder, .. } if sink.after == links.len() => coders.push(coder),
                _ => return None,
            }
        }
        let mut result = fold(conv, terms, codes, links, &coders)?;
        for (sink, thresholds) in sinks.iter_mut().zip(core::mem::take(&mut result.thresholds)) {
            if let Content::Integers { folded, .. } = &mut sink.content {
                *folded = Some(thresholds);
            }
        }
        Some(result)
    }

    fn producer(
        &self,
        step: usize,
        head: usize,
        folded: Option<&Folded>,
        codes: &mut [Option<CodesOf>],
    ) -> Producer {
        let layer = &self.plan.layers[head];
        match layer.op {
            LayerOp::Conv(conv) => {
                let operand = self.plan.operand_of[head].unwrap_or_default();
                if self.plan.storages[operand].form != Form::Floats(None) {
                    codes[layer.node] = Some(CodesOf::Operand { step, storage: operand });
                }
                match (conv.integer_terms(), &conv.weight) {
                    (Some(terms), Weight::Codes(weights)) => {
                        let none = vec![false; conv.out_channels];
                        let negate = folded.map_or(&none, |folded| &folded.negate);
                        let encodings = self.encodings(&self.plan.storages[operand]);
                        let conv =
                            IntegerConv::new(self.set, conv, terms, weights, negate, &encodings);
                        Producer::Integer { conv: Box::new(conv), operand }
                    }
                    _ => {
                        Producer::Float { conv: Box::new(FloatConv::new(self.set, conv)), operand }
                    }
                }
            }
            LayerOp::Dynamic(quantizer) => {
                codes[layer.node] = Some(CodesOf::Dynamic { step });
                let coder = Box::new(Coder::new(quantizer, self.channels(head)));
                Producer::Dynamic { coder, value: self.value(layer.inputs[0]) }
            }
            LayerOp::Op(Op::Input) => Producer::Input,
            LayerOp::Op(op) => {
                let values = layer.inputs.iter().map(|input| self.value(*input)).collect();
                Producer::Layer { op: op.clone(), values }
            }
        }
    }
}
