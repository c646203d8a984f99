//! What every model must satisfy, so that nothing that runs it later can fail.

mod conv;
mod problem;
mod shapes;
mod values;

use alloc::format;

use super::{Model, Node, Op};
use crate::Error;
use problem::{Problem, ensure, layer_name};
use values::check_extent;

pub use shapes::MAX_ELEMENTS;

/// The largest number of layers.
const MAX_NODES: usize = 1 << 14;

impl Model {
    /// Checks everything that a model must satisfy: lengths, indices, ranges, finite numbers, and
    /// sizes for the input size. A model that passes runs without panics; in particular, no sum of
    /// a convolution's integers exceeds 32 bits for any image.
    ///
    /// # Errors
    /// [`Error::Model`] with the layer and what is wrong with it.
    pub fn check(&self) -> Result<(), Error> {
        let nodes = self.nodes.len();
        ensure(nodes <= MAX_NODES, || {
            format!("has {nodes} layers, and at most {MAX_NODES} are allowed")
        })
        .map_err(|problem| Error::model("the network", problem))?;
        check_input(self).map_err(|problem| Error::model("the input", problem))?;
        for (index, node) in self.nodes.iter().enumerate() {
            check_node(index, node)
                .map_err(|problem| Error::model(layer_name(index, node), problem))?;
        }
        let shapes = self.shapes(self.input.size)?;
        let [classes, height, width] = shapes.last().copied().unwrap_or_default();
        let result = ensure([height, width] == [1, 1], || {
            format!("ends with {height} x {width} positions, and not with one score per class")
        });
        let names = self.classes.len();
        let result = result.and(ensure(names == 0 || names == classes, || {
            format!("has {names} names of classes and {classes} scores")
        }));
        result.map_err(|problem| Error::model("the network", problem))
    }
}

fn check_input(model: &Model) -> Result<(), Problem> {
    let input = &model.input;
    let channels = input.scale.len();
    ensure(channels > 0, || "has no channels".into())?;
    ensure(input.shift.len() == channels, || {
        format!("has {channels} scales and {} shifts", input.shift.len())
    })?;
    values::check_finite("scale", &input.scale)?;
    values::check_finite("shift", &input.shift)?;
    for side in input.size.into_iter().chain(input.shorter_side) {
        check_extent("size", side, 1)?;
    }
    ensure(matches!(model.nodes.first(), Some(Node { op: Op::Input, .. })), || {
        "is missing: the first layer must be the input".into()
    })
}

/// Checks what does not depend on the sizes of images.
fn check_node(index: usize, node: &Node) -> Result<(), Problem> {
    let inputs = node.inputs.len();
    match node.op {
        Op::Input => ensure(index == 0 && inputs == 0, || {
            "is an input, which only the first layer may be, without inputs of its own".into()
        }),
        Op::Concatenate | Op::Add => ensure(inputs > 0, || "has no inputs".into()),
        _ => ensure(inputs == 1, || format!("has {inputs} inputs, and must have one")),
    }?;
    if let Some(input) = node.inputs.iter().find(|input| **input >= index) {
        return Err(format!("reads layer {input}, which is not before it"));
    }
    match &node.op {
        Op::Conv(conv) => conv::check(conv),
        Op::Quantize(quantizer) => values::check_quantizer(quantizer),
        Op::Affine { scale, shift } => {
            values::check_finite("scale", scale)?;
            values::check_finite("shift", shift)
        }
        Op::AddScalar(number) | Op::MulScalar(number) => values::check_finite("number", &[*number]),
        Op::LeakyRelu(slope) => values::check_finite("slope", &[*slope]),
        Op::RPRelu { before, slope, after } => {
            values::check_finite("number", before)?;
            values::check_finite("slope", slope)?;
            values::check_finite("number", after)
        }
        Op::GroupNorm(groups) => {
            ensure(*groups > 0, || "normalises 0 groups, and must have at least 1".into())
        }
        Op::AveragePool(side) => check_extent("side", *side, 1),
        Op::MaxPool(pool) => {
            check_extent("side", pool.kernel, 1)?;
            check_extent("stride", pool.stride, 1)?;
            ensure(pool.padding <= pool.kernel / 2, || {
                format!("has the padding {}, more than half of {}", pool.padding, pool.kernel)
            })
        }
        Op::SpaceToDepth(side) | Op::DepthToSpace(side) => check_extent("side", *side, 1),
        Op::Pad(padding) => check_extent("padding", *padding, 0),
        Op::Repeat(times) => check_extent("factor", *times, 1),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
