//! The builder of networks: each of its methods adds a node to the graph, and the module that
//! computes the node where there is one.

use burn::{
    module::Param,
    nn::Initializer,
    tensor::{Device, Tensor},
};
use quant_core::Range;

use crate::{
    config::{FirstLast, NetworkConfig, Quantization, resnet::PointReshape},
    error::NetworkError,
    graph::{Graph, Node, Op},
    layers::{
        LayerQuantizers,
        activation::{Activation, ActivationKind},
        conv::QuantConv2dConfig,
        linear::QuantLinearConfig,
        norm::{Norm, NormKind},
    },
    network::{Network, Scalar, Submodule},
};

/// The largest number of elements that all weights of a network may have together: 4 GiB at 32
/// bits.
const MOST_WEIGHTS: usize = 1 << 30;

/// The index of a node of the graph that is being built; it stands for the value of the node.
pub(crate) type NodeId = usize;

/// The description of a convolution. Sizes are those of both sides, in pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvSpec {
    pub(crate) outputs: usize,
    pub(crate) kernel_size: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) groups: usize,
    pub(crate) place: LayerPosition,
}

/// Where a layer stands, which decides on its quantizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerPosition {
    /// Between the first and the last layer.
    Inner,
    /// In front, where it reads the images.
    First,
    /// At the end, where it gives the class scores.
    Last,
    /// Where it stays in full precision.
    Real,
}

impl ConvSpec {
    /// Returns a quantized convolution, padded so that stride 1 keeps the size.
    pub(crate) fn new(outputs: usize, kernel_size: usize, stride: usize) -> Self {
        Self {
            outputs,
            kernel_size,
            stride,
            padding: kernel_size / 2,
            groups: 1,
            place: LayerPosition::Inner,
        }
    }

    /// Returns the same convolution at another place.
    pub(crate) fn at(self, place: LayerPosition) -> Self {
        Self { place, ..self }
    }

    /// Returns the same convolution, in full precision unless it is `quantized`.
    pub(crate) fn quantized(self, quantized: bool) -> Self {
        if quantized { self } else { self.at(LayerPosition::Real) }
    }
}

