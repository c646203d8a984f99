//! Measures the passes of convolutions relative to those of Burn's CPU backend, for the shapes of
//! the networks.

use std::{error::Error, time::Instant};

use burn::tensor::{Device, Distribution, Tensor, module, ops::ConvOptions};

use crate::{Row, median};

/// The shapes: batch, input channels, output channels, side, kernel size, stride, groups.
const SHAPES: [[usize; 7]; 11] = [
    [64, 3, 16, 32, 3, 1, 1],
    [64, 16, 16, 32, 3, 1, 1],
    [64, 16, 32, 32, 3, 2, 1],
    [64, 32, 32, 16, 3, 1, 1],
    [64, 64, 64, 8, 3, 1, 1],
    [8, 3, 64, 224, 7, 2, 1],
    [8, 64, 64, 56, 3, 1, 1],
    [8, 64, 128, 56, 1, 2, 1],
    [8, 256, 256, 14, 3, 1, 1],
    [8, 512, 512, 7, 3, 1, 1],
    [8, 64, 64, 56, 3, 1, 64],
];

type Convolution = fn(Tensor<4>, Tensor<4>, ConvOptions<2>) -> Tensor<4>;

pub(crate) fn measure(rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for shape in SHAPES {
        let sides: [Convolution; 2] =
            [quant_nn::ops::conv2d, |x, w, options| module::conv2d(x, w, None, options)];
        let mut seconds = [const { Vec::new() }; 2];
        // The first round is a warm-up.
        for round in 0..=rounds {
            for (side, seconds) in sides.iter().zip(&mut seconds) {
                let times = time(*side, shape);
                if round > 0 {
                    seconds.push(times);
                }
            }
        }
        let [batch, inputs, outputs, side, kernel, stride, groups] = shape;
        for (pass, label) in ["forward", "backward"].into_iter().enumerate() {
            let name =
                format!("{label} {batch}x{inputs}-{outputs} {side} k{kernel} s{stride} g{groups}");
            let of =
                |side: usize| median(seconds[side].iter().map(|s: &[f64; 2]| s[pass]).collect());
            let (ours, burns) = (of(0), of(1));
            let target = format!("{:.2} ms", 1e3 * ours);
            rows.push(Row { name, value: ours / burns, unit: "x Burn's time", target });
        }
    }
    Ok(rows)
}

/// Returns the seconds of the forward and the backward pass.
fn time(
    convolution: Convolution,
    [batch, inputs, outputs, side, kernel, stride, groups]: [usize; 7],
) -> [f64; 2] {
    let device = Device::flex().autodiff();
    let random = |shape: [usize; 4]| {
        Tensor::<4>::random(shape, Distribution::Default, &device).require_grad()
    };
    let x = random([batch, inputs, side, side]);
    let w = random([outputs, inputs / groups, kernel, kernel]);
    let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1; 2], groups);
    let start = Instant::now();
    let y = convolution(x, w, options);
    let forward = start.elapsed().as_secs_f64();
    let loss = y.sum();
    let start = Instant::now();
    loss.backward();
    [forward, start.elapsed().as_secs_f64()]
}
