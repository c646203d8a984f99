//! What a quantizer does in training beside quantizing: set, and asked for.

use burn::tensor::Tensor;

use crate::{
    quantizer::Quantizer,
    training::{QuantizationLoss, WarmUp},
};

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
