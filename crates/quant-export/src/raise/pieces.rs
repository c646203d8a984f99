//! Models and networks in a common form, so that their structures can be compared.

use std::collections::HashMap;

use quant_infer::model::{Conv, Model, Op};
use quant_nn::{
    Network,
    graph::Op as Graph,
    layers::{
        activation::{Activation, ActivationKind},
        conv::QuantConv2d,
        norm::Normalization,
    },
    network::Submodule,
};

/// What a piece computes, without its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Image,
    Conv(Geometry),
    Norm,
    GroupNorm(usize),
    Relu,
    Relu6,
    /// With the slope 0.01.
    LeakyRelu,
    PRelu,
    RPRelu,
    AveragePool(usize),
    /// Kernel, stride and padding, and whether sizes are rounded up.
    MaxPool([usize; 3], bool),
    GlobalPool,
    SpaceToDepth(usize),
    DepthToSpace(usize),
    Pad(usize),
    Repeat(usize),
    Concatenate,
    Add,
    AddNumber,
    MulNumber,
    Flatten,
    /// A quantizer whose values are read by something else than convolutions.
    Quantize,
}

/// The shape of a convolution, or of a linear layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    pub(super) channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

impl Geometry {
    fn of(conv: &Conv) -> Self {
        Self {
            channels: [conv.in_channels, conv.out_channels],
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            groups: conv.groups,
        }
    }

    fn of_layer(conv: &QuantConv2d) -> Self {
        let shape = conv.weight.lazy_shape();
        Self {
            channels: [shape[1] * conv.groups, shape[0]],
            kernel: [shape[2], shape[3]],
            stride: [conv.stride; 2],
            padding: [conv.padding; 2],
            dilation: [conv.dilation; 2],
            groups: conv.groups,
        }
    }

    fn linear(inputs: usize, outputs: usize) -> Self {
        Self {
            channels: [inputs, outputs],
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

impl Kind {
    /// Describes the piece for people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Conv(Geometry { channels: [inputs, outputs], kernel, stride, .. })
                if *kernel == [1, 1] && *stride == [1, 1] =>
            {
                format!("a 1x1 convolution or linear layer of {inputs} to {outputs} channels")
            }
            Self::Conv(Geometry {
                channels: [inputs, outputs],
                kernel,
                stride,
                padding,
                groups,
                ..
            }) => {
                let groups =
                    if *groups == 1 { String::new() } else { format!(" in {groups} groups") };
                format!(
                    "a {}x{} convolution of {inputs} to {outputs} channels{groups} with the \
                     stride {} and the padding {}",
                    kernel[0], kernel[1], stride[0], padding[0]
                )
            }
            Self::Image => "the image".into(),
            Self::Norm => "a norm, or numbers by which channels are multiplied or shifted".into(),
            Self::GroupNorm(groups) => format!("a norm of {groups} groups of each image"),
            Self::Relu => "a ReLU".into(),
            Self::Relu6 => "a ReLU6".into(),
            Self::LeakyRelu | Self::PRelu => "a ReLU with a slope".into(),
            Self::RPRelu => "a ReLU with a slope and shifts for each channel".into(),
            Self::AveragePool(side) => format!("an average over squares of {side}x{side}"),
            Self::MaxPool([kernel, stride, _], _) => {
                format!("a maximum over squares of {kernel}x{kernel} with the stride {stride}")
            }
            Self::GlobalPool => "the mean over all positions".into(),
            Self::SpaceToDepth(_) | Self::DepthToSpace(_) => {
                "a move between positions and channels".into()
            }
            Self::Pad(_) => "zeros around the image".into(),
            Self::Repeat(_) => "a repetition of the channels".into(),
            Self::Concatenate => "channels side by side".into(),
            Self::Add => "a sum".into(),
            Self::AddNumber => "a number that is added".into(),
            Self::MulNumber => "a factor".into(),
            Self::Flatten => "channels and positions in one row".into(),
            Self::Quantize => "a quantizer that no convolution reads".into(),
        }
    }
}

/// A piece, with the pieces that it reads, and where its numbers come from.
#[derive(Debug, Clone)]
pub(super) struct Piece<Source> {
    pub(super) kind: Kind,
    pub(super) inputs: Vec<usize>,
    pub(super) source: Source,
}

/// Where the numbers of a piece are in a model.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// The nodes; of a convolution that is a sum of convolutions of planes, all of them.
    pub(super) nodes: Vec<usize>,
    /// The quantizer of a convolution's output.
    pub(super) output: Option<usize>,
    /// Of a norm that only adds a convolution's bias, that convolution.
    pub(super) bias_of: Option<usize>,
    /// Of a linear layer, the node that adds its bias.
    pub(super) bias: Option<usize>,
}

