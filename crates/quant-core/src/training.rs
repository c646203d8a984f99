//! What helps training along, whatever the method: proximal quantization, a loss on the quantization
//! error, a warm-up.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{quantizer::Quantizer, scope};

/// A loss on the difference between x and its quantized value y, means over the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuantizationLoss {
    /// mean |y - x|.
    L1,
    /// mean (y - x)².
    L2,
    /// |Σxy/Σy² - 1|: how far the least squares factor between x and y is from 1; 0 where y is all zero.
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

/// What training does beside quantizing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TrainingAids {
    /// Share of the unquantized input.
    pub(crate) proximal: f32,
    pub(crate) loss: Option<(QuantizationLoss, f32)>,
    pub(crate) warm_up: Option<WarmUp>,
}

/// Training calls in which the input passes through, and what follows them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WarmUp {
    calls: usize,
    correlate: f32,
    done: usize,
}

impl TrainingAids {
    /// Whether training calls return what the method computes, and nothing else.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What a training call returns for x and its quantized value y.
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

impl Quantizer {
    /// From now on training calls return share·x + (1 - share)·Q(x): proximal quantization (ProxQuant;
    /// Bai et al., ICLR 2019). Let `share`, 0 to 1, fall to 0 over training. Evaluation quantizes
    /// fully.
    pub fn set_proximal(&mut self, share: f32) {
        self.aids.proximal = share.clamp(0.0, 1.0);
    }

    /// From now on training calls have `factor` times this loss on their quantization error, which
    /// [`training_call`](crate::training_call) hands over; `None` ends it.
    pub fn set_loss(&mut self, loss: Option<(QuantizationLoss, f32)>) {
        self.aids.loss = loss;
    }

    /// Lets inputs pass unquantized in the next `calls` training calls, of which `done` are behind,
    /// while the clipping value follows the mean of their max|x|·`correlate` (of max|x|, where
    /// `correlate` is not above 0): after the k-th, clip := (max|x|·correlate + (k - 1)·clip)/k.
    /// [`TrainingCall::settle`](crate::TrainingCall::settle) moves it and counts the call.
    pub fn set_warm_up(&mut self, calls: usize, correlate: f32, done: usize) {
        self.aids.warm_up = (done < calls).then_some(WarmUp { calls, correlate, done });
    }

    /// How many calls of a [warm-up](Self::set_warm_up) are left.
    pub fn warm_up_left(&self) -> usize {
        self.aids.warm_up.map_or(0, |warm_up| warm_up.calls - warm_up.done)
    }

    /// After a training call during a warm-up that saw this largest magnitude, `[1]`.
    pub(crate) fn settle(&mut self, largest: Tensor<1>) {
        let Some(WarmUp { calls, correlate, done }) = self.aids.warm_up else {
            return;
        };
        let factor = if correlate > 0.0 { correlate } else { 1.0 };
        self.follow(largest.mul_scalar(factor), done + 1);
        self.set_warm_up(calls, correlate, done + 1);
    }
}
