//! Normalisation layers with PyTorch's statistics and parameter names.
//!
//! Burn's own batch norm keeps the biased variance of the batch. PyTorch keeps the unbiased
//! variance, which is larger by the factor m/(m - 1) for m elements per channel.

use std::{fmt, sync::Arc};

use crate::ops::{NormCall, normalized, relu};
use burn::{
    module::{Flag, Module, Param, RunningState},
    tensor::{Device, Tensor},
};
use quant_core::ops::mapped_on_host;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The normalisation of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Batch normalisation.
    #[default]
    Batch,
    /// Batch normalisation whose scale and shift are applied before the normalisation.
    Reverse,
    /// Normalisation with statistics that do not change, and a learned scale and shift.
    Static,
    /// Normalisation with statistics, scale and shift that do not change.
    Frozen,
    /// Normalisation over groups of channels of each image, with this number of groups (Wu and He
    /// 2018).
    Group(#[schemars(range(min = 1, max = 65_536))] usize),
    /// Normalisation over each channel of each image, without scale and shift.
    Instance,
}

/// A normalisation with a state.
#[derive(Module, Debug)]
pub enum Norm {
    /// [`NormKind::Batch`] and [`NormKind::Reverse`].
    Batch(BatchNorm2d),
    /// [`NormKind::Static`] and [`NormKind::Frozen`].
    Static(StaticNorm2d),
    /// [`NormKind::Group`].
    Group(GroupNorm2d),
}

impl Norm {
    /// Makes the normalisation for `channels` channels. Returns `None` for a kind without a state.
    pub(crate) fn new(kind: NormKind, channels: usize, device: &Device) -> Option<Self> {
        Some(match kind {
            NormKind::Batch => Norm::Batch(BatchNorm2d::new(channels, device)),
            NormKind::Reverse => {
                Norm::Batch(BatchNorm2d { reverse: true, ..BatchNorm2d::new(channels, device) })
            }
            NormKind::Static => Norm::Static(StaticNorm2d::new(channels, true, device)),
            NormKind::Frozen => Norm::Static(StaticNorm2d::new(channels, false, device)),
            NormKind::Group(groups) => Norm::Group(GroupNorm2d::new(groups, channels, device)),
            NormKind::Instance => return None,
        })
    }

    /// Returns the learned scale.
    pub(crate) fn weight_mut(&mut self) -> &mut Param<Tensor<1>> {
        match self {
            Norm::Batch(norm) => &mut norm.weight,
            Norm::Static(norm) => &mut norm.weight,
            Norm::Group(norm) => &mut norm.weight,
        }
    }

    /// Returns the normalised x, `[batch, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Norm::Batch(norm) => norm.forward(x),
            Norm::Static(norm) => norm.forward(x),
            Norm::Group(norm) => norm.forward(x),
        }
    }
}

/// (x - mean)/sqrt(var + eps)·weight + bias, with a mean and a variance that do not change. They
/// are 0 and 1 - eps unless others are loaded.
#[derive(Module, Debug)]
pub struct StaticNorm2d {
    /// The scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// The mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// The variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
}

impl StaticNorm2d {
    /// Makes the layer. Scale and shift are learned if `trained`.
    pub fn new(channels: usize, trained: bool, device: &Device) -> Self {
        let filled = |value: f64| Tensor::<1>::full([channels], value, device);
        let param = |value| {
            let param = Param::from_tensor(filled(value));
            if trained { param } else { param.set_require_grad(false) }
        };
        Self {
            weight: param(1.0),
            bias: param(0.0),
            running_mean: RunningState::new(filled(0.0)),
            running_var: RunningState::new(filled(1.0 - EPSILON)),
        }
    }

    /// Returns the normalised x, `[batch, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (mean, variance) = (&self.running_mean, &self.running_var);
        let (weight, bias) = (self.weight.val(), self.bias.val());
        by_statistics(x, (mean.value_sync(), variance.value_sync()), (weight, bias))
    }
}

/// Group normalisation (Wu and He, "Group Normalization", 2018), with the mean and the biased
/// variance of each group of channels of each image.
#[derive(Module, Debug)]
pub struct GroupNorm2d {
    /// The scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    groups: usize,
}

impl GroupNorm2d {
    /// Makes the layer. `groups` has to divide the number of channels.
    pub fn new(groups: usize, channels: usize, device: &Device) -> Self {
        let filled = |value: f64| Param::from_tensor(Tensor::full([channels], value, device));
        Self { weight: filled(1.0), bias: filled(0.0), groups }
    }