/// The pieces of a model in execution order. The last one gives the scores.
#[derive(Debug)]
pub(super) struct ModelPieces {
    pub(super) pieces: Vec<Piece<Parts>>,
    /// The quantizers that were left out.
    pub(super) left_out: Vec<String>,
}

/// Takes a model apart. With `leave_out`, quantizers that no convolution reads are left out.
pub(super) fn of_model(model: &Model, leave_out: bool) -> Result<ModelPieces, quant_infer::Error> {
    let shapes = model.shapes(model.input.size)?;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); model.nodes.len()];
    for (at, node) in model.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| readers[*input].push(at));
    }
    let mut pieces: Vec<Piece<Parts>> = Vec::new();
    let mut place: Vec<usize> = Vec::with_capacity(model.nodes.len());
    let mut left_out = Vec::new();
    for (at, node) in model.nodes.iter().enumerate() {
        let inputs: Vec<usize> = node.inputs.iter().map(|input| place[*input]).collect();
        let first = inputs.first().copied().unwrap_or(0);
        let kind = match &node.op {
            Op::Flatten if shapes[node.inputs[0]][1..] == [1, 1] => {
                place.push(first);
                continue;
            }
            Op::Quantize(_) => match &mut pieces[first] {
                Piece { kind: Kind::Conv(_), source, .. }
                    if source.output.is_none() && readers[node.inputs[0]].len() == 1 =>
                {
                    source.output = Some(at);
                    place.push(first);
                    continue;
                }
                _ if leave_out => {
                    left_out.push(node.name.clone());
                    place.push(first);
                    continue;
                }
                _ => Kind::Quantize,
            },
            Op::Add => {
                if let Some((planes, geometry)) = planes(model, &readers, at) {
                    let source = model.nodes[planes[0]].inputs[0];
                    let parts = Parts { nodes: planes, ..Parts::default() };
                    let kind = Kind::Conv(geometry);
                    pieces.push(Piece { kind, inputs: vec![place[source]], source: parts });
                    place.push(pieces.len() - 1);
                    continue;
                }
                Kind::Add
            }
            Op::Concatenate if inputs.iter().all(|input| *input == first) => {
                Kind::Repeat(inputs.len())
            }
            // The bias of a linear layer that is a sum of planes.
            Op::Affine { scale, .. }
                if at + 1 == model.nodes.len()
                    && scale.iter().all(|scale| *scale == 1.0)
                    && shapes[at][1..] == [1, 1]
                    && matches!(pieces[first].kind, Kind::Conv(_))
                    && pieces[first].source.nodes.len() > 1 =>
            {
                pieces[first].source.bias = Some(at);
                place.push(first);
                continue;
            }
            op => kind(op),
        };
        let is_conv = matches!(kind, Kind::Conv(_));
        let parts = Parts { nodes: vec![at], ..Parts::default() };
        let inputs = if matches!(kind, Kind::Repeat(_)) { vec![first] } else { inputs };
        pieces.push(Piece { kind, inputs, source: parts });
        let mut last = pieces.len() - 1;
        if let (true, Op::Conv(conv)) = (is_conv, &node.op)
            && conv.bias.is_some()
        {
            if shapes[at][1..] == [1, 1] && readers[at].is_empty() {
                // The last layer is linear and has a bias.
                pieces[last].source.bias = Some(at);
            } else {
                let parts = Parts { bias_of: Some(at), ..Parts::default() };
                pieces.push(Piece { kind: Kind::Norm, inputs: vec![last], source: parts });
                last += 1;
            }
        }
        place.push(last);
    }
    let last = place.last().copied().unwrap_or(0);
    pieces.truncate(last + 1);
    Ok(ModelPieces { pieces: used(pieces), left_out })
}

/// Leaves out the pieces that the last one does not depend on.
fn used<Source>(pieces: Vec<Piece<Source>>) -> Vec<Piece<Source>> {
    let mut read = vec![false; pieces.len()];
    read.iter_mut().last().into_iter().for_each(|last| *last = true);
    for at in (0..pieces.len()).rev() {
        if read[at] {
            pieces[at].inputs.iter().for_each(|input| read[*input] = true);
        }
    }
    let mut place = vec![0; pieces.len()];
    let mut kept: Vec<Piece<Source>> = Vec::new();
    for (at, mut piece) in pieces.into_iter().enumerate() {
        if read[at] {
            place[at] = kept.len();
            piece.inputs.iter_mut().for_each(|input| *input = place[*input]);
            kept.push(piece);
        }
    }
    kept
}

