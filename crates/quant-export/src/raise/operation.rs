//! The operations of models and networks in a common form, so that their
//! structures can be compared.

use quant_infer::model::Conv;
use quant_nn::layers::conv::QuantConv2d;

/// What an operation computes, without its numbers.
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
    pub(super) fn of(conv: &Conv) -> Self {
        Self {
            channels: [conv.in_channels, conv.out_channels],
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            groups: conv.groups,
        }
    }

    pub(super) fn of_layer(conv: &QuantConv2d) -> Self {
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

    pub(super) fn linear(inputs: usize, outputs: usize) -> Self {
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
    /// Describes the operation for people.
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

/// An operation, with the operations that it reads, and where its numbers come from.
#[derive(Debug, Clone)]
pub(super) struct Operation<Source> {
    pub(super) kind: Kind,
    pub(super) inputs: Vec<usize>,
    pub(super) source: Source,
}

/// Leaves out the operations that the last one does not depend on.
pub(super) fn used<Source>(operations: Vec<Operation<Source>>) -> Vec<Operation<Source>> {
    let mut read = vec![false; operations.len()];
    read.iter_mut().last().into_iter().for_each(|last| *last = true);
    for at in (0..operations.len()).rev() {
        if read[at] {
            operations[at].inputs.iter().for_each(|input| read[*input] = true);
        }
    }
    let mut index = vec![0; operations.len()];
    let mut kept: Vec<Operation<Source>> = Vec::new();
    for (at, mut operation) in operations.into_iter().enumerate() {
        if read[at] {
            index[at] = kept.len();
            operation.inputs.iter_mut().for_each(|input| *input = index[*input]);
            kept.push(operation);
        }
    }
    kept
}
