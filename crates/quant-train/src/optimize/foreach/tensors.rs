//! What a step of several parameters is given, and what it returns.

use burn::backend::{Dispatch, tensor::FloatTensor};

/// A step of all parameters of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Sgd(SgdStep),
    Adam {
        /// The learning rate.
        rate: f64,
        rule: AdamRule,
    },
}

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

/// The numbers of Adam, which are the same in every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdamRule {
    /// The number b1, the weight of the old mean.
    pub(crate) beta1: f64,
    /// The number b2, the weight of the old mean of squares.
    pub(crate) beta2: f64,
    /// The number eps, which is added to the divisor.
    pub(crate) epsilon: f64,
    /// The factor of the weight decay, which is 0 for none.
    pub(crate) weight_decay: f64,
    /// Whether the decay is decoupled, as in AdamW.
    pub(crate) decoupled: bool,
}

impl Step {
    /// Returns the step with this learning rate.
    pub(crate) fn at(self, rate: f64) -> Self {
        match self {
            Self::Sgd(step) => Self::Sgd(SgdStep { rate: rate as f32, ..step }),
            Self::Adam { rule, .. } => Self::Adam { rate, rule },
        }
    }

    /// Returns whether a kernel computes it for several parameters.
    pub(super) fn is_known(&self) -> bool {
        match self {
            Self::Sgd(step) => step.momentum != 0.0,
            Self::Adam { .. } => true,
        }
    }
}

/// The tensors of a parameter that the optimizer keeps from step to step: the velocity of SGD, or
/// the two means of Adam.
#[derive(Debug, Clone)]
pub(crate) struct Kept<T> {
    /// The velocity, or the mean of the gradients.
    pub(crate) first: T,
    /// The mean of the squares of the gradients, for Adam.
    pub(crate) second: Option<T>,
    /// The number of steps that Adam took. SGD does not count its steps, and says 1.
    pub(crate) steps: usize,
}

/// The weight, the gradient and the kept tensors of a parameter.
#[derive(Debug)]
#[cfg_attr(not(feature = "cube"), expect(dead_code, reason = "only kernels of GPUs read them"))]
pub(super) struct Gathered {
    pub(super) weight: FloatTensor<Dispatch>,
    pub(super) gradient: FloatTensor<Dispatch>,
    pub(super) kept: Option<Kept<FloatTensor<Dispatch>>>,
}

/// The next weight of a parameter, and what the optimizer keeps.
#[derive(Debug)]
pub(super) struct Computed {
    pub(super) weight: FloatTensor<Dispatch>,
    pub(super) kept: Kept<FloatTensor<Dispatch>>,
}

impl<T> Kept<T> {
    /// Returns the same of other tensors.
    pub(super) fn map<U>(self, of: impl Fn(T) -> U) -> Kept<U> {
        Kept { first: of(self.first), second: self.second.map(&of), steps: self.steps }
    }
}
