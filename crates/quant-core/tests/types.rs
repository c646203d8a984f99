//! Values in 16 bits, in which they are multiplied next.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use common::{COUNT, SHAPE, configs, host, make, tensor};
use proptest::prelude::*;
use quant_core::QuantizerConfig;

/// The values of a training call, the gradient of its input, and those of the learned parameters.
struct Outcome {
    y: Tensor<4>,
    x_gradient: Tensor<4>,
    learned: Vec<Vec<f32>>,
}

fn run(config: &QuantizerConfig, x: &[f32], outer: &[f32], output: Option<FloatDType>) -> Outcome {
    let device = Device::flex().autodiff();
    let quantizer = make(config, SHAPE, &device);
    let x = tensor(x, SHAPE, &device).require_grad();
    let y = match output {
        Some(output) => quantizer.forward_as(x.clone(), output),
        None => quantizer.forward(x.clone()),
    };
    let outer = tensor(outer, SHAPE, &device).cast(FloatDType::from(y.dtype()));
    let gradients = (y.clone() * outer).sum().backward();
    let learned = quantizer
        .learned()
        .into_iter()
        .map(|learned| learned.value.val().grad(&gradients).map(host).unwrap_or_default());
    let (y, x_gradient) = (y.inner(), x.grad(&gradients).unwrap());
    Outcome { y, x_gradient, learned: learned.collect() }
}

proptest! {
    #![proptest_config(common::cases())]

    /// Values are rounded once, from 32 bits, and gradients are those of 32 bits for a gradient
    /// that 16 bits hold.
    #[test]
    fn values_are_rounded_once_and_gradients_have_32_bits(
        config in configs(),
        x in prop::collection::vec(-1.5f32..1.5, COUNT),
        eighths in prop::collection::vec(-16i8..16, COUNT),
        half: bool,
    ) {
        let dtype = if half { FloatDType::F16 } else { FloatDType::BF16 };
        let outer: Vec<f32> = eighths.iter().map(|eighth| f32::from(*eighth) / 8.0).collect();
        let ours = run(&config, &x, &outer, Some(dtype));
        let exact = run(&config, &x, &outer, None);
        prop_assert_eq!(ours.y.dtype(), DType::from(dtype));
        prop_assert_eq!(host(ours.y), host(exact.y.cast(dtype)));
        prop_assert_eq!(ours.x_gradient.dtype(), DType::F32);
        prop_assert_eq!(host(ours.x_gradient), host(exact.x_gradient));
        prop_assert_eq!(ours.learned, exact.learned);
    }
}