    /// Returns the number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Returns the normalised x, `[batch, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let channels = x.dims()[1];
        let x = normalize_groups(x, self.groups);
        let per_channel = [1, channels, 1, 1];
        x * self.weight.val().reshape(per_channel) + self.bias.val().reshape(per_channel)
    }
}

/// Returns x with mean 0 and variance 1 in each group of channels of each image.
pub(crate) fn normalize_groups(x: Tensor<4>, groups: usize) -> Tensor<4> {
    let shape = x.dims();
    let [batch, channels, height, width] = shape;
    let flat = x.reshape([batch, groups, channels / groups * height * width]);
    let (variance, mean) = flat.clone().var_mean_bias(2);
    ((flat - mean) / (variance + EPSILON).sqrt()).reshape(shape)
}

/// Returns (x - mean)/sqrt(variance + eps)·weight + bias, with one multiplication and one addition
/// per element.
fn by_statistics(
    x: Tensor<4>,
    (mean, variance): (Tensor<1>, Tensor<1>),
    (weight, bias): (Tensor<1>, Tensor<1>),
) -> Tensor<4> {
    let device = x.device();
    let (mean, variance) = (mean.to_device(&device), variance.to_device(&device));
    let scale = weight / (variance + EPSILON).sqrt();
    let shift = bias - mean * scale.clone();
    let per_channel = [1, scale.dims()[0], 1, 1];
    x * scale.reshape(per_channel) + shift.reshape(per_channel)
}

/// y = (x - mean)/sqrt(var + eps)·weight + bias per channel (Ioffe and Szegedy 2015), with the
/// statistics of the batch in training and the running statistics in evaluation.
#[derive(Module, Debug)]
pub struct BatchNorm2d {
    /// The scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// The running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// The running unbiased variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether training uses and updates the statistics of the batch. `freeze` turns it off.
    pub training: Param<Flag>,
    /// Whether scale and shift come before the normalisation.
    #[module(skip)]
    pub reverse: bool,
    /// The sum over processes, if the batches of several processes are normalised together.
    #[module(skip)]
    pub sums: Option<SumOverProcesses>,
}

/// The sum of values over processes that train one network together. Each process gives the same
/// number of values and receives the sums.
#[derive(Clone)]
pub struct SumOverProcesses(Arc<dyn Fn(Vec<f32>) -> Vec<f32> + Send + Sync>);

impl SumOverProcesses {
    /// Makes the sum from a function that all processes call equally often and in the same order.
    pub fn new(sum: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sum))
    }

    /// Returns the sum over processes, differentiable. The gradients are summed over processes too,
    /// because the loss of every process counts.
    fn of(&self, x: Tensor<1>) -> Tensor<1> {
        let sum = Arc::clone(&self.0);
        mapped_on_host(x, move |values| sum(values))
    }
}

impl fmt::Debug for SumOverProcesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SumOverProcesses")
    }
}

/// The weight of the batch in the running statistics.
const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

impl BatchNorm2d {
    /// Makes the layer with scale 1, shift 0, running mean 0 and running variance 1.
    pub fn new(channels: usize, device: &Device) -> Self {
        let filled = |value: f64| Tensor::<1>::full([channels], value, device);
        Self {
            weight: Param::from_tensor(filled(1.0)),
            bias: Param::from_tensor(filled(0.0)),
            running_mean: RunningState::new(filled(0.0)),
            running_var: RunningState::new(filled(1.0)),
            training: Param::from_bool(true),
            reverse: false,
            sums: None,
        }
    }

