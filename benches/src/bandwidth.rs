//! Measures a quantizer alone, forward and backward: the bytes that must be read and written,
//! divided by the time, relative to the bandwidth of copying memory. On a GPU, an operation that
//! reads and writes each number once takes the place of the copy, the tensor is that of a batch of
//! 256, and each time is that of 50 calls, because waiting for the device takes as long as a call.

use std::{error::Error, hint::black_box, time::Instant};

use burn::tensor::{Device, Distribution, Tensor};
use quant_core::{Levels, Method, QuantizerConfig, Role, Site};

use crate::{Row, median};

/// Returns the shape of an activation of ResNet-18, and the number of calls that are timed at once.
fn size(is_cpu: bool) -> ([usize; 4], usize) {
    if is_cpu { ([16, 64, 56, 56], 1) } else { ([256, 64, 56, 56], 50) }
}

pub(crate) fn measure(device: &Device, rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let is_cpu = *device == Device::flex();
    let (shape, calls) = size(is_cpu);
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
        let quantizer = config.init(&Site::activation(name.as_str(), shape[1]), &device)?;
        let x = Tensor::<4>::random(shape, Distribution::Default, &device).require_grad();
        let bytes = (shape.iter().product::<usize>() * size_of::<f32>()) as f64;
        let copied = if is_cpu { bytes as usize } else { rounds + 1 };
        let (mut shares, mut source) = (Vec::new(), vec![1u8; copied]);
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
                (0..calls).for_each(|_| drop(fixed.clone().neg()));
                device.sync()?;
            }
            let copying = 2.0 * bytes * calls as f64 / start.elapsed().as_secs_f64();
            let start = Instant::now();
            let mut y = quantizer.forward(x.clone());
            for _ in 1..calls {
                y = quantizer.forward(x.clone());
            }
            device.sync()?;
            let forward = start.elapsed().as_secs_f64();
            // The gradients of the sums are computed between the two measurements.
            let mut losses = vec![y.sum()];
            losses.extend((1..calls).map(|_| quantizer.forward(x.clone()).sum()));
            device.sync()?;
            let start = Instant::now();
            losses.into_iter().for_each(|loss| drop(loss.backward()));
            device.sync()?;
            // The forward pass reads x and writes y. In the backward pass, g is written, x and g
            // are read, and the gradient is written.
            let seconds = forward + start.elapsed().as_secs_f64();
            let quantizing = 6.0 * bytes * calls as f64 / seconds;
            if round > 0 {
                shares.push(quantizing / copying);
            }
        }
        let name = format!("{name}, forward and backward");
        rows.push(Row::new(&name, median(shares), "x a copy's GB/s", "at least 0.7"));
    }
    Ok(rows)
}
