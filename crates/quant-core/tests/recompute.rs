//! Quantized values are computed again in the backward pass, and every operation that uses them
//! gets the values of the forward pass, however often it asks.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::{Device, Distribution, Gradients, Tensor, module::conv2d, ops::ConvOptions};
use common::{config, host, make};
use proptest::prelude::*;
use quant_core::{Method, Quantizer, Role, ops::padded};

const SHAPE: [usize; 4] = [2, 3, 5, 4];

/// Returns the gradients of x, of the weight and of every learned parameter.
fn gradients(
    gradients: &Gradients,
    x: &Tensor<4>,
    weight: &Tensor<4>,
    quantizer: &Quantizer,
) -> Vec<Vec<f32>> {
    let learned = quantizer.learned().into_iter().map(|l| l.value.val().grad(gradients).map(host));
    [x.grad(gradients).map(host), weight.grad(gradients).map(host)]
        .into_iter()
        .chain(learned)
        .flatten()
        .collect()
}

/// Applies operations that follow a quantizer: products with its values, which need them in the
/// backward pass, and convolutions, which need them for the gradient of their weight.
fn consumed(y: Tensor<4>, weight: Tensor<4>, uses: usize) -> Tensor<1> {
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let parts = (0..uses).map(|_| {
        let z = conv2d(y.clone(), weight.clone(), None, options());
        (z * y.clone().slice([0..2, 0..3])).sum()
    });
    parts.reduce(|sum, part| sum + part).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..common::cases() })]

    /// The expected gradients come from the same graph with the quantizer's values as constants.
    /// The gradient that reaches these is then passed to the quantizer.
    #[test]
    fn consumers_see_the_values_of_forward(
        method in prop::sample::select(Method::ALL.to_vec()),
        uses in 1usize..4,
        pad: bool,
        twice: bool,
        checkpointing: bool,
    ) {
        let config = config(method, Role::Activation, 4);
        let device = Device::flex().autodiff();
        let device = if checkpointing { device.gradient_checkpointing() } else { device };
        let quantizer = make(&config, SHAPE, &device);
        let plain = make(&common::config(Method::Lsq, Role::Activation, 4), SHAPE, &device);
        let x = Tensor::<4>::random(SHAPE, Distribution::Normal(0.3, 0.7), &device).require_grad();
        let weight = Tensor::<4>::random([3, 3, 3, 3], Distribution::Default, &device);
        let weight = weight.require_grad();

        let quantized = |x: Tensor<4>| {
            let x = if pad { padded(x, 1) } else { x };
            let y = if twice { plain.forward(x) } else { x };
            quantizer.forward(y)
        };
        // LQ-Nets' basis changes in each training call, so it is set back to its value before the
        // call.
        let frozen = quantizer.running().into_iter().map(|(name, v)| (name, host(v)));
        let frozen: Vec<_> = frozen.collect();
        let restore = || frozen.iter().for_each(|(name, v)| { quantizer.set_running(name, v); });

        let y = quantized(x.clone());
        restore();
        let reached = Tensor::<4>::from_data(y.clone().detach().into_data(), &device);
        let reached = reached.require_grad();
        let ours = consumed(y, weight.clone(), uses).backward();
        let ours = gradients(&ours, &x, &weight, &quantizer);

        let apart = consumed(reached.clone(), weight.clone(), uses).backward();
        let arrived = Tensor::<4>::from_data(reached.grad(&apart).unwrap().into_data(), &device);
        let by_weight = weight.grad(&apart).map(host).unwrap();
        let y = quantized(x.clone());
        let theirs = (y * arrived).sum().backward();
        let mut theirs = gradients(&theirs, &x, &weight, &quantizer);
        theirs.insert(1, by_weight);
        prop_assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            for (a, b) in ours.iter().zip(theirs) {
                prop_assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
            }
        }
    }
}

/// Images are not part of a graph, so their quantized values are kept.
#[test]
fn constants_can_be_quantized_for_what_is_learned() {
    let device = Device::flex().autodiff();
    let quantizer = make(&config(Method::Dorefa, Role::Activation, 4), SHAPE, &device);
    let x = Tensor::<4>::random(SHAPE, Distribution::Default, &device);
    let weight = Tensor::<4>::random([3, 3, 3, 3], Distribution::Default, &device).require_grad();
    let y = quantizer.forward(padded(x, 1));
    let gradients = consumed(y, weight.clone(), 1).backward();
    assert!(weight.grad(&gradients).is_some());
}
