//! Settings of what a quantizer does in training in addition to quantizing.

use burn::tensor::Tensor;

use crate::{
    quantizer::Quantizer,
    training::{QuantizationLoss, WarmUp},
};

impl Quantizer {
    /// Makes training calls return share·x + (1 - share)·Q(x), which is proximal quantization
    /// (ProxQuant; Bai et al., ICLR 2019). `share`, from 0 to 1, should decrease to 0 during
    /// training. Evaluation quantizes fully.
    pub fn set_proximal(&mut self, share: f32) {
        self.training_settings.proximal = share.clamp(0.0, 1.0);
    }

    /// Adds `factor` times this loss on the quantization error to training calls.
    /// [`training_loss`](crate::training_loss) adds them to the loss of the model, and
    /// [`training_call`](crate::training_call) returns them. `None` ends this.
    pub fn set_loss(&mut self, loss: Option<(QuantizationLoss, f32)>) {
        self.training_settings.loss = loss;
    }

    /// Finds a clipping value from data before quantizing begins. The inputs of the first `calls`
    /// training calls, of which `done` have already been made, pass through unquantized. After
    /// them, the clipping value is the mean of their max|x|·`correlate`. After the k-th call:
    ///
    /// clip := (max|x|·correlate + (k - 1)·clip)/k
    ///
    /// If `correlate` is not above 0, it counts as 1.
    /// [`training_loss`](crate::training_loss) updates the clipping value and counts the call. In a
    /// training loop without it, a warm-up does not end. The trainer of `quant-train` has such a
    /// loop.
    pub fn set_warm_up(&mut self, calls: usize, correlate: f32, done: usize) {
        self.training_settings.warm_up =
            (done < calls).then_some(WarmUp { calls, correlate, done });
    }

    /// Returns how many calls of a [warm-up](Self::set_warm_up) are left.
    pub fn warm_up_left(&self) -> usize {
        self.training_settings.warm_up.map_or(0, |warm_up| warm_up.calls - warm_up.done)
    }

    /// Ends a training call of a warm-up that saw this largest magnitude, `[1]`: updates the
    /// clipping value and counts the call.
    pub(crate) fn settle(&mut self, largest: Tensor<1>) {
        let Some(WarmUp { calls, correlate, done }) = self.training_settings.warm_up else {
            return;
        };
        let factor = if correlate > 0.0 { correlate } else { 1.0 };
        self.follow(largest.mul_scalar(factor), done + 1);
        self.set_warm_up(calls, correlate, done + 1);
    }
}
