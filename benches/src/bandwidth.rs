//! Measures a quantizer alone, forward and backward: the bytes that must be read and written,
//! divided by the time, relative to the bandwidth of copying memory. On a GPU, an operation that
//! reads and writes each number once takes the place of the copy.

use std::{error::Error, hint::black_box, time::Instant};

use burn::tensor::{Device, Distribution, Tensor};
use quant_core::{Levels, Method, QuantizerConfig, Role, Site};

use crate::{Row, median};

/// The shape of an activation of ResNet-18 with batch size 16.
const SHAPE: [usize; 4] = [16, 64, 56, 56];

pub(crate) fn measure(device: &Device, rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let is_cpu = *device == Device::flex();
    let device = device.clone().autodiff();
    let mut rows = Vec::new();
    for method in Method::ALL.iter().copied() {
        let name = format!("{method:?}");
        let levels = if method == Method::XNOR { 2 } else { 4 };
        let config = QuantizerConfig::new(method, Role::Activation, Levels::new(levels)?);
        // The method is for weights only.
        if config.nearest().method != method {
            continue;
        }
        let quantizer = config.init(&Site::activation(name.as_str(), SHAPE[1]), &device)?;
        let x = Tensor::<4>::random(SHAPE, Distribution::Default, &device).require_grad();
        let bytes = (SHAPE.iter().product::<usize>() * size_of::<f32>()) as f64;
        let (mut shares, mut source) = (Vec::new(), vec![1u8; bytes as usize]);
        let mut copy = source.clone();
        // The first round is a warm-up.
        for round in 0..=rounds {
            source[round] ^= 1;
            let fixed = x.clone().inner();
            device.sync()?;
            let start = Instant::now();
            if is_cpu {
                copy.copy_from_slice(black_box(&source));
                black_box(&copy);
            } else {
                let _copy = fixed.neg();
                device.sync()?;
            }
            let copying = 2.0 * bytes / start.elapsed().as_secs_f64();
            let start = Instant::now();
            let y = quantizer.forward(x.clone());
            device.sync()?;
            let forward = start.elapsed().as_secs_f64();
            // The gradient of the sum is computed between the two measurements.
            let loss = y.sum();
            device.sync()?;
            let start = Instant::now();
            drop(loss.backward());
            device.sync()?;
            // The forward pass reads x and writes y. In the backward pass, g is written, x and g
            // are read, and the gradient is written.
            let quantizing = 6.0 * bytes / (forward + start.elapsed().as_secs_f64());
            if round > 0 {
                shares.push(quantizing / copying);
            }
        }
        let name = format!("{name}, forward and backward");
        rows.push(Row::new(&name, median(shares), "x a copy's GB/s", "at least 0.7"));
    }
    Ok(rows)
}
