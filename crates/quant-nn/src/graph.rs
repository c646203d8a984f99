//! How the submodules of a network are connected. The nodes are in execution order, and each
//! computes one value from the values of nodes before it.

use burn::tensor::{
    Tensor,
    module::{adaptive_avg_pool2d, avg_pool2d, max_pool2d},
    ops::{AvgPoolOptions, MaxPoolOptions, PadMode},
};

use crate::layers::{activation::ActivationKind, norm::normalize_groups};

/// The operation of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The images that the network is given.
    Input,
    /// A submodule with a state, by its index: a convolution, a norm, an activation function or a
    /// linear layer.
    Submodule(usize),
    /// An activation without a state.
    Activation(ActivationKind),
    /// Normalisation over each channel of each image.
    InstanceNorm,
    /// The mean of each square with this side, which is also the stride.
    AveragePool(usize),
    /// Maximum pooling.
    MaxPool {
        /// The side of the squares.
        kernel_size: usize,
        /// The stride of the windows, in pixels.
        stride: usize,
        /// The padding with minus infinity on every side.
        padding: usize,
        /// Whether a last square may overlap the edge.
        ceil_mode: bool,
    },
    /// The mean over all positions.
    GlobalPool,
    /// r x r positions become channels: channel c of position (dy, dx) becomes c·r² + dy·r + dx.
    SpaceToDepth(usize),
    /// The inverse of `SpaceToDepth`.
    DepthToSpace(usize),
    /// Zeros on every side.
    Pad(usize),
    /// The channels are repeated this many times.
    Repeat(usize),
    /// The channels of all inputs, one input after another.
    Concatenate,
    /// The sum of all inputs.
    Add,
    /// The input plus a learned number, which is given by its index.
    AddScalar(usize),
    /// The input times a learned number, which is given by its index.
    MulScalar(usize),
}

/// A node of the graph, which has one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operation that computes the value.
    pub op: Op,
    /// The indices of the nodes whose values are the inputs of the operation.
    pub inputs: Vec<usize>,
    /// The number of channels.
    pub channels: usize,
    /// The side in pixels, for the input size of the network's configuration.
    pub size: usize,
    /// The name of the block to which the node belongs. It is empty outside blocks.
    pub block: String,
}

/// The nodes of a network. The last node holds the class scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The nodes in execution order.
    pub nodes: Vec<Node>,
}

/// The value of a node, or a normalisation that is not computed yet, so that it can be fused with
/// the operation that follows it.
#[expect(
    clippy::large_enum_variant,
    reason = "a few at a time, beside tensors that are far larger"
)]
enum NodeValue {
    Computed(Tensor<4>),
    Deferred(FusedNorm),
}

/// A normalisation, fused with the operations on its result.
pub(crate) struct FusedNorm {
    /// The operation of the node.
    pub(crate) op: Op,
    /// The input of the normalisation.
    pub(crate) x: Tensor<4>,
    /// The tensor that is added to the result.
    pub(crate) add: Option<Tensor<4>>,
    /// Whether a ReLU is applied at the end.
    pub(crate) relu: bool,
}

/// The modules that compute the nodes of a graph.
pub(crate) trait NodeModules {
    /// Returns whether the operation is a normalisation that can be fused with the operations that
    /// follow it.
    fn is_fusible(&self, op: &Op) -> bool;
    /// Computes a node that has a submodule. If `before_norm`, a normalisation that can be fused is
    /// the only use of the value, which may then have another type.
    fn forward_node(&self, op: &Op, x: Tensor<4>, before_norm: bool) -> Tensor<4>;
    /// Computes a normalisation together with the operations that follow it.
    fn forward_fused(&self, fused: FusedNorm) -> Tensor<4>;
}

