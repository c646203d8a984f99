//! What a quantizer can do in training in addition to quantizing, with every method: proximal
//! quantization, a loss on the quantization error, and a warm-up.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::scope;

/// A loss on the difference between x and its quantized value y. Means and sums are over the
/// elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuantizationLoss {
    /// The loss mean |y - x|.
    L1,
    /// The loss mean (y - x)².
    L2,
    /// The loss |Σxy/Σy² - 1|, the distance from 1 of the least squares factor between x and y. It
    /// is 0 where y is all zero.
    Distribution,
}

impl QuantizationLoss {
    fn of<const D: usize>(self, x: Tensor<D>, y: Tensor<D>) -> Tensor<1> {
        match self {
            QuantizationLoss::L1 => (y - x).abs().mean(),
            QuantizationLoss::L2 => (y - x).square().mean(),
            QuantizationLoss::Distribution => {
                let squares = y.clone().square().sum();
                let none = squares.clone().detach().equal_elem(0.0);
                let factor = (x * y).sum() / squares.mask_fill(none.clone(), 1.0);
                (factor - 1.0).abs().mask_fill(none, 0.0)
            }
        }
    }
}

/// What training calls do in addition to quantizing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TrainingSettings {
    /// The share of the unquantized input in the result.
    pub(crate) proximal: f32,
    pub(crate) loss: Option<(QuantizationLoss, f32)>,
    pub(crate) warm_up: Option<WarmUp>,
}

/// A warm-up: training calls that pass the input through while the clipping value follows its
/// magnitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WarmUp {
    pub(crate) calls: usize,
    pub(crate) correlate: f32,
    pub(crate) done: usize,
}

impl TrainingSettings {
    /// Returns whether training calls return what the method computes, and do nothing else.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the result of a training call for x and its quantized value y.
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        if let Some((loss, factor)) = self.loss {
            scope::add_loss(|| loss.of(x.clone(), y.clone()).mul_scalar(factor));
        }
        match self.proximal {
            0.0 => y,
            share => x.mul_scalar(share) + y.mul_scalar(1.0 - share),
        }
    }
}
