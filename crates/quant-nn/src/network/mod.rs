//! [`Network`]: a network of any structure, which has submodules with PyTorch's names and a graph
//! that connects them.

mod draw;
mod layers;
mod statistics;

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::{
    config::NetworkConfig,
    graph::{FusedNorm, Graph, NodeModules, Op},
    layers::{activation::Activation, conv::QuantConv2d, linear::QuantLinear, norm::Norm},
};

/// A network: submodules in the order in which the reference registers them, connected by a graph.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_nn::{ResNetConfig, StateDict, resnet::{Depth, Stem}, summarize};
///
/// let device = Device::flex();
/// let config = ResNetConfig {
///     width_alpha: 0.125,
///     ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
/// };
/// let network = config.init(&device)?;
/// let scores = network.forward(Tensor::zeros([1, 3, 32, 32], &device));
/// assert_eq!(scores.dims(), [1, 10]);
///
/// let state = StateDict::of(&network);
/// assert!(state.get("conv1.weight").is_some());
/// println!("{}", summarize(&network, &state));
/// # Ok::<(), quant_nn::NetworkError>(())
/// ```
#[derive(Module, Debug)]
pub struct Network {
    /// The submodules, which have a state. The name of the field is part of the records in
    /// checkpoints.
    pub pieces: Vec<Submodule>,
    /// The PyTorch names of the submodules.
    #[module(skip)]
    names: Vec<String>,
    #[module(skip)]
    graph: Graph,
    #[module(skip)]
    config: NetworkConfig,
}

/// A part of a network that has a state and a name.
#[derive(Module, Debug)]
pub enum Submodule {
    /// A convolution.
    Conv(QuantConv2d),
    /// A linear layer.
    Linear(QuantLinear),
    /// A normalisation.
    Norm(Norm),
    /// An activation function.
    Activation(Activation),
    /// A learned number: the scale of a branch, or a scale or bias of Fixup.
    Scalar(Scalar),
}

/// A learned number.
#[derive(Module, Debug)]
pub struct Scalar {
    /// The number, `[1]`.
    pub value: Param<Tensor<1>>,
}

impl Network {
    /// Makes a network from submodules, their PyTorch names and the graph that connects them.
    pub(crate) fn new(
        submodules: Vec<Submodule>,
        names: Vec<String>,
        graph: Graph,
        config: NetworkConfig,
    ) -> Self {
        Self { pieces: submodules, names, graph, config }
    }

    /// Returns the configuration from which the network was made.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Returns the graph that connects the submodules.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the PyTorch name of a submodule, which is given by its index.
    pub fn submodule_name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// Returns the names of the blocks, in execution order.
    pub fn blocks(&self) -> Vec<&str> {
        let mut blocks: Vec<&str> = Vec::new();
        for node in self.graph.nodes.iter().filter(|node| !node.block.is_empty()) {
            if blocks.last() != Some(&node.block.as_str()) {
                blocks.push(&node.block);
            }
        }
        blocks
    }

    /// Returns the class scores.
    ///
    /// # Shapes
    /// - `x`: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.graph.run(x, self, &[], |_| {}).flatten(1, 3)
    }

    /// Returns the class scores, as [`forward`](Self::forward) does, and the last value of each
    /// block in the order of [`blocks`](Self::blocks), `[batch, channels, height, width]`.
    pub fn forward_blocks(&self, x: Tensor<4>) -> (Tensor<2>, Vec<Tensor<4>>) {
        let ends = self.block_ends();
        let mut outputs = Vec::with_capacity(ends.len());
        let scores = self.graph.run(x, self, &ends, |value| outputs.push(value.clone()));
        (scores.flatten(1, 3), outputs)
    }

    /// Returns the indices of the nodes that end blocks.
    pub(crate) fn block_ends(&self) -> Vec<usize> {
        let nodes = &self.graph.nodes;
        let ends = (0..nodes.len()).filter(|index| {
            let (node, next) = (&nodes[*index], nodes.get(index + 1));
            !node.block.is_empty() && next.is_none_or(|next| next.block != node.block)
        });
        ends.collect()
    }

    /// Returns the channels and the side of the last value of each block.
    pub fn block_shapes(&self) -> Vec<(usize, usize)> {
        let nodes = self.block_ends().into_iter().map(|index| &self.graph.nodes[index]);
        nodes.map(|node| (node.channels, node.size)).collect()
    }

    /// Returns the name of a batch norm in training that sees a single position of each image.
    pub fn norm_of_one_position(&self) -> Option<String> {
        let small = self.graph.nodes.iter().filter(|node| node.size == 1);
        let mut trained = small.filter_map(|node| match node.op {
            Op::Submodule(index) => match &self.pieces[index] {
                Submodule::Norm(Norm::Batch(norm)) if norm.training.is_enabled() => Some(index),
                _ => None,
            },
            _ => None,
        });
        trained.next().map(|index| self.submodule_name(index).to_owned())
    }
}

impl NodeModules for Network {
    fn is_fusible(&self, op: &Op) -> bool {
        let Op::Submodule(index) = op else { return false };
        matches!(self.pieces[*index], Submodule::Norm(Norm::Batch(_)))
    }

    fn forward_fused(&self, fused: FusedNorm) -> Tensor<4> {
        let FusedNorm { op, x, add, relu } = fused;
        let Op::Submodule(index) = op else { unreachable!("submodules normalise") };
        match &self.pieces[index] {
            Submodule::Norm(Norm::Batch(norm)) => norm.forward_add_relu(x, add, relu),
            _ => unreachable!("only batch norms are fused"),
        }
    }

    fn forward_node(&self, op: &Op, x: Tensor<4>, before_norm: bool) -> Tensor<4> {
        let (Op::Submodule(index) | Op::AddScalar(index) | Op::MulScalar(index)) = op else {
            return x;
        };
        match (&self.pieces[*index], op) {
            (Submodule::Conv(layer), _) if before_norm => layer.forward_products(x),
            (Submodule::Conv(layer), _) => layer.forward(x),
            (Submodule::Linear(layer), _) => {
                let y = layer.forward(x.flatten(1, 3));
                let [batch, outputs] = y.dims();
                y.reshape([batch, outputs, 1, 1])
            }
            (Submodule::Norm(layer), _) => layer.forward(x),
            (Submodule::Activation(layer), _) => layer.forward(x),
            (Submodule::Scalar(scalar), Op::AddScalar(_)) => x + scalar.value.val().reshape([1; 4]),
            (Submodule::Scalar(scalar), _) => x * scalar.value.val().reshape([1; 4]),
        }
    }
}
