//! Batch normalisation with PyTorch's running statistics and parameter names.
//!
//! Burn's own keeps the biased variance of the batch; PyTorch the unbiased one, larger by m/(m - 1)
//! for m elements per channel.

use burn::{
    module::{Flag, Module, Param, RunningState},
    tensor::{Device, Tensor, module::batch_norm_train},
};

/// y = (x - mean)/sqrt(var + eps)·weight + bias per channel (Ioffe and Szegedy 2015): statistics of
/// the batch in training, running ones in evaluation.
#[derive(Module, Debug)]
pub struct BatchNorm2d {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether training uses and updates batch statistics. `freeze` clears it.
    pub training: Param<Flag>,
}

/// Weight of the batch in the running statistics.
const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

impl BatchNorm2d {
    /// Scale 1, shift 0, running mean 0 and variance 1.
    pub fn new(channels: usize, device: &Device) -> Self {
        let filled = |value: f64| Tensor::<1>::full([channels], value, device);
        Self {
            weight: Param::from_tensor(filled(1.0)),
            bias: Param::from_tensor(filled(0.0)),
            running_mean: RunningState::new(filled(0.0)),
            running_var: RunningState::new(filled(1.0)),
            training: Param::from_bool(true),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if !(x.device().is_autodiff() && self.training.is_enabled()) {
            let device = x.device();
            let mean = self.running_mean.value_sync().to_device(&device);
            let variance = self.running_var.value_sync().to_device(&device);
            // One multiplication and one addition per element.
            let scale = self.weight.val() / (variance + EPSILON).sqrt();
            let shift = self.bias.val() - mean * scale.clone();
            let per_channel = [1, scale.dims()[0], 1, 1];
            return x * scale.reshape(per_channel) + shift.reshape(per_channel);
        }
        let [batch, _, height, width] = x.dims();
        let elements = (batch * height * width) as f64;
        let batch = batch_norm_train(x, self.weight.val(), self.bias.val(), EPSILON);
        let unbiased = batch.variance.mul_scalar(elements / (elements - 1.0).max(1.0));
        update(&self.running_mean, batch.mean);
        update(&self.running_var, unbiased);
        batch.output
    }
}

fn update(running: &RunningState<Tensor<1>>, batch: Tensor<1>) {
    let old = running.value_sync().mul_scalar(1.0 - MOMENTUM);
    running.update((old + batch.mul_scalar(MOMENTUM)).detach());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_variance_is_unbiased() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm2d::new(1, &device);
        // Mean 2, biased variance 5/4, unbiased 5/3.
        let x = Tensor::<1>::from_floats([0.5, 1.5, 2.5, 3.5], &device).reshape([2, 1, 1, 2]);
        norm.forward(x);
        let variance: f32 = norm.valid().running_var.value().into_scalar();
        assert!((variance - (0.9 + 0.1 * 5.0 / 3.0)).abs() < 1e-6, "{variance}");
    }

    #[test]
    fn a_frozen_norm_uses_and_keeps_its_running_statistics() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm2d::new(1, &device).freeze();
        let x = Tensor::<4>::full([1, 1, 1, 2], 3.0, &device);
        let y: Vec<f32> = norm.forward(x).into_data().iter().collect();
        assert!((y[0] - 3.0).abs() < 1e-4, "{y:?}");
        let mean: f32 = norm.valid().running_mean.value().into_scalar();
        assert_eq!(mean, 0.0);
    }
}
