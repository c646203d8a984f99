//! Measures the passes of convolutions: on the CPU relative to those of Burn's backend, for the
//! shapes of the networks; on a GPU those of Burn, which the networks use there, for the shapes of
//! ResNet-18 in images of 224 pixels, relative to PyTorch's if its times are given.

use std::{error::Error, path::Path, time::Instant};

use burn::{
    backend::{Dispatch, ops::ModuleOps},
    tensor::{
        Device, Distribution, FloatDType, Tensor,
        module::{conv2d, conv2d_weight_backward},
        ops::ConvOptions,
    },
};
use quant_nn::layers::Compute;

use crate::{Row, median, pytorch::Pytorch};

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

/// The shapes of ResNet-18: input channels, output channels, side, kernel size, stride.
const RESNET18: [[usize; 5]; 11] = [
    [3, 64, 224, 7, 2],
    [64, 64, 56, 3, 1],
    [64, 128, 56, 3, 2],
    [64, 128, 56, 1, 2],
    [128, 128, 28, 3, 1],
    [128, 256, 28, 3, 2],
    [128, 256, 28, 1, 2],
    [256, 256, 14, 3, 1],
    [256, 512, 14, 3, 2],
    [256, 512, 14, 1, 2],
    [512, 512, 7, 3, 1],
];

/// The number of calls that are timed at once on a GPU.
const CALLS: usize = 10;

type Convolution = fn(Tensor<4>, Tensor<4>, ConvOptions<2>) -> Tensor<4>;

/// Measures the passes on the CPU.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for shape in SHAPES {
        let sides: [Convolution; 2] =
            [quant_nn::ops::conv2d, |x, w, options| conv2d(x, w, None, options)];
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

/// Measures the passes on a GPU, with tensors in the order of memory of its convolutions, in which
/// the channels of a pixel lie side by side.
pub(crate) fn measure_on_gpu(
    (device, compute): (&Device, Compute),
    batch: usize,
    rounds: usize,
    pytorch: Option<&Path>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let read = |path| Pytorch::read(path, (false, compute), Some(batch));
    let pytorch = pytorch.map(read).transpose()?;
    let dtype = match compute {
        Compute::F32 => FloatDType::F32,
        Compute::F16 => FloatDType::F16,
        Compute::Bf16 => FloatDType::BF16,
    };
    let mut rows = Vec::new();
    for [inputs, outputs, side, kernel, stride] in RESNET18 {
        let random = |[images, channels, height, width]: [usize; 4]| {
            let shape = [images, height, width, channels];
            let pixels = Tensor::<4>::random(shape, Distribution::Default, device);
            pixels.permute([0, 3, 1, 2]).cast(dtype)
        };
        let after = side.div_ceil(stride);
        let x = random([batch, inputs, side, side]);
        let w = random([outputs, inputs, kernel, kernel]);
        let g = random([batch, outputs, after, after]);
        let options = || ConvOptions::new([stride; 2], [kernel / 2; 2], [1; 2], 1);
        let forward = || conv2d(x.clone(), w.clone(), None, options());
        let of_x = || {
            let [x, w, g] = [&x, &w, &g].map(|tensor| tensor.clone().into_dispatch());
            Tensor::from_dispatch(Dispatch::conv2d_x_backward(x, w, g, options()))
        };
        let of_w = || conv2d_weight_backward(x.clone(), w.clone(), g.clone(), options());
        let passes: [(&str, &dyn Fn() -> Tensor<4>); 3] =
            [("forward", &forward), ("gradient of x", &of_x), ("gradient of w", &of_w)];
        let mut seconds = [const { Vec::new() }; 3];
        // The first round tries which kernels are the fastest.
        for round in 0..=rounds {
            for ((_, pass), seconds) in passes.iter().zip(&mut seconds) {
                device.sync()?;
                let start = Instant::now();
                (0..CALLS).for_each(|_| drop(pass()));
                device.sync()?;
                if round > 0 {
                    seconds.push(start.elapsed().as_secs_f64() / CALLS as f64);
                }
            }
        }
        let products = batch * outputs * after * after * inputs * kernel * kernel;
        for ((pass, _), seconds) in passes.iter().zip(seconds) {
            let name = format!("conv {inputs}-{outputs} {side} k{kernel} s{stride}, {pass}");
            let time = median(seconds);
            let target = format!("{:.2} TFLOP/s", 2e-12 * products as f64 / time);
            rows.push(Row::new(&name, 1e3 * time, "ms", &target));
            rows.extend(pytorch.as_ref().and_then(|file| file.row(&name, time, "")));
        }
    }
    Ok(rows)
}