fn kind(op: &Op) -> Kind {
    match op {
        Op::Input => Kind::Image,
        Op::Conv(conv) => Kind::Conv(Geometry::of(conv)),
        Op::Quantize(_) => Kind::Quantize,
        Op::Affine { .. } => Kind::Norm,
        Op::AddScalar(_) => Kind::AddNumber,
        Op::MulScalar(_) => Kind::MulNumber,
        Op::Relu => Kind::Relu,
        Op::Relu6 => Kind::Relu6,
        Op::LeakyRelu(0.01) => Kind::LeakyRelu,
        Op::LeakyRelu(_) => Kind::PRelu,
        Op::RPRelu { .. } => Kind::RPRelu,
        Op::GroupNorm(groups) => Kind::GroupNorm(*groups),
        Op::AveragePool(side) => Kind::AveragePool(*side),
        Op::MaxPool(pool) => Kind::MaxPool([pool.kernel, pool.stride, pool.padding], pool.ceil),
        Op::GlobalPool => Kind::GlobalPool,
        Op::SpaceToDepth(side) => Kind::SpaceToDepth(*side),
        Op::DepthToSpace(side) => Kind::DepthToSpace(*side),
        Op::Pad(width) => Kind::Pad(*width),
        Op::Repeat(times) => Kind::Repeat(*times),
        Op::Concatenate => Kind::Concatenate,
        Op::Add => Kind::Add,
        Op::Flatten => Kind::Flatten,
    }
}

/// Returns the convolutions whose sum a node is, if they are planes of one convolution: they have
/// the same shape, read the same codes of the same value, and only this sum reads them.
fn planes(model: &Model, readers: &[Vec<usize>], sum: usize) -> Option<(Vec<usize>, Geometry)> {
    // A sum that another sum of planes reads is a part of that.
    let mut planes = Vec::new();
    let mut waiting = vec![sum];
    while let Some(at) = waiting.pop() {
        let node = &model.nodes[at];
        match &node.op {
            Op::Add if at == sum || readers[at].len() == 1 => {
                waiting.extend(node.inputs.iter().rev());
            }
            Op::Conv(conv) if readers[at].len() == 1 && conv.bias.is_none() => planes.push(at),
            _ => return None,
        }
    }
    let conv = |at: &usize| match &model.nodes[*at].op {
        Op::Conv(conv) => conv.integer_terms().map(|_| conv),
        _ => None,
    };
    let first = conv(planes.first()?)?;
    let same = |at: &usize| {
        let Some(other) = conv(at) else { return false };
        let thresholds = |conv: &Conv| conv.quantizer.as_ref().map(|q| q.thresholds.clone());
        Geometry::of(other) == Geometry::of(first)
            && other.pads_codes == first.pads_codes
            && thresholds(other) == thresholds(first)
            && model.nodes[*at].inputs == model.nodes[planes[0]].inputs
    };
    let geometry = Geometry::of(first);
    (planes.len() > 1 && planes.iter().all(same)).then_some((planes, geometry))
}

/// Where the numbers of a piece of a network belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it has none.
    None,
    /// To this submodule.
    Submodule(usize),
}

