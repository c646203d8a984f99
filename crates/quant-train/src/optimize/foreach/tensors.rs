//! What a step of several parameters is given, and what it returns.

use burn::backend::{Dispatch, tensor::FloatTensor};

/// A step of SGD of all parameters of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SgdStep {
    /// The learning rate.
    pub(crate) rate: f32,
    /// The L2 weight decay.
    pub(crate) decay: f32,
    /// The weight of the old velocity.
    pub(crate) momentum: f32,
    /// Whether the momentum is Nesterov's.
    pub(crate) nesterov: bool,
}

/// The weight, the gradient and the old velocity of a parameter.
#[derive(Debug)]
#[cfg_attr(not(feature = "cube"), expect(dead_code, reason = "only kernels of GPUs read them"))]
pub(super) struct Gathered {
    pub(super) weight: FloatTensor<Dispatch>,
    pub(super) gradient: FloatTensor<Dispatch>,
    pub(super) velocity: Option<FloatTensor<Dispatch>>,
}

/// The next weight and the next velocity of a parameter.
#[derive(Debug)]
pub(super) struct Computed {
    pub(super) weight: FloatTensor<Dispatch>,
    pub(super) velocity: FloatTensor<Dispatch>,
}