/// A network that is being built.
pub(crate) struct Builder<'a> {
    device: &'a Device,
    quantization: &'a Quantization,
    norm: NormKind,
    activation: ActivationKind,
    submodules: Vec<Submodule>,
    /// The PyTorch names of the submodules.
    names: Vec<String>,
    graph: Graph,
    /// The block that new nodes belong to.
    block: String,
    /// The number of elements of all weights so far.
    weights: usize,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        device: &'a Device,
        quantization: &'a Quantization,
        (norm, activation): (NormKind, ActivationKind),
        input_size: usize,
    ) -> Self {
        let mut builder = Self {
            device,
            quantization,
            norm,
            activation,
            submodules: Vec::new(),
            names: Vec::new(),
            graph: Graph::default(),
            block: String::new(),
            weights: 0,
        };
        builder.push(Op::Input, vec![], 3, input_size);
        builder
    }

    /// Returns the network of this configuration. The node that was added last holds the class
    /// scores.
    pub(crate) fn finish(self, config: NetworkConfig) -> Network {
        Network::new(self.submodules, self.names, self.graph, config)
    }

    /// Returns the node of the images.
    pub(crate) fn input(&self) -> NodeId {
        0
    }

    /// Begins a block: nodes that are added from now on belong to it.
    pub(crate) fn enter(&mut self, block: &str) {
        block.clone_into(&mut self.block);
    }

    pub(crate) fn channels(&self, x: NodeId) -> usize {
        self.graph.nodes[x].channels
    }

    pub(crate) fn size(&self, x: NodeId) -> usize {
        self.graph.nodes[x].size
    }

    fn push(&mut self, op: Op, inputs: Vec<NodeId>, channels: usize, size: usize) -> NodeId {
        self.graph.nodes.push(Node { op, inputs, channels, size, block: self.block.clone() });
        self.graph.nodes.len() - 1
    }

    fn submodule(&mut self, name: &str, submodule: Submodule) -> usize {
        self.submodules.push(submodule);
        self.names.push(name.to_owned());
        self.submodules.len() - 1
    }

    /// Adds the elements of a weight to the count of all weights. It is called before anything of
    /// the size of the weight is made.
    fn count(&mut self, name: &str, shape: [usize; 4]) -> Result<(), NetworkError> {
        let elements = shape.into_iter().fold(1, usize::saturating_mul);
        self.weights = self.weights.saturating_add(elements);
        if self.weights <= MOST_WEIGHTS {
            return Ok(());
        }
        let reason = format!(
            "with its {elements} weights the network has more than {MOST_WEIGHTS}: take fewer \
             classes, a smaller width, fewer branches or smaller images"
        );
        Err(NetworkError::Structure { at: name.to_owned(), reason })
    }

    /// The quantizers of a layer that stands at `place` and reads `x`.
    fn quantizers(&self, place: LayerPosition, x: NodeId) -> Result<LayerQuantizers, NetworkError> {
        let quantization = self.quantization;
        let mut quantizers = match (place, quantization.first_last) {
            (LayerPosition::Real, _)
            | (LayerPosition::First | LayerPosition::Last, FirstLast::FullPrecision) => {
                LayerQuantizers::default()
            }
            (LayerPosition::Inner, _) | (_, FirstLast::LikeOthers) => LayerQuantizers {
                activation: quantization.activation.clone(),
                weight: quantization.weight.clone(),
                output: quantization.output.clone(),
            },
            (LayerPosition::First, FirstLast::Own(own)) => {
                LayerQuantizers { weight: Some(own.weight()?), ..LayerQuantizers::default() }
            }
            (LayerPosition::Last, FirstLast::Own(own)) => {
                let range =
                    if self.graph.is_never_negative(x) { Range::Unsigned } else { Range::Signed };
                LayerQuantizers {
                    activation: Some(own.activation(range)?),
                    weight: Some(own.weight()?),
                    output: None,
                }
            }
        };
        if let Some(config) = &mut quantizers.activation {
            config.qtool.images = quantization.batch_size.or(config.qtool.images);
        }
        Ok(quantizers)
    }

    pub(crate) fn conv(
        &mut self,
        x: NodeId,
        name: &str,
        conv: ConvSpec,
    ) -> Result<NodeId, NetworkError> {
        let (inputs, size) = (self.channels(x), self.size(x));
        let padded = size + 2 * conv.padding;
        if padded < conv.kernel_size || size == 0 {
            return Err(NetworkError::Structure {
                at: name.to_owned(),
                reason: format!(
                    "its {size}x{size} input is smaller than its {0}x{0} kernel: take a larger \
                     input_size",
                    conv.kernel_size
                ),
            });
        }
        let wrong = |reason: String| NetworkError::Structure { at: name.to_owned(), reason };
        if inputs == 0 || conv.outputs == 0 {
            return Err(wrong("it would have 0 channels: take a larger width".into()));
        }
        if !inputs.is_multiple_of(conv.groups) || !conv.outputs.is_multiple_of(conv.groups) {
            let (groups, outputs) = (conv.groups, conv.outputs);
            let reason = format!("{groups} groups do not divide {inputs} and {outputs} channels");
            return Err(wrong(reason));
        }
        self.count(name, [inputs / conv.groups, conv.outputs, conv.kernel_size, conv.kernel_size])?;
        let config = QuantConv2dConfig {
            padding: conv.padding,
            groups: conv.groups,
            padding_after_quant: self.quantization.padding_after_quant,
            quantizers: self.quantizers(conv.place, x)?,
            ..QuantConv2dConfig::new([inputs, conv.outputs], conv.kernel_size, conv.stride)
        };
        let layer = Submodule::Conv(config.init(name, self.device)?);
        let index = self.submodule(name, layer);
        let size = (padded - conv.kernel_size) / conv.stride + 1;
        Ok(self.push(Op::Submodule(index), vec![x], conv.outputs, size))
    }

    /// Builds what replaces `conv`: space-to-depth of twice its stride, a 1x1 convolution to four
    /// times its channels, and depth-to-space of 2. The input is padded if its size is not a
    /// multiple of that stride.
    pub(crate) fn point_reshape(
        &mut self,
        x: NodeId,
        name: &str,
        conv: ConvSpec,
        reshape: PointReshape,
    ) -> Result<NodeId, NetworkError> {
        let side = 2 * conv.stride;
        let rest = self.size(x) % side;
        let x = if rest == 0 { x } else { self.op(x, Op::Pad((side - rest) / 2)) };
        let squares = self.op(x, Op::SpaceToDepth(side));
        let point = ConvSpec {
            groups: conv.groups,
            place: conv.place,
            ..ConvSpec::new(4 * conv.outputs, 1, 1)
        };
        let mut y = self.conv(squares, &format!("{name}.conv"), point)?;
        if reshape.norm_before_restore {
            y = self.norm(y, &format!("{name}.bn"))?;
        }
        Ok(self.op(y, Op::DepthToSpace(2)))
    }

    /// Flattens x and applies the last layer, a linear one with a bias.
    pub(crate) fn classifier(
        &mut self,
        x: NodeId,
        name: &str,
        outputs: usize,
    ) -> Result<NodeId, NetworkError> {
        let inputs = self.channels(x) * self.size(x) * self.size(x);
        self.count(name, [inputs, outputs, 1, 1])?;
        let config = QuantLinearConfig {
            quantizers: self.quantizers(LayerPosition::Last, x)?,
            ..QuantLinearConfig::new([inputs, outputs])
        };
        let layer = Submodule::Linear(config.init(name, self.device)?);
        let index = self.submodule(name, layer);
        Ok(self.push(Op::Submodule(index), vec![x], outputs, 1))
    }

    pub(crate) fn norm(&mut self, x: NodeId, name: &str) -> Result<NodeId, NetworkError> {
        self.norm_of(x, name, self.norm)
    }

    /// Applies a batch norm, whatever norm the network uses.
    pub(crate) fn batch_norm(&mut self, x: NodeId, name: &str) -> Result<NodeId, NetworkError> {
        self.norm_of(x, name, NormKind::Batch)
    }

    fn norm_of(&mut self, x: NodeId, name: &str, kind: NormKind) -> Result<NodeId, NetworkError> {
        let (channels, size) = (self.channels(x), self.size(x));
        if let NormKind::Group(groups) = kind
            && (groups == 0 || channels % groups != 0)
        {
            let reason = format!("{groups} groups do not divide its {channels} channels");
            return Err(NetworkError::Structure { at: name.to_owned(), reason });
        }
        let op = match Norm::new(kind, channels, self.device) {
            Some(norm) => Op::Submodule(self.submodule(name, Submodule::Norm(norm))),
            None => Op::InstanceNorm,
        };
        Ok(self.push(op, vec![x], channels, size))
    }

    /// Sets the scales of the last `count` norms to 0.
    pub(crate) fn zero_last_norms(&mut self, count: usize) {
        let norms = self.submodules.iter_mut().rev().filter_map(|submodule| match submodule {
            Submodule::Norm(norm) => Some(norm),
            _ => None,
        });
        for norm in norms.take(count) {
            let weight = norm.weight_mut();
            let old = weight.val();
            let zeros = old.zeros_like().set_require_grad(old.is_require_grad());
            *weight = weight.clone().map(|_| zeros);
        }
    }

    /// Draws the weights of the last convolution or linear layer again, from a normal distribution
    /// with this standard deviation; with a deviation of 0 they are 0. The bias becomes 0.
    pub(crate) fn redraw_last(&mut self, deviation: f64) {
        let last = self.submodules.iter_mut().rev();
        let mut layers =
            last.filter(|submodule| matches!(submodule, Submodule::Conv(_) | Submodule::Linear(_)));
        let drawn = if deviation > 0.0 {
            Initializer::Normal { mean: 0.0, std: deviation }
        } else {
            Initializer::Zeros
        };
        match layers.next() {
            Some(Submodule::Conv(conv)) => {
                conv.weight = drawn.init(conv.weight.lazy_shape(), self.device);
            }
            Some(Submodule::Linear(linear)) => {
                linear.weight = drawn.init(linear.weight.lazy_shape(), self.device);
                linear.bias = linear
                    .bias
                    .take()
                    .map(|bias| Initializer::Zeros.init(bias.lazy_shape(), self.device));
            }
            _ => {}
        }
    }

    pub(crate) fn activation(&mut self, x: NodeId, name: &str) -> NodeId {
        self.activation_of(x, name, self.activation)
    }

    /// Applies a ReLU, whatever activation function the network uses.
    pub(crate) fn relu(&mut self, x: NodeId) -> NodeId {
        self.activation_of(x, "", ActivationKind::ReLU)
    }

    fn activation_of(&mut self, x: NodeId, name: &str, kind: ActivationKind) -> NodeId {
        let (channels, size) = (self.channels(x), self.size(x));
        if kind == ActivationKind::NReLU {
            return x;
        }
        let op = match Activation::new(kind, channels, self.device) {
            Some(layer) => Op::Submodule(self.submodule(name, Submodule::Activation(layer))),
            None => Op::Activation(kind),
        };
        self.push(op, vec![x], channels, size)
    }

    /// Adds an operation without a state.
    pub(crate) fn op(&mut self, x: NodeId, op: Op) -> NodeId {
        let (channels, size) = op.output(self.channels(x), self.size(x));
        self.push(op, vec![x], channels, size)
    }

    pub(crate) fn average_pool(&mut self, x: NodeId, side: usize) -> NodeId {
        if side == 1 { x } else { self.op(x, Op::AveragePool(side)) }
    }

    pub(crate) fn scalar(
        &mut self,
        x: NodeId,
        name: &str,
        op: fn(usize) -> Op,
        initial: f64,
    ) -> NodeId {
        let value = Param::from_tensor(Tensor::full([1], initial, self.device));
        let index = self.submodule(name, Submodule::Scalar(Scalar { value }));
        self.op(x, op(index))
    }

    pub(crate) fn add(&mut self, terms: &[NodeId], at: &str) -> Result<NodeId, NetworkError> {
        let [first, rest @ ..] = terms else {
            return Err(NetworkError::Structure {
                at: at.to_owned(),
                reason: "there is nothing to add".into(),
            });
        };
        let shape = |value: NodeId| (self.channels(value), self.size(value));
        let (channels, size) = shape(*first);
        if let Some(other) = rest.iter().find(|other| shape(**other) != (channels, size)) {
            let (c, s) = shape(*other);
            let reason =
                format!("{channels} channels of {size}x{size} cannot be added to {c} of {s}x{s}");
            return Err(NetworkError::Structure { at: at.to_owned(), reason });
        }
        if rest.is_empty() {
            return Ok(*first);
        }
        Ok(self.push(Op::Add, terms.to_vec(), channels, size))
    }

    pub(crate) fn concatenate(&mut self, parts: &[NodeId]) -> NodeId {
        let channels = parts.iter().map(|part| self.channels(*part)).sum();
        let size = parts.first().map_or(0, |part| self.size(*part));
        self.push(Op::Concatenate, parts.to_vec(), channels, size)
    }
}