    /// Returns the output of the layer.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// In training, if a channel has a single value, from one image at one position, because a
    /// single value has no variance. The trainer finds such a layer before training starts, and
    /// names it.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_add_relu(x, None, false)
    }

    /// Applies the layer, adds `residual`, which has the same shape, and applies a ReLU if
    /// `with_relu`. In training this is one pass over memory. The result has the type of the
    /// layer's parameters, and x may be of another type, such as that of a convolution's products.
    pub fn forward_add_relu(
        &self,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        with_relu: bool,
    ) -> Tensor<4> {
        let add_relu = |y: Tensor<4>, residual: Option<Tensor<4>>| {
            let y = match residual {
                Some(residual) => y + residual,
                None => y,
            };
            if with_relu { relu(y) } else { y }
        };
        let (mut weight, mut bias) = (self.weight.val(), self.bias.val());
        let output = weight.dtype().into();
        let trains = x.device().is_autodiff() && self.training.is_enabled();
        // Only the kernels of batch norms read another type than they write.
        let mut x = if trains && !self.reverse { x } else { x.cast(output) };
        if self.reverse {
            let per_channel = [1, weight.dims()[0], 1, 1];
            let (ones, zeros) = (weight.ones_like(), bias.zeros_like());
            x = x * weight.reshape(per_channel) + bias.reshape(per_channel);
            (weight, bias) = (ones, zeros);
        }
        if !trains {
            let statistics = (self.running_mean.value_sync(), self.running_var.value_sync());
            return add_relu(by_statistics(x, statistics, (weight, bias)), residual);
        }
        if let Some(sums) = &self.sums {
            let x = x.cast(output);
            return add_relu(self.normalize_together(x, (weight, bias), sums), residual);
        }
        let [batch, _, height, width] = x.dims();
        let elements = (batch * height * width) as f64;
        assert!(
            elements > 1.0,
            "batch norm of {} channels: one image of one position has no variance; train on at \
             least 2 images, or larger ones",
            self.weight.dims()[0],
        );
        let running = [self.running_mean.value_sync(), self.running_var.value_sync()];
        let call = NormCall {
            epsilon: EPSILON,
            residual,
            relu: with_relu,
            running: Some(running),
            momentum: MOMENTUM,
            output,
        };
        let found = normalized(x, (weight, bias), call);
        if let Some([mean, variance]) = found.running {
            self.running_mean.update(mean.detach());
            self.running_var.update(variance.detach());
        }
        found.batch.output
    }

    /// Normalises with the mean and the variance over the batches of all processes, weighted by
    /// their numbers of images.
    fn normalize_together(
        &self,
        x: Tensor<4>,
        (weight, bias): (Tensor<1>, Tensor<1>),
        sums: &SumOverProcesses,
    ) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let over_images = |x: Tensor<4>| x.sum_dims(&[0, 2, 3]).reshape([channels]);
        let count = Tensor::<1>::full([1], (batch * height * width) as f64, &x.device());
        let both = sums.of(Tensor::cat(vec![over_images(x.clone()), count], 0));
        let elements = both.clone().narrow(0, channels, 1).detach();
        let mean = both.narrow(0, 0, channels) / elements.clone();
        let centred = x - mean.clone().reshape([1, channels, 1, 1]);
        let squares = sums.of(over_images(centred.clone().powi_scalar(2)));
        let unbiased = squares.clone() / elements.clone().sub_scalar(1.0).clamp_min(1.0);
        update(&self.running_mean, mean);
        update(&self.running_var, unbiased);
        let scale = weight / (squares / elements + EPSILON).sqrt();
        let per_channel = [1, channels, 1, 1];
        centred * scale.reshape(per_channel) + bias.reshape(per_channel)
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
        // The mean is 2, the biased variance 5/4 and the unbiased variance 5/3.
        let x = Tensor::<1>::from_floats([0.5, 1.5, 2.5, 3.5], &device).reshape([2, 1, 1, 2]);
        norm.forward(x);
        let variance: f32 = norm.valid().running_var.value().into_scalar();
        assert!((variance - (0.9 + 0.1 * 5.0 / 3.0)).abs() < 1e-6, "{variance}");
    }

    #[should_panic(expected = "batch norm of 1 channels: one image of one position")]
    #[test]
    fn one_value_per_channel_is_refused() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm2d::new(1, &device);
        norm.forward(Tensor::full([1, 1, 1, 1], 3.0, &device));
    }

    #[test]
    fn two_equal_processes_normalise_as_one() {
        let device = Device::flex().autodiff();
        let x = [0.5f32, 1.5, 2.5, 3.5, -1.0, 0.25, 2.0, 7.0];
        let run = |doubled: bool| {
            let mut norm = BatchNorm2d::new(2, &device);
            let x = Tensor::<1>::from_floats(x, &device).reshape([1, 2, 2, 2]).require_grad();
            // The same images a second time, here or in another process that runs in step with
            // this one.
            let input =
                if doubled { Tensor::cat(vec![x.clone(), x.clone()], 0) } else { x.clone() };
            if !doubled {
                let twice = |values: Vec<f32>| values.into_iter().map(|v| 2.0 * v).collect();
                norm.sums = Some(SumOverProcesses::new(twice));
            }
            let y = norm.forward(input);
            let grads = (y.clone() * y.powi_scalar(2)).sum().backward();
            // The loss of one process is half of the total loss. Its images get both halves of the
            // gradient.
            let share = if doubled { 0.5 } else { 1.0 };
            let grad = x.grad(&grads).unwrap().mul_scalar(share).into_data();
            let weight = norm.weight.grad(&grads).unwrap().mul_scalar(share).into_data();
            let running = norm.valid().running_var.value().into_data();
            [grad, weight, running]
        };
        for (one, two) in run(false).into_iter().zip(run(true)) {
            one.assert_approx_eq::<f32>(&two, burn::tensor::Tolerance::absolute(1e-4));
        }
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
