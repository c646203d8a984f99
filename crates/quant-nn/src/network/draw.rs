//! The graph of a network as text.

use std::fmt::Write;

use super::{Network, Submodule};
use crate::graph::Op;

impl Network {
    /// Returns the nodes of a block, such as `layer2.0`, as text: the operation of each node, its
    /// inputs and its shape. With an empty name these are the nodes outside blocks.
    pub fn draw(&self, block: &str) -> String {
        let mut text = String::new();
        let prefix = format!("{block}.");
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if node.block != block {
                continue;
            }
            let what = self.describe(&node.op);
            let what = what.replace(&prefix, "");
            let inputs: Vec<String> = node.inputs.iter().map(|i| format!("%{i}")).collect();
            let shape = format!("{} x {}x{}", node.channels, node.size, node.size);
            let of = inputs.join(", ");
            let _ = writeln!(text, "%{index:<4} {what:<44} {shape:>14}   {of}");
        }
        text
    }

    fn describe(&self, op: &Op) -> String {
        let name = |index: &usize| &self.names[*index];
        match op {
            Op::Input => "images".into(),
            Op::Submodule(index) => {
                let name = name(index);
                match &self.pieces[*index] {
                    Submodule::Conv(conv) => {
                        let shape = conv.weight.lazy_shape();
                        let stride = match conv.stride {
                            1 => String::new(),
                            stride => format!(" stride {stride}"),
                        };
                        let groups = match conv.groups {
                            1 => String::new(),
                            groups => format!(" in {groups} groups"),
                        };
                        let real = match (&conv.quant_activation, &conv.quant_weight) {
                            (None, None) => "convolution",
                            _ => "quantized convolution",
                        };
                        format!("{name}: {real} {}x{}{stride}{groups}", shape[2], shape[3])
                    }
                    Submodule::Linear(_) => format!("{name}: linear"),
                    Submodule::Norm(_) => format!("{name}: norm"),
                    Submodule::Activation(_) => format!("{name}: activation"),
                    Submodule::Scalar(_) => name.clone(),
                }
            }
            Op::Activation(kind) => format!("{kind:?}"),
            Op::InstanceNorm => "instance norm".into(),
            Op::AveragePool(side) => format!("average pool {side}x{side}"),
            Op::MaxPool { kernel_size, stride, .. } => {
                format!("max pool {kernel_size}x{kernel_size} stride {stride}")
            }
            Op::GlobalPool => "global average pool".into(),
            Op::SpaceToDepth(r) => format!("space to depth {r}"),
            Op::DepthToSpace(r) => format!("depth to space {r}"),
            Op::Pad(p) => format!("pad by {p}"),
            Op::Repeat(times) => format!("channels {times} times over"),
            Op::Concatenate => "concatenate".into(),
            Op::Add => "add".into(),
            Op::AddScalar(index) => format!("plus {}", name(index)),
            Op::MulScalar(index) => format!("times {}", name(index)),
        }
    }
}