/// Takes a network apart. The last piece gives the scores.
pub(super) fn of_network(network: &Network) -> Vec<Piece<Place>> {
    let mut pieces: Vec<Piece<Place>> = Vec::new();
    let mut place: Vec<usize> = Vec::new();
    for node in &network.graph().nodes {
        let mut inputs: Vec<usize> = node.inputs.iter().map(|input| place[*input]).collect();
        let mut push = |kind: Kind, inputs: Vec<usize>, source: Place| {
            pieces.push(Piece { kind, inputs, source });
            pieces.len() - 1
        };
        if inputs.len() > 1 && !matches!(node.op, Graph::Concatenate | Graph::Add) {
            inputs = vec![push(Kind::Add, inputs, Place::None)];
        }
        let last = match &node.op {
            Graph::Submodule(index) | Graph::AddScalar(index) | Graph::MulScalar(index) => {
                let own = Place::Submodule(*index);
                match (&network.pieces[*index], &node.op) {
                    (Submodule::Conv(conv), _) => {
                        push(Kind::Conv(Geometry::of_layer(conv)), inputs, own)
                    }
                    (Submodule::Linear(linear), _) => {
                        let shape = linear.weight.lazy_shape();
                        let from =
                            node.inputs.first().map_or(1, |at| network.graph().nodes[*at].size);
                        if from > 1 {
                            inputs = vec![push(Kind::Flatten, inputs, Place::None)];
                        }
                        push(Kind::Conv(Geometry::linear(shape[1], shape[0])), inputs, own)
                    }
                    (Submodule::Norm(Normalization::Group(norm)), _) => {
                        let groups = push(Kind::GroupNorm(norm.groups()), inputs, Place::None);
                        push(Kind::Norm, vec![groups], own)
                    }
                    (Submodule::Norm(_), _) => push(Kind::Norm, inputs, own),
                    (Submodule::Activation(Activation::PReLU(_)), _) => {
                        push(Kind::PRelu, inputs, own)
                    }
                    (Submodule::Activation(Activation::RPReLU(_)), _) => {
                        push(Kind::RPRelu, inputs, own)
                    }
                    (Submodule::Scalar(_), Graph::AddScalar(_)) => {
                        push(Kind::AddNumber, inputs, own)
                    }
                    (Submodule::Scalar(_), _) => push(Kind::MulNumber, inputs, own),
                }
            }
            Graph::Activation(kind) => match kind {
                ActivationKind::ReLU => push(Kind::Relu, inputs, Place::None),
                ActivationKind::ReLU6 => push(Kind::Relu6, inputs, Place::None),
                ActivationKind::LReLU => push(Kind::LeakyRelu, inputs, Place::None),
                _ => inputs.first().copied().unwrap_or(0),
            },
            Graph::Input => push(Kind::Image, inputs, Place::None),
            Graph::InstanceNorm => push(Kind::GroupNorm(node.channels), inputs, Place::None),
            Graph::AveragePool(side) => push(Kind::AveragePool(*side), inputs, Place::None),
            Graph::MaxPool { kernel_size, stride, padding, ceil_mode } => {
                let sides = [*kernel_size, *stride, *padding];
                push(Kind::MaxPool(sides, *ceil_mode), inputs, Place::None)
            }
            Graph::GlobalPool => push(Kind::GlobalPool, inputs, Place::None),
            Graph::SpaceToDepth(side) => push(Kind::SpaceToDepth(*side), inputs, Place::None),
            Graph::DepthToSpace(side) => push(Kind::DepthToSpace(*side), inputs, Place::None),
            Graph::Pad(width) => push(Kind::Pad(*width), inputs, Place::None),
            Graph::Repeat(times) => push(Kind::Repeat(*times), inputs, Place::None),
            Graph::Concatenate => push(Kind::Concatenate, inputs, Place::None),
            Graph::Add => push(Kind::Add, inputs, Place::None),
        };
        place.push(last);
    }
    let last = place.last().copied().unwrap_or(0);
    pieces.truncate(last + 1);
    used(pieces)
}

/// Numbers for pieces, which are equal if everything up to the piece has the same structure.
#[derive(Debug, Default)]
pub(super) struct Numbering(HashMap<(Kind, Vec<u32>), u32>);

impl Numbering {
    /// Returns the numbers of pieces in execution order.
    pub(super) fn of<Source>(&mut self, pieces: &[Piece<Source>]) -> Vec<u32> {
        let mut numbers: Vec<u32> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let mut inputs: Vec<u32> = piece.inputs.iter().map(|input| numbers[*input]).collect();
            // The sum of two does not depend on their order.
            if piece.kind == Kind::Add && inputs.len() == 2 {
                inputs.sort_unstable();
            }
            let next = self.0.len() as u32;
            numbers.push(*self.0.entry((piece.kind.clone(), inputs)).or_insert(next));
        }
        numbers
    }
}

/// Pairs each piece of a network with that of a model of the same structure.
pub(super) fn pairs<A, B>(
    (ours, our_numbers): (&[Piece<A>], &[u32]),
    (theirs, their_numbers): (&[Piece<B>], &[u32]),
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut paired = vec![false; ours.len()];
    let mut waiting = vec![(ours.len() - 1, theirs.len() - 1)];
    while let Some((our, their)) = waiting.pop() {
        if std::mem::replace(&mut paired[our], true) {
            continue;
        }
        pairs.push((our, their));
        let mut rest = theirs[their].inputs.clone();
        for input in &ours[our].inputs {
            let same = |other: &usize| their_numbers[*other] == our_numbers[*input];
            if let Some(at) = rest.iter().position(same) {
                waiting.push((*input, rest.remove(at)));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}
