//! Measures the cost of quantization: the time and memory of a quantized training step (forward,
//! backward, update) relative to full precision, on any device. If PyTorch's times are given, the
//! steps are compared with them too. The first step of a network is reported apart, because a GPU's
//! kernels are compiled and chosen in it; a time there is that of ten steps between two waits for
//! the device.
//!
//! The memory of the CPU is the largest number of bytes held during a step; that of a GPU is what
//! the forward pass keeps for the backward pass, which is when a step holds the most. On a GPU, the
//! launches of one more step are counted and timed one by one, and the kernels listed that take a
//! large part of it.

use std::{error::Error, path::Path, time::Instant};

use burn::{
    nn::loss::CrossEntropyLossConfig,
    tensor::{Device, Distribution, Int, Tensor},
};
use quant_core::{Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    Network, Quantization, ResNetConfig,
    layers::Compute,
    ops::channels_last,
    resnet::{Depth, Stem},
};
use quant_train::optimizer::{GroupRules, Optimizer, Optimizers, clipped_gradients};

#[cfg(feature = "cube")]
use crate::launches::{Launches, is_ours, launches, short, sum};
use crate::{Row, median, memory, pytorch::Pytorch};

/// The network and batch size of a benchmark.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Task {
    /// CIFAR ResNet-20 with batch size 128.
    Cifar,
    /// ImageNet ResNet-18.
    ImageNet {
        /// Number of images of a step.
        batch: usize,
    },
}

impl Task {
    /// Returns the number of images, their side in pixels, and the number of classes.
    fn sizes(self) -> [usize; 3] {
        match self {
            Task::Cifar => [128, 32, 10],
            Task::ImageNet { batch } => [batch, 224, 1000],
        }
    }

    fn config(self, quantization: Quantization) -> ResNetConfig {
        let [_, side, classes] = self.sizes();
        match self {
            Task::Cifar => ResNetConfig {
                width_alpha: 0.25,
                quantization,
                ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, classes, side)
            },
            Task::ImageNet { .. } => ResNetConfig {
                quantization,
                ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, classes, side)
            },
        }
    }

    /// Returns the prefix of the names in rows and in PyTorch's file.
    fn prefix(self) -> &'static str {
        match self {
            Task::Cifar => "",
            Task::ImageNet { .. } => "imagenet-",
        }
    }
}

struct Side {
    name: String,
    network: Network,
    optimizers: Optimizers,
    target: &'static str,
    /// The time of the first step.
    first: f64,
    /// The times of the steps after it.
    seconds: Vec<f64>,
    /// On the CPU the largest number of bytes held during a step, on a GPU those held between the
    /// forward and the backward pass; without those held before the step.
    bytes: usize,
}

/// The number of steps that are timed at once on a GPU.
const STEPS: usize = 10;

pub(crate) fn measure(
    task: Task,
    (device, compute): (&Device, Compute),
    rounds: usize,
    pytorch: Option<&Path>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let (is_cpu, device) = (*device == Device::flex(), device.clone().autodiff());
    let [batch, size, classes] = task.sizes();
    let chosen = matches!(task, Task::ImageNet { .. }).then_some(batch);
    let read = |path| Pytorch::read(path, (is_cpu, compute), chosen);
    let pytorch = pytorch.map(read).transpose()?;
    let quantized = |activation, weight, levels: Levels| Quantization {
        activation: Some(QuantizerConfig::new(activation, Role::Activation, levels)),
        weight: Some(QuantizerConfig::new(weight, Role::Weight, levels)),
        ..Quantization::default()
    };
    let (one, two) = (Levels::from_bits(1)?, Levels::from_bits(2)?);
    let on = (&device, compute);
    let mut sides = vec![side(task, "full-precision", Quantization::default(), "", on)?];
    for (name, activation, weight, levels, target) in [
        ("lsq-w2a2", Method::Lsq, Method::Lsq, two, "at most 1.10"),
        ("dorefa-w2a2", Method::Dorefa, Method::Dorefa, two, "at most 1.10"),
        ("pact-w2a2", Method::Pact, Method::Dorefa, two, "at most 1.10"),
        ("xnor-w1a1", Method::XNOR, Method::XNOR, one, "at most 1.10"),
        ("fatnn-ternary", Method::FATNN, Method::FATNN, Levels::TERNARY, "at most 1.25"),
        ("lq-nets-w2a2", Method::LQ_NETS, Method::LQ_NETS, two, "at most 1.25"),
    ] {
        if task == Task::Cifar || activation == Method::Lsq || !is_cpu {
            sides.push(side(task, name, quantized(activation, weight, levels), target, on)?);
        }
    }
    let images = Tensor::<4>::random([batch, 3, size, size], Distribution::Default, &device);
    let labels: Vec<i64> = (0..batch as i64).map(|index| index % classes as i64).collect();
    let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &device);
    // The first round is a warm-up.
    for round in 0..=rounds {
        for side in &mut sides {
            let steps = if is_cpu || round == 0 { 1 } else { STEPS };
            let seconds = side.steps(steps, &images, &labels)?;
            if round > 0 {
                side.seconds.push(seconds);
            } else {
                side.first = seconds;
            }
        }
    }
    if !is_cpu {
        for side in &mut sides {
            side.bytes = side.kept(&images, &labels)?;
        }
    }
    let full = sides[0].seconds.clone();
    let mut rows = Vec::new();
    for side in &sides {
        let quantized = !side.name.ends_with("full-precision");
        let ratios = side.seconds.iter().zip(&full).map(|(quantized, full)| quantized / full);
        rows.push(if quantized {
            Row::new(&side.name, median(ratios.collect()), "x full precision", side.target)
        } else {
            Row::new(&side.name, median(full.clone()), "s/step", "")
        });
        if !is_cpu {
            let name = format!("{}, first step", side.name);
            rows.push(Row::new(&name, side.first, "s", ""));
            let name = format!("{}, images", side.name);
            let images = batch as f64 / median(side.seconds.clone());
            rows.push(Row::new(&name, images, "images/s", ""));
        }
        if quantized {
            let (memory, target) = if is_cpu {
                ("peak memory", "at most 1.15")
            } else {
                ("memory kept", "at most 1.1")
            };
            let ratio = side.bytes as f64 / sides[0].bytes as f64;
            let name = format!("{}, {memory}", side.name);
            rows.push(Row::new(&name, ratio, "x full precision", target));
        }
    }
    #[cfg(feature = "cube")]
    if !is_cpu {
        for side in &mut sides {
            rows.extend(kernels(side, &images, &labels)?);
        }
    }
    for side in &sides {
        let full = side.name.ends_with("full-precision");
        let target = if full { "at most 1.0" } else { "at most 0.9" };
        let time = median(side.seconds.clone());
        rows.extend(pytorch.as_ref().and_then(|pytorch| pytorch.row(&side.name, time, target)));
    }
    Ok(rows)
}

