//! A plain executor: loops that follow the documentation of [`crate::model`] word by word. It is
//! slow, and tests compare everything that is faster with it.

mod conv;
mod layers;
mod quantize;
mod value;

use alloc::vec::Vec;

use crate::{
    Error, Image,
    model::{Model, Op, Quantizer},
};

pub use value::Value;

/// What a network computed for an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The value of each node. The last has the scores.
    pub values: Vec<Value>,
    /// The codes `[channels, height, width]` of the quantizer of each node that has one: of the
    /// input of a convolution, or of an [`Op::Quantize`].
    pub codes: Vec<Option<Vec<u8>>>,
}

impl Trace {
    /// Returns the class scores.
    pub fn scores(&self) -> &[f32] {
        self.values.last().map(|value| &value.numbers[..]).unwrap_or_default()
    }
}

/// Returns the codes of a quantizer that reads the value of layers, of which each reads the one
/// before, and the first reads `value`. No layer changes its size, and none is a convolution.
pub(crate) fn codes_after<'a>(
    layers: impl Iterator<Item = &'a Op>,
    quantizer: &Quantizer,
    value: Value,
) -> Vec<u8> {
    let value = layers.fold(value, |value, op| layers::value(op, &[&value], value.shape));
    quantize::codes(quantizer, &value)
}

/// Runs a network on an image.
///
/// # Errors
/// Those of [`Model::check`], and [`Error::Image`] for an image that does not fit.
pub fn run(model: &Model, image: &Image<'_>) -> Result<Trace, Error> {
    model.check()?;
    image.check(&model.input)?;
    let shapes = model.shapes(image.size())?;
    let mut values: Vec<Value> = Vec::with_capacity(shapes.len());
    let mut codes = Vec::with_capacity(shapes.len());
    for (node, shape) in model.nodes.iter().zip(shapes) {
        let inputs: Vec<&Value> = node.inputs.iter().map(|input| &values[*input]).collect();
        let quantizer = match &node.op {
            Op::Conv(conv) => conv.quantizer.as_ref(),
            Op::Quantize(quantizer) => Some(&**quantizer),
            _ => None,
        };
        codes.push(quantizer.map(|quantizer| quantize::codes(quantizer, inputs[0])));
        let value = match &node.op {
            Op::Input => {
                Value::from_fn(shape, |c, y, x| image.number(&model.input, c, y * shape[2] + x))
            }
            Op::Conv(conv) => conv::value(conv, inputs[0], shape),
            op => layers::value(op, &inputs, shape),
        };
        values.push(value);
    }
    Ok(Trace { values, codes })
}
