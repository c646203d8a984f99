//! The operations of a network.

use quant_nn::{
    Network,
    graph::Op as Graph,
    layers::{
        activation::{Activation, ActivationKind},
        norm::Norm,
    },
    network::Submodule,
};

use super::operation::{Geometry, Kind, Operation, used};

/// Takes a network apart. The last operation gives the scores. The source of an operation is the
/// submodule that has its numbers, if it has any.
pub(super) fn of_network(network: &Network) -> Vec<Operation<Option<usize>>> {
    let mut operations: Vec<Operation<Option<usize>>> = Vec::new();
    let mut operation_of: Vec<usize> = Vec::new();
    for node in &network.graph().nodes {
        let mut inputs: Vec<usize> = node.inputs.iter().map(|input| operation_of[*input]).collect();
        let mut push = |kind: Kind, inputs: Vec<usize>, source: Option<usize>| {
            operations.push(Operation { kind, inputs, source });
            operations.len() - 1
        };
        if inputs.len() > 1 && !matches!(node.op, Graph::Concatenate | Graph::Add) {
            inputs = vec![push(Kind::Add, inputs, None)];
        }
        let last = match &node.op {
            Graph::Submodule(index) | Graph::AddScalar(index) | Graph::MulScalar(index) => {
                let own = Some(*index);
                match (&network.pieces[*index], &node.op) {
                    (Submodule::Conv(conv), _) => {
                        push(Kind::Conv(Geometry::of_layer(conv)), inputs, own)
                    }
                    (Submodule::Linear(linear), _) => {
                        let shape = linear.weight.lazy_shape();
                        let from =
                            node.inputs.first().map_or(1, |at| network.graph().nodes[*at].size);
                        if from > 1 {
                            inputs = vec![push(Kind::Flatten, inputs, None)];
                        }
                        push(Kind::Conv(Geometry::linear(shape[1], shape[0])), inputs, own)
                    }
                    (Submodule::Norm(Norm::Group(norm)), _) => {
                        let groups = push(Kind::GroupNorm(norm.groups()), inputs, None);
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
                ActivationKind::ReLU => push(Kind::Relu, inputs, None),
                ActivationKind::ReLU6 => push(Kind::Relu6, inputs, None),
                ActivationKind::LReLU => push(Kind::LeakyRelu, inputs, None),
                _ => inputs.first().copied().unwrap_or(0),
            },
            Graph::Input => push(Kind::Image, inputs, None),
            Graph::InstanceNorm => push(Kind::GroupNorm(node.channels), inputs, None),
            Graph::AveragePool(side) => push(Kind::AveragePool(*side), inputs, None),
            Graph::MaxPool { kernel_size, stride, padding, ceil_mode } => {
                let sides = [*kernel_size, *stride, *padding];
                push(Kind::MaxPool(sides, *ceil_mode), inputs, None)
            }
            Graph::GlobalPool => push(Kind::GlobalPool, inputs, None),
            Graph::SpaceToDepth(side) => push(Kind::SpaceToDepth(*side), inputs, None),
            Graph::DepthToSpace(side) => push(Kind::DepthToSpace(*side), inputs, None),
            Graph::Pad(width) => push(Kind::Pad(*width), inputs, None),
            Graph::Repeat(times) => push(Kind::Repeat(*times), inputs, None),
            Graph::Concatenate => push(Kind::Concatenate, inputs, None),
            Graph::Add => push(Kind::Add, inputs, None),
        };
        operation_of.push(last);
    }
    let last = operation_of.last().copied().unwrap_or(0);
    operations.truncate(last + 1);
    used(operations)
}
