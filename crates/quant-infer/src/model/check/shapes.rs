//! The sizes of all values.

use alloc::{format, vec, vec::Vec};

use super::{
    super::{Conv, Model, Op, Pool},
    problem::{Problem, ensure, layer_name},
    values,
};
use crate::Error;

/// The largest number of elements of all values that are needed at the same time.
pub const MAX_ELEMENTS: usize = 1 << 28;

type Shape = [usize; 3];

impl Model {
    /// Returns the sizes `[channels, height, width]` of all values, for images of this height and
    /// width. The channels are those for [`Input::size`](super::super::Input::size).
    ///
    /// # Errors
    /// [`Error::Image`] if a layer has no result for this size, or if more than [`MAX_ELEMENTS`]
    /// numbers would be needed at the same time; [`Error::Model`] if the size is the model's own.
    pub fn shapes(&self, size: [usize; 2]) -> Result<Vec<[usize; 3]>, Error> {
        let shapes = self.shapes_for(size)?;
        if size != self.input.size {
            let own = self.shapes_for(self.input.size)?;
            for (index, (shape, own)) in shapes.iter().zip(&own).enumerate() {
                if shape[0] != own[0] {
                    let [height, width] = self.input.size;
                    let name = layer_name(index, &self.nodes[index]);
                    return Err(Error::Image(format!(
                        "has {} x {} pixels, for which {name} has {} channels and not {}; images \
                         of {height} x {width} pixels fit",
                        size[0], size[1], shape[0], own[0]
                    )));
                }
            }
        }
        Ok(shapes)
    }

    fn shapes_for(&self, size: [usize; 2]) -> Result<Vec<Shape>, Error> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        let mut live = Live::new(self);
        for (index, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<Shape> = node.inputs.iter().map(|input| shapes[*input]).collect();
            let shape = (if index == 0 {
                Ok([self.input.scale.len(), size[0], size[1]])
            } else {
                shape_of(&node.op, &inputs)
            })
            .and_then(|shape| live.add(index, shape, &shapes).map(|()| shape));
            match shape {
                Ok(shape) => shapes.push(shape),
                Err(problem) => {
                    let name = layer_name(index, node);
                    return Err(if size == self.input.size {
                        Error::model(name, problem)
                    } else {
                        Error::Image(format!(
                            "has {} x {} pixels, which {name} cannot take: it {problem}",
                            size[0], size[1]
                        ))
                    });
                }
            }
        }
        Ok(shapes)
    }
}

/// Counts the elements of the values that later layers read.
struct Live {
    /// The nodes whose last reader is the node of the index.
    last_of: Vec<Vec<usize>>,
    elements: usize,
}

impl Live {
    fn new(model: &Model) -> Self {
        let mut last: Vec<usize> = (0..model.nodes.len()).collect();
        for (index, node) in model.nodes.iter().enumerate() {
            for input in &node.inputs {
                last[*input] = index;
            }
        }
        let mut last_of = vec![Vec::new(); last.len()];
        for (index, last) in last.into_iter().enumerate() {
            last_of[last].push(index);
        }
        Self { last_of, elements: 0 }
    }

    fn add(&mut self, index: usize, shape: Shape, shapes: &[Shape]) -> Result<(), Problem> {
        self.elements = values::product(&shape)?.saturating_add(self.elements);
        ensure(self.elements <= MAX_ELEMENTS, || {
            format!("needs more than {MAX_ELEMENTS} numbers at the same time")
        })?;
        for dead in &self.last_of[index] {
            let [channels, height, width] = if *dead == index { shape } else { shapes[*dead] };
            self.elements -= channels * height * width;
        }
        Ok(())
    }
}

