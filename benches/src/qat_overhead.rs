//! What quantization costs: a training step (forward, backward, update) of CIFAR Network-20, quantized
//! over full precision, on the CPU.

use std::{error::Error, time::Instant};

use burn::{
    nn::loss::CrossEntropyLossConfig,
    tensor::{Device, Distribution, Int, Tensor},
};
use quant_core::{Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    Network, Quantization, ResNetConfig,
    resnet::{Depth, Stem},
};
use quant_train::optimizer::{GroupRules, Optimizer, Optimizers, clipped_gradients};

use crate::{Row, median};

const BATCH: usize = 128;

struct Side {
    name: &'static str,
    network: Network,
    optimizers: Optimizers,
    seconds: Vec<f64>,
}

pub(crate) fn measure(rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let quantized = |activation, weight| -> Result<Quantization, Box<dyn Error>> {
        let bits = Levels::from_bits(2)?;
        Ok(Quantization {
            activation: Some(QuantizerConfig::new(activation, Role::Activation, bits)),
            weight: Some(QuantizerConfig::new(weight, Role::Weight, bits)),
            ..Quantization::default()
        })
    };
    let mut sides = vec![
        side("full-precision", Quantization::default(), &device)?,
        side("lsq-w2a2", quantized(Method::Lsq, Method::Lsq)?, &device)?,
        side("dorefa-w2a2", quantized(Method::Dorefa, Method::Dorefa)?, &device)?,
        side("pact-w2a2", quantized(Method::Pact, Method::Dorefa)?, &device)?,
    ];
    let images = Tensor::<4>::random([BATCH, 3, 32, 32], Distribution::Default, &device);
    let labels: Vec<i64> = (0..BATCH as i64).map(|index| index % 10).collect();
    let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &device);
    // The first round warms up.
    for round in 0..=rounds {
        for side in &mut sides {
            let seconds = side.step(images.clone(), labels.clone());
            if round > 0 {
                side.seconds.push(seconds);
            }
        }
    }
    let full = sides[0].seconds.clone();
    let mut rows = vec![Row {
        name: "full-precision".into(),
        value: median(full.clone()),
        unit: "s/step",
        target: String::new(),
    }];
    rows.extend(sides[1..].iter().map(|side| {
        let ratios = side.seconds.iter().zip(&full).map(|(quantized, full)| quantized / full);
        Row {
            name: side.name.into(),
            value: median(ratios.collect()),
            unit: "x full precision",
            target: "at most 1.5".into(),
        }
    }));
    Ok(rows)
}

fn side(
    name: &'static str,
    quantization: Quantization,
    device: &Device,
) -> Result<Side, Box<dyn Error>> {
    let config = ResNetConfig {
        width_alpha: 0.25,
        quantization,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
    };
    let network = config.init(device)?;
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true };
    let optimizers = Optimizers::new(sgd, &GroupRules::default(), &network);
    Ok(Side { name, network, optimizers, seconds: Vec::new() })
}

impl Side {
    fn step(&mut self, images: Tensor<4>, labels: Tensor<1, Int>) -> f64 {
        let start = Instant::now();
        let scores = self.network.forward(images);
        let loss = CrossEntropyLossConfig::new().init(&scores.device()).forward(scores, labels);
        let grads = clipped_gradients(loss.backward(), &self.network, None);
        let network = self.network.clone();
        self.network = self.optimizers.step(0.01, network, grads);
        start.elapsed().as_secs_f64()
    }
}