impl Graph {
    /// Computes the value of the last node. `seen` is called with the values of the nodes
    /// `watched`, in their order.
    pub(crate) fn run(
        &self,
        x: Tensor<4>,
        modules: &impl NodeModules,
        watched: &[usize],
        mut seen: impl FnMut(&Tensor<4>),
    ) -> Tensor<4> {
        let mut uses: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| uses[*input].push(index));
        }
        // Whether the computation of a value can be deferred to its only use. That use is a ReLU
        // or, if the value is itself a normalisation, a sum of two values.
        let waits = |index: usize, sums: bool| match *uses[index] {
            [next] if !watched.contains(&index) => match &self.nodes[next].op {
                Op::Activation(ActivationKind::ReLU) => true,
                Op::Add => sums && self.nodes[next].inputs.len() == 2,
                _ => false,
            },
            _ => false,
        };
        let before_norm = |index: usize| match *uses[index] {
            [next] => !watched.contains(&index) && modules.is_fusible(&self.nodes[next].op),
            _ => false,
        };
        let waiting = |inputs: &[NodeValue]| {
            inputs.iter().position(|input| matches!(input, NodeValue::Deferred(_)))
        };
        let mut values: Vec<Option<NodeValue>> = Vec::with_capacity(self.nodes.len());
        let mut x = Some(x);
        for (index, node) in self.nodes.iter().enumerate() {
            let mut inputs: Vec<NodeValue> = node
                .inputs
                .iter()
                .filter_map(|input| match (uses[*input].last() == Some(&index), &values[*input]) {
                    // The last user of a value owns it, and may reuse its memory.
                    (true, _) => values[*input].take(),
                    (false, Some(NodeValue::Computed(value))) => {
                        Some(NodeValue::Computed(value.clone()))
                    }
                    (false, _) => unreachable!("what waits has one use"),
                })
                .collect();
            let ready = |value: NodeValue| match value {
                NodeValue::Computed(value) => value,
                NodeValue::Deferred(fused) => modules.forward_fused(fused),
            };
            let value = match (&node.op, waiting(&inputs)) {
                (Op::Activation(ActivationKind::ReLU) | Op::Add, Some(at)) => {
                    match (inputs.swap_remove(at), &node.op) {
                        (NodeValue::Deferred(fused), Op::Add) => {
                            let add = inputs.pop().map(ready);
                            Some(NodeValue::Deferred(FusedNorm { add, ..fused }))
                        }
                        (NodeValue::Deferred(fused), _) => {
                            let relu = true;
                            Some(NodeValue::Deferred(FusedNorm { relu, ..fused }))
                        }
                        (value, _) => Some(value),
                    }
                }
                (op, _) => {
                    let mut inputs: Vec<Tensor<4>> = inputs.into_iter().map(ready).collect();
                    if modules.is_fusible(op) && waits(index, true) {
                        inputs.pop().map(|x| {
                            let op = op.clone();
                            NodeValue::Deferred(FusedNorm { op, x, add: None, relu: false })
                        })
                    } else {
                        op.apply(inputs, &mut x, modules, before_norm(index))
                            .map(NodeValue::Computed)
                    }
                }
            };
            // A sum can be deferred further, until the ReLU that follows it.
            let value = value.map(|value| match value {
                NodeValue::Deferred(n) if n.relu || (n.add.is_some() && !waits(index, false)) => {
                    NodeValue::Computed(modules.forward_fused(n))
                }
                value => value,
            });
            if let (true, Some(NodeValue::Computed(value))) = (watched.contains(&index), &value) {
                seen(value);
            }
            values.push(value);
        }
        match values.pop().flatten() {
            Some(NodeValue::Computed(scores)) => scores,
            _ => unreachable!("a graph ends with its scores"),
        }
    }
}

impl Graph {
    /// Whether the value of a node has no element below 0, whatever the images and parameters are.
    pub(crate) fn is_never_negative(&self, node: usize) -> bool {
        let mut never: Vec<bool> = Vec::with_capacity(node + 1);
        for Node { op, inputs, .. } in &self.nodes[..=node] {
            never.push(match op {
                Op::Activation(ActivationKind::ReLU | ActivationKind::ReLU6) => true,
                Op::AveragePool(_)
                | Op::MaxPool { .. }
                | Op::GlobalPool
                | Op::SpaceToDepth(_)
                | Op::DepthToSpace(_)
                | Op::Pad(_)
                | Op::Repeat(_)
                | Op::Concatenate
                | Op::Add => inputs.iter().all(|input| never[*input]),
                Op::Input
                | Op::Submodule(_)
                | Op::Activation(_)
                | Op::InstanceNorm
                | Op::AddScalar(_)
                | Op::MulScalar(_) => false,
            });
        }
        never[node]
    }

    /// Whether the elements of a node are those of the images, in this order or another, and zeros.
    pub(crate) fn is_of_images(&self, node: usize) -> bool {
        let Node { op, inputs, .. } = &self.nodes[node];
        match op {
            Op::Input => true,
            Op::SpaceToDepth(_) | Op::DepthToSpace(_) | Op::Pad(_) | Op::Repeat(_) => {
                inputs.iter().all(|input| self.is_of_images(*input))
            }
            _ => false,
        }
    }
}