/// Returns the launches of a step and their time, and the kernels that take at least 2 % of it.
#[cfg(feature = "cube")]
fn kernels(
    side: &mut Side,
    images: &Tensor<4>,
    labels: &Tensor<1, Int>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let kernels = launches(|| side.steps(1, images, labels).map(drop))?;
    let ours = sum(kernels.iter().filter(|(name, _)| is_ours(name)).map(|(_, kernel)| kernel));
    let all = sum(kernels.values());
    let row =
        |name: &str, value, unit| Row::new(&format!("{}, {name}", side.name), value, unit, "");
    let percent = |kernel: Launches| 100.0 * kernel.seconds / all.seconds;
    let mut rows = vec![
        row("launches", all.count as f64, ""),
        row("launches of this project", ours.count as f64, ""),
        row("kernels", all.seconds, "s, one at a time"),
        row("kernels of this project", percent(ours), "% of the kernels"),
    ];
    let mut large: Vec<_> = kernels.iter().filter(|(_, kernel)| percent(**kernel) >= 2.0).collect();
    large.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    rows.extend(large.into_iter().map(|(name, kernel)| {
        let name = format!("{} launches of {}", kernel.count, short(name));
        row(&name, percent(*kernel), "% of the kernels")
    }));
    Ok(rows)
}

fn side(
    task: Task,
    name: &'static str,
    quantization: Quantization,
    target: &'static str,
    (device, compute): (&Device, Compute),
) -> Result<Side, Box<dyn Error>> {
    let name = format!("{}{name}", task.prefix());
    let network = channels_last(task.config(quantization).init(device)?.with_compute(compute));
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true };
    let optimizers = Optimizers::new(sgd, &GroupRules::default(), &network);
    Ok(Side { name, network, optimizers, target, first: 0.0, seconds: Vec::new(), bytes: 0 })
}

impl Side {
    /// Performs this many steps, and returns the seconds of one.
    fn steps(
        &mut self,
        count: usize,
        images: &Tensor<4>,
        labels: &Tensor<1, Int>,
    ) -> Result<f64, Box<dyn Error>> {
        let device = images.device();
        device.sync()?;
        let held = memory::watch();
        let start = Instant::now();
        for _ in 0..count {
            let loss = self.loss(images, labels);
            let grads = clipped_gradients(loss.backward(), &self.network, None);
            let network = self.network.clone();
            self.network = self.optimizers.step(0.01, network, grads);
        }
        device.sync()?;
        let seconds = start.elapsed().as_secs_f64() / count as f64;
        self.bytes = memory::peak() - held;
        Ok(seconds)
    }

    fn loss(&self, images: &Tensor<4>, labels: &Tensor<1, Int>) -> Tensor<1> {
        let scores = self.network.forward(images.clone());
        CrossEntropyLossConfig::new().init(&images.device()).forward(scores, labels.clone())
    }

    /// Returns the bytes on a GPU that a forward pass keeps for the backward pass.
    fn kept(&self, images: &Tensor<4>, labels: &Tensor<1, Int>) -> Result<usize, Box<dyn Error>> {
        let device = images.device();
        let held = || {
            device.sync()?;
            let usage = device.memory_pool_usage().ok_or("the device does not count its memory")?;
            Ok::<u64, Box<dyn Error>>(usage.bytes_in_use)
        };
        let before = held()?;
        let loss = self.loss(images, labels);
        let bytes = held()?.saturating_sub(before);
        drop(loss);
        Ok(bytes as usize)
    }
}