/// Returns the size of the result of a layer whose numbers have been checked.
fn shape_of(op: &Op, inputs: &[Shape]) -> Result<Shape, Problem> {
    let shape @ [channels, height, width] = inputs[0];
    match op {
        Op::Input => Err("is a second input".into()),
        Op::Conv(conv) => conv_shape(conv, shape),
        Op::Quantize(quantizer) => {
            let groups = quantizer.groups;
            ensure(channels % groups == 0, || {
                format!("has a quantizer of {groups} groups for {channels} channels")
            })?;
            Ok(shape)
        }
        Op::Affine { scale, shift } => {
            values::check_length("scales", scale.len(), channels)?;
            values::check_length("shifts", shift.len(), channels)?;
            Ok(shape)
        }
        Op::RPRelu { before, slope, after } => {
            for numbers in [before, slope, after] {
                values::check_length("numbers of channels", numbers.len(), channels)?;
            }
            Ok(shape)
        }
        Op::AddScalar(_) | Op::MulScalar(_) | Op::Relu | Op::Relu6 | Op::LeakyRelu(_) => Ok(shape),
        Op::GroupNorm(groups) => {
            ensure(channels % groups == 0, || {
                format!("normalises {groups} groups, which do not divide {channels} channels")
            })?;
            Ok(shape)
        }
        Op::AveragePool(side) => positions(channels, [height / side, width / side]),
        Op::MaxPool(pool) => {
            positions(channels, [pool_positions(pool, height), pool_positions(pool, width)])
        }
        Op::GlobalPool => Ok([channels, 1, 1]),
        Op::SpaceToDepth(side) => {
            ensure(height % side == 0 && width % side == 0, || {
                format!("has {height} x {width} positions, which {side} does not divide")
            })?;
            let channels = values::product(&[channels, *side, *side])?;
            Ok([channels, height / side, width / side])
        }
        Op::DepthToSpace(side) => {
            let square = side * side;
            ensure(channels % square == 0, || {
                format!("has {channels} channels, which {square} does not divide")
            })?;
            Ok([channels / square, height * side, width * side])
        }
        Op::Pad(padding) => Ok([channels, height + 2 * padding, width + 2 * padding]),
        Op::Repeat(times) => Ok([values::product(&[channels, *times])?, height, width]),
        Op::Concatenate | Op::Add => joined_shape(op, inputs),
        Op::Flatten => Ok([values::product(&shape)?, 1, 1]),
    }
}

fn joined_shape(op: &Op, inputs: &[Shape]) -> Result<Shape, Problem> {
    let [mut channels, height, width] = inputs[0];
    for [more, other_height, other_width] in &inputs[1..] {
        ensure([*other_height, *other_width] == [height, width], || {
            format!("joins {height} x {width} and {other_height} x {other_width} positions")
        })?;
        if matches!(op, Op::Add) {
            ensure(*more == channels, || format!("adds {channels} and {more} channels"))?;
        } else {
            channels = channels.saturating_add(*more);
        }
    }
    Ok([channels, height, width])
}

fn positions(channels: usize, [height, width]: [usize; 2]) -> Result<Shape, Problem> {
    ensure(height > 0 && width > 0, || "has no position, since its input is too small".into())?;
    Ok([channels, height, width])
}

/// Returns the number of positions along one axis.
fn pool_positions(pool: &Pool, size: usize) -> usize {
    let padded = size + 2 * pool.padding;
    if !pool.ceil {
        return padded.checked_sub(pool.kernel).map_or(0, |room| room / pool.stride + 1);
    }
    let room = (padded + pool.stride - 1).checked_sub(pool.kernel);
    let Some(positions) = room.map(|room| room / pool.stride + 1) else { return 0 };
    // A square that begins beyond the image and the padding before it is left out.
    if (positions - 1) * pool.stride >= size + pool.padding { positions - 1 } else { positions }
}

fn conv_shape(conv: &Conv, [channels, height, width]: Shape) -> Result<Shape, Problem> {
    ensure(channels == conv.in_channels, || {
        format!("takes {} channels, and its input has {channels}", conv.in_channels)
    })?;
    let padded = [height + 2 * conv.padding[0], width + 2 * conv.padding[1]];
    let terms = conv.quantizer.as_ref().and_then(|quantizer| quantizer.terms.as_ref());
    let terms = terms.map_or(1, |terms| terms.0.len());
    let channels = channels.next_multiple_of(2);
    let elements = values::product(&[padded[0], padded[1], channels, terms])?;
    ensure(elements <= MAX_ELEMENTS, || {
        format!("needs more than {MAX_ELEMENTS} numbers for its padded input")
    })?;
    let along = |axis: usize| {
        let reach = (conv.kernel[axis] - 1) * conv.dilation[axis] + 1;
        padded[axis].checked_sub(reach).map_or(0, |room| room / conv.stride[axis] + 1)
    };
    positions(conv.out_channels, [along(0), along(1)])
}