impl Op {
    fn apply(
        &self,
        inputs: Vec<Tensor<4>>,
        images: &mut Option<Tensor<4>>,
        modules: &impl NodeModules,
        before_norm: bool,
    ) -> Option<Tensor<4>> {
        if *self == Op::Concatenate {
            return Some(Tensor::cat(inputs, 1));
        }
        let Some(x) = inputs.into_iter().reduce(|sum, term| sum + term) else {
            return images.take();
        };
        Some(match self {
            Op::Input | Op::Concatenate | Op::Add => x,
            Op::Activation(kind) => kind.forward(x),
            Op::InstanceNorm => {
                let channels = x.dims()[1];
                normalize_groups(x, channels)
            }
            Op::AveragePool(side) => {
                let (kernel_size, stride) = ([*side; 2], [*side; 2]);
                let options = AvgPoolOptions {
                    kernel_size,
                    stride,
                    padding: [(0, 0); 2],
                    count_include_pad: false,
                    ceil_mode: false,
                };
                avg_pool2d(x, options)
            }
            Op::MaxPool { kernel_size, stride, padding, ceil_mode } => max_pool2d(
                x,
                MaxPoolOptions {
                    kernel_size: [*kernel_size; 2],
                    stride: [*stride; 2],
                    padding: [(*padding, *padding); 2],
                    dilation: [1, 1],
                    ceil_mode: *ceil_mode,
                },
            ),
            Op::GlobalPool => adaptive_avg_pool2d(x, [1, 1]),
            Op::SpaceToDepth(r) => space_to_depth(x, *r),
            Op::DepthToSpace(r) => depth_to_space(x, *r),
            Op::Pad(p) => x.pad((*p, *p, *p, *p), PadMode::Constant(0.0)),
            Op::Repeat(times) => Tensor::cat(vec![x; *times], 1),
            Op::Submodule(_) | Op::AddScalar(_) | Op::MulScalar(_) => {
                modules.forward_node(self, x, before_norm)
            }
        })
    }

    /// Returns the channels and the side of the output. For submodules they are not known here.
    pub(crate) fn output(&self, channels: usize, size: usize) -> (usize, usize) {
        match self {
            Op::AveragePool(side) => (channels, size / side),
            Op::MaxPool { kernel_size, stride, padding, ceil_mode } => {
                let room = (size + 2 * padding).saturating_sub(*kernel_size);
                let size = if *ceil_mode { room.div_ceil(*stride) + 1 } else { room / stride + 1 };
                (channels, size)
            }
            Op::GlobalPool => (channels, 1),
            Op::SpaceToDepth(r) => (channels * r * r, size / r),
            Op::DepthToSpace(r) => (channels / (r * r), size * r),
            Op::Pad(p) => (channels, size + 2 * p),
            Op::Repeat(times) => (channels * times, size),
            _ => (channels, size),
        }
    }
}

/// Moves channel c of position (dy, dx) in each r x r square to channel c·r² + dy·r + dx, as
/// PyTorch's `pixel_unshuffle` does.
pub(crate) fn space_to_depth(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let (rows, columns) = (height / r, width / r);
    let squares: Tensor<6> = x.reshape([batch, channels, rows, r, columns, r]);
    squares.permute([0, 1, 3, 5, 2, 4]).reshape([batch, channels * r * r, rows, columns])
}

/// Does the inverse of [`space_to_depth`], as PyTorch's `pixel_shuffle` does.
pub(crate) fn depth_to_space(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let channels = channels / (r * r);
    let squares: Tensor<6> = x.reshape([batch, channels, r, r, rows, columns]);
    squares.permute([0, 1, 4, 2, 5, 3]).reshape([batch, channels, rows * r, columns * r])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;

    #[test]
    fn space_to_depth_orders_channels_as_pixel_unshuffle() {
        let x = Tensor::<1, Int>::arange(0..16, &Device::flex()).float().reshape([1, 1, 4, 4]);
        let y = space_to_depth(x.clone(), 2);
        assert_eq!(y.dims(), [1, 4, 2, 2]);
        let values: Vec<f32> = y.clone().into_data().iter().collect();
        // The channels are the top left, top right, bottom left and bottom right of each square.
        let expected = [0., 2., 8., 10., 1., 3., 9., 11., 4., 6., 12., 14., 5., 7., 13., 15.];
        assert_eq!(values, expected);
        assert!(depth_to_space(y, 2).equal(x).all().into_scalar::<bool>());
    }
}
