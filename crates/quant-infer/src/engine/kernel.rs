//! What computes the sums of each step.

use super::{network::Network, packing::Packing, plan::Form, step::Producer};

/// What computes the sums of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Products of floats.
    Floats,
    /// Products of operands that are stored like this.
    Integers(Packing),
    /// Each channel is convolved alone.
    Depthwise,
}

impl Kernel {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floats => "floats",
            Self::Integers(Packing::Pairs) => "pairs of 16 bits",
            Self::Integers(Packing::Bytes) => "bytes",
            Self::Integers(Packing::Signs) => "signs",
            Self::Integers(Packing::Ternary) => "ternary",
            Self::Depthwise => "depthwise",
        }
    }
}

impl Network {
    /// Returns for each step the node that is its first layer, and what computes its sums.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = (usize, Option<Kernel>)> {
        self.steps.iter().map(|step| {
            let kernel = match &step.producer {
                Producer::Integer { conv, .. } if conv.is_depthwise() => Some(Kernel::Depthwise),
                Producer::Integer { operand, .. } => match self.storages[*operand].form {
                    Form::Integers(_, packing) => Some(Kernel::Integers(packing)),
                    Form::Floats(_) => None,
                },
                Producer::Float { conv, .. } if conv.is_depthwise() => Some(Kernel::Depthwise),
                Producer::Float { .. } => Some(Kernel::Floats),
                _ => None,
            };
            (step.node, kernel)
        })
    }
}
