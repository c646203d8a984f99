//! Evaluation of a lowered network with Burn's tensors.

mod array;
mod conv;
mod digits;
mod float;
mod layers;
mod quantize;

use burn::tensor::{Device, Tensor, TensorData};
use quant_infer::{
    Error,
    model::{Model, Op},
};

use array::Array;
use conv::IntegerConv;

/// Images that are evaluated at once, in pixels.
const PIXELS: usize = 1 << 16;

/// Is shown the codes of a node's quantizer, and their shape.
type Seen<'a> = &'a mut dyn FnMut(usize, &[u8], [usize; 4]);

/// A lowered network that is evaluated step by step, as the documentation of
/// [`quant_infer::model`] says.
///
/// Sums of integers are convolutions of floats on the device. The floats are integers, and small
/// enough that every sum is exact whatever its order; wider integers are convolved digit by digit.
/// All other steps are computed on the host, each rounded on its own, because the kernels of a
/// device may contract or reorder operations. So every device gives the same bits.
#[derive(Debug)]
pub struct Served {
    model: Model,
    device: Device,
    /// The convolutions that compute in integers, by node.
    convs: Vec<Option<IntegerConv>>,
}

/// The codes of the quantizer of one node: of the input of a convolution, or of a quantizer that
/// stands alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCodes {
    /// The index of the node in the model.
    pub node: usize,
    /// The name of the node.
    pub layer: String,
    /// `[images, channels, height, width]`.
    pub shape: [usize; 4],
    /// The code of each number, row-major.
    pub codes: Vec<u8>,
}

impl Served {
    /// Prepares a model for a device.
    ///
    /// # Errors
    /// [`Error::Model`] where the model is not valid.
    pub fn new(model: &Model, device: &Device) -> Result<Self, Error> {
        model.check()?;
        let device = device.clone().without_autodiff();
        let convs = model.nodes.iter().map(|node| match &node.op {
            Op::Conv(conv) => IntegerConv::new(conv, &device),
            _ => None,
        });
        let convs = convs.collect();
        Ok(Self { model: model.clone(), device, convs })
    }

    /// The model that is evaluated.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Class scores.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, normalised
    /// - output: `[batch, classes]`, on the device of this
    ///
    /// # Panics
    /// For images that the network does not take ([`Model::shapes`]).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.run(images, &mut |_, _, _| {})
    }

    /// Class scores, and the codes of every quantizer, in execution order: those of inputs of
    /// convolutions, and those that stand alone.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_codes(&self, images: Tensor<4>) -> (Tensor<2>, Vec<NodeCodes>) {
        let mut all: Vec<NodeCodes> = Vec::new();
        let scores = self.run(images, &mut |node, codes, shape| match all
            .iter_mut()
            .find(|seen| seen.node == node)
        {
            Some(seen) => {
                seen.shape[0] += shape[0];
                seen.codes.extend_from_slice(codes);
            }
            None => {
                let layer = self.model.nodes[node].name.clone();
                all.push(NodeCodes { node, layer, shape, codes: codes.to_vec() });
            }
        });
        (scores, all)
    }

    fn run(&self, images: Tensor<4>, seen: Seen<'_>) -> Tensor<2> {
        let images = Array::of(images);
        let [_, height, width] = images.shape;
        let shapes = match self.model.shapes([height, width]) {
            Ok(shapes) => shapes,
            Err(error) => panic!("{error}"),
        };
        let (count, each) = (images.images, images.elements());
        let classes = shapes.last().map_or(0, |shape| shape[0]);
        let mut scores = Vec::with_capacity(count * classes);
        let at_once = (PIXELS / (height * width)).max(1);
        for chunk in images.values.chunks((at_once * each).max(1)) {
            let images =
                Array { images: chunk.len() / each, shape: images.shape, values: chunk.into() };
            scores.extend(self.chunk(images, &shapes, seen).values);
        }
        Tensor::from_data(TensorData::new(scores, [count, classes]), &self.device)
    }

    fn chunk(&self, images: Array, shapes: &[[usize; 3]], seen: Seen<'_>) -> Array {
        let nodes = &self.model.nodes;
        let mut last_use = vec![nodes.len(); nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last_use[*input] = index);
        }
        let mut values: Vec<Option<Array>> = vec![Some(images)];
        let mut show = |index: usize, codes: &[u8], of: &Array| {
            let [channels, height, width] = of.shape;
            seen(index, codes, [of.images, channels, height, width]);
        };
        for (index, node) in nodes.iter().enumerate().skip(1) {
            let inputs: Vec<&Array> = (node.inputs.iter())
                .map(|input| values[*input].as_ref().expect("a value that is still to be read"))
                .collect();
            let value = match &node.op {
                Op::Conv(conv) => {
                    let codes = conv.quantizer.as_ref().map(|q| quantize::codes(q, inputs[0]));
                    if let Some(codes) = &codes {
                        show(index, codes, inputs[0]);
                    }
                    match (&self.convs[index], codes) {
                        (Some(integers), Some(codes)) => {
                            integers.forward(conv, inputs[0], &codes, shapes[index])
                        }
                        _ => float::forward(conv, inputs[0], shapes[index]),
                    }
                }
                Op::Quantize(quantizer) => {
                    show(index, &quantize::codes(quantizer, inputs[0]), inputs[0]);
                    quantize::values(quantizer, inputs[0])
                }
                op => layers::forward(op, &inputs, shapes[index]),
            };
            for input in &node.inputs {
                if last_use[*input] == index {
                    values[*input] = None;
                }
            }
            values.push(Some(value));
        }
        values.pop().flatten().expect("a model has a last node")
    }
}
