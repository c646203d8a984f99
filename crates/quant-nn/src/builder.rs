//! Puts a network together, piece by piece: what the structures' files are written in.

use burn::{
    module::Param,
    nn::Initializer,
    tensor::{Device, Tensor},
};

use crate::{
    error::NetworkError,
    graph::{Graph, Node, Op},
    layers::{
        LayerQuantizers,
        activation::{Activation, ActivationKind},
        conv::QuantConv2dConfig,
        linear::QuantLinearConfig,
        norm::{Norm, NormKind},
    },
    network::{MOST_WEIGHTS, Piece, Scalar},
    resnet::{PointReshape, Quantization},
};

/// A value of the network that is being built.
pub(crate) type Value = usize;

/// A convolution: side of the kernel, stride, padding, and the like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) groups: usize,
    pub(crate) quantized: bool,
}

impl Conv {
    /// Quantized, padded so that stride 1 keeps the size.
    pub(crate) fn new(outputs: usize, kernel: usize, stride: usize) -> Self {
        Self { outputs, kernel, stride, padding: kernel / 2, groups: 1, quantized: true }
    }

    pub(crate) fn real(self) -> Self {
        Self { quantized: false, ..self }
    }
}

/// The parts of a network so far.
pub(crate) struct Builder<'a> {
    device: &'a Device,
    quantization: &'a Quantization,
    norm: NormKind,
    activation: ActivationKind,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) names: Vec<String>,
    pub(crate) graph: Graph,
    block: String,
    /// Elements of all weights so far.
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
            pieces: Vec::new(),
            names: Vec::new(),
            graph: Graph::default(),
            block: String::new(),
            weights: 0,
        };
        builder.push(Op::Input, vec![], 3, input_size);
        builder
    }

    /// The images.
    pub(crate) fn input(&self) -> Value {
        0
    }

    /// What follows belongs to the block of this name.
    pub(crate) fn enter(&mut self, block: &str) {
        block.clone_into(&mut self.block);
    }

    pub(crate) fn channels(&self, x: Value) -> usize {
        self.graph.nodes[x].channels
    }

    pub(crate) fn size(&self, x: Value) -> usize {
        self.graph.nodes[x].size
    }

    fn push(&mut self, op: Op, inputs: Vec<Value>, channels: usize, size: usize) -> Value {
        self.graph.nodes.push(Node { op, inputs, channels, size, block: self.block.clone() });
        self.graph.nodes.len() - 1
    }

    fn piece(&mut self, name: &str, piece: Piece) -> usize {
        self.pieces.push(piece);
        self.names.push(name.to_owned());
        self.pieces.len() - 1
    }

    /// Adds a weight to those so far, before anything of its size is made.
    fn count(&mut self, name: &str, shape: [usize; 4]) -> Result<(), NetworkError> {
        let elements = shape.into_iter().fold(1, usize::saturating_mul);
        self.weights = self.weights.saturating_add(elements);
        match self.weights <= MOST_WEIGHTS {
            true => Ok(()),
            false => Err(NetworkError::Structure {
                at: name.to_owned(),
                reason: format!(
                    "with its {elements} weights the network has more than {MOST_WEIGHTS}: take \
                     fewer classes, a smaller width, fewer branches or smaller images"
                ),
            }),
        }
    }

    fn quantizers(&self, quantized: bool) -> LayerQuantizers {
        let quantization = self.quantization;
        match quantized {
            false => LayerQuantizers::default(),
            true => LayerQuantizers {
                activation: quantization.activation.clone().map(|mut config| {
                    config.qtool.images = quantization.batch_size.or(config.qtool.images);
                    config
                }),
                weight: quantization.weight.clone(),
                output: quantization.output.clone(),
            },
        }
    }

    pub(crate) fn conv(&mut self, x: Value, name: &str, conv: Conv) -> Result<Value, NetworkError> {
        let (inputs, size) = (self.channels(x), self.size(x));
        let padded = size + 2 * conv.padding;
        if padded < conv.kernel || size == 0 {
            return Err(NetworkError::Structure {
                at: name.to_owned(),
                reason: format!(
                    "its {size}x{size} input is smaller than its {0}x{0} kernel: take a larger \
                     input_size",
                    conv.kernel
                ),
            });
        }
        let wrong = |reason: String| NetworkError::Structure { at: name.to_owned(), reason };
        if inputs == 0 || conv.outputs == 0 {
            return Err(wrong("its channels come to 0: take a larger width".into()));
        }
        if !inputs.is_multiple_of(conv.groups) || !conv.outputs.is_multiple_of(conv.groups) {
            let (groups, outputs) = (conv.groups, conv.outputs);
            let reason = format!("{groups} groups do not divide {inputs} and {outputs} channels");
            return Err(wrong(reason));
        }
        self.count(name, [inputs / conv.groups, conv.outputs, conv.kernel, conv.kernel])?;
        let config = QuantConv2dConfig {
            padding: conv.padding,
            groups: conv.groups,
            padding_after_quant: self.quantization.padding_after_quant,
            quantizers: self.quantizers(conv.quantized),
            ..QuantConv2dConfig::new([inputs, conv.outputs], conv.kernel, conv.stride)
        };
        let layer = Piece::Conv(config.init(name, self.device)?);
        let piece = self.piece(name, layer);
        let size = (padded - conv.kernel) / conv.stride + 1;
        Ok(self.push(Op::Piece(piece), vec![x], conv.outputs, size))
    }

    /// In place of `conv`: space-to-depth of twice its stride, a 1x1 convolution to four times its channels, and
    /// depth-to-space of 2. Padded where the size does not divide.
    pub(crate) fn point_reshape(
        &mut self,
        x: Value,
        name: &str,
        conv: Conv,
        reshape: PointReshape,
    ) -> Result<Value, NetworkError> {
        let side = 2 * conv.stride;
        let rest = self.size(x) % side;
        let x = if rest == 0 { x } else { self.op(x, Op::Pad((side - rest) / 2)) };
        let squares = self.op(x, Op::SpaceToDepth(side));
        let point = Conv {
            groups: conv.groups,
            quantized: conv.quantized,
            ..Conv::new(4 * conv.outputs, 1, 1)
        };
        let mut y = self.conv(squares, &format!("{name}.conv"), point)?;
        if reshape.norm_before_restore {
            y = self.norm(y, &format!("{name}.bn"))?;
        }
        Ok(self.op(y, Op::DepthToSpace(2)))
    }

    /// Flattens, then a linear layer with a bias.
    pub(crate) fn linear(
        &mut self,
        x: Value,
        name: &str,
        outputs: usize,
        quantized: bool,
    ) -> Result<Value, NetworkError> {
        let inputs = self.channels(x) * self.size(x) * self.size(x);
        self.count(name, [inputs, outputs, 1, 1])?;
        let config = QuantLinearConfig {
            quantizers: self.quantizers(quantized),
            ..QuantLinearConfig::new([inputs, outputs])
        };
        let layer = Piece::Linear(config.init(name, self.device)?);
        let piece = self.piece(name, layer);
        Ok(self.push(Op::Piece(piece), vec![x], outputs, 1))
    }

    pub(crate) fn norm(&mut self, x: Value, name: &str) -> Result<Value, NetworkError> {
        self.norm_of(x, name, self.norm)
    }

    /// A batch norm, whatever the network's.
    pub(crate) fn batch_norm(&mut self, x: Value, name: &str) -> Result<Value, NetworkError> {
        self.norm_of(x, name, NormKind::Batch)
    }

    fn norm_of(&mut self, x: Value, name: &str, kind: NormKind) -> Result<Value, NetworkError> {
        let (channels, size) = (self.channels(x), self.size(x));
        if let NormKind::Group(groups) = kind
            && (groups == 0 || channels % groups != 0)
        {
            let reason = format!("{groups} groups do not divide its {channels} channels");
            return Err(NetworkError::Structure { at: name.to_owned(), reason });
        }
        let op = match Norm::new(kind, channels, self.device) {
            Some(norm) => Op::Piece(self.piece(name, Piece::Norm(norm))),
            None => Op::InstanceNorm,
        };
        Ok(self.push(op, vec![x], channels, size))
    }

    /// The norms made last, this many, start at scale 0.
    pub(crate) fn zero_last_norms(&mut self, count: usize) {
        let norms = self.pieces.iter_mut().rev().filter_map(|piece| match piece {
            Piece::Norm(norm) => Some(norm),
            _ => None,
        });
        for norm in norms.take(count) {
            let weight = norm.weight_mut();
            let old = weight.val();
            let zeros = old.zeros_like().set_require_grad(old.is_require_grad());
            *weight = Param::initialized(weight.id, zeros);
        }
    }

    /// The convolution or linear layer made last draws its weights from a normal distribution of this
    /// deviation, or is 0; a bias is 0.
    pub(crate) fn redraw_last(&mut self, deviation: f64) {
        let last = self.pieces.iter_mut().rev();
        let mut layers = last.filter(|piece| matches!(piece, Piece::Conv(_) | Piece::Linear(_)));
        let drawn = match deviation > 0.0 {
            true => Initializer::Normal { mean: 0.0, std: deviation },
            false => Initializer::Zeros,
        };
        match layers.next() {
            Some(Piece::Conv(conv)) => {
                conv.weight = drawn.init(conv.weight.lazy_shape(), self.device);
            }
            Some(Piece::Linear(linear)) => {
                linear.weight = drawn.init(linear.weight.lazy_shape(), self.device);
                linear.bias = linear
                    .bias
                    .take()
                    .map(|bias| Initializer::Zeros.init(bias.lazy_shape(), self.device));
            }
            _ => {}
        }
    }

    pub(crate) fn activation(&mut self, x: Value, name: &str) -> Value {
        self.activation_of(x, name, self.activation)
    }

    /// A ReLU, whatever the network's activation.
    pub(crate) fn relu(&mut self, x: Value) -> Value {
        self.activation_of(x, "", ActivationKind::ReLU)
    }

    fn activation_of(&mut self, x: Value, name: &str, kind: ActivationKind) -> Value {
        let (channels, size) = (self.channels(x), self.size(x));
        if kind == ActivationKind::NReLU {
            return x;
        }
        let op = match Activation::new(kind, channels, self.device) {
            Some(layer) => Op::Piece(self.piece(name, Piece::Activation(layer))),
            None => Op::Activation(kind),
        };
        self.push(op, vec![x], channels, size)
    }

    /// An operation without a state.
    pub(crate) fn op(&mut self, x: Value, op: Op) -> Value {
        let (channels, size) = op.output(self.channels(x), self.size(x));
        self.push(op, vec![x], channels, size)
    }

    pub(crate) fn average_pool(&mut self, x: Value, side: usize) -> Value {
        if side == 1 { x } else { self.op(x, Op::AveragePool(side)) }
    }

    pub(crate) fn scalar(
        &mut self,
        x: Value,
        name: &str,
        op: fn(usize) -> Op,
        initial: f64,
    ) -> Value {
        let value = Param::from_tensor(Tensor::full([1], initial, self.device));
        let piece = self.piece(name, Piece::Scalar(Scalar { value }));
        self.op(x, op(piece))
    }

    pub(crate) fn add(&mut self, terms: &[Value], at: &str) -> Result<Value, NetworkError> {
        let [first, rest @ ..] = terms else {
            return Err(NetworkError::Structure {
                at: at.to_owned(),
                reason: "nothing to add".into(),
            });
        };
        let shape = |value: Value| (self.channels(value), self.size(value));
        let (channels, size) = shape(*first);
        if let Some(other) = rest.iter().find(|other| shape(**other) != (channels, size)) {
            let (c, s) = shape(*other);
            let reason =
                format!("{channels} channels of {size}x{size} and {c} of {s}x{s} do not add");
            return Err(NetworkError::Structure { at: at.to_owned(), reason });
        }
        if rest.is_empty() {
            return Ok(*first);
        }
        Ok(self.push(Op::Add, terms.to_vec(), channels, size))
    }

    pub(crate) fn concatenate(&mut self, parts: &[Value]) -> Value {
        let channels = parts.iter().map(|part| self.channels(*part)).sum();
        let size = parts.first().map_or(0, |part| self.size(*part));
        self.push(Op::Concatenate, parts.to_vec(), channels, size)
    }
}
