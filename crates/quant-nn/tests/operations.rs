//! The operations against Burn's own, values and gradients.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use burn::tensor::{Device, Distribution, Tensor, Tolerance, module, ops::ConvOptions};
use proptest::prelude::*;
use quant_nn::ops::{batch_norm, conv2d};

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.3, 1.0), device)
}

/// Values, and gradients by all of `inputs`, of Σ g·y.
fn all<const N: usize>(
    y: Tensor<4>,
    g: Tensor<4>,
    inputs: [Gradient<'_>; N],
) -> Vec<burn::tensor::TensorData> {
    let grads = (y.clone() * g).sum().backward();
    let gradients = inputs.into_iter().map(|input| match input {
        Gradient::Of4(x) => x.grad(&grads).unwrap().into_data(),
        Gradient::Of1(x) => x.grad(&grads).unwrap().into_data(),
    });
    [y.into_data()].into_iter().chain(gradients).collect()
}

enum Gradient<'a> {
    Of4(&'a Tensor<4>),
    Of1(&'a Tensor<1>),
}

fn close(ours: Vec<burn::tensor::TensorData>, burns: Vec<burn::tensor::TensorData>) {
    for (ours, burns) in ours.into_iter().zip(burns) {
        let largest = burns.iter::<f32>().map(f32::abs).fold(1.0, f32::max);
        ours.assert_approx_eq::<f32>(&burns, Tolerance::absolute(2e-5 * largest));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn convolutions_are_burns(
        (batch, groups, inputs, outputs) in (1..9usize, 1..3usize, 1..20usize, 1..40usize),
        (side, kernel, stride) in
            (1..34usize, prop_oneof![Just(1usize), Just(3), Just(5), Just(7)], 1..3usize),
        transposed: bool,
    ) {
        let device = Device::flex().autodiff();
        let side = side.max(kernel / 2 + 1);
        let options = || ConvOptions::new([stride; 2], [kernel / 2; 2], [1; 2], groups);
        let mut x = random([batch, inputs * groups, side, side + 1], &device);
        if transposed {
            // Not contiguous.
            x = random([batch, inputs * groups, side + 1, side], &device).swap_dims(2, 3);
        }
        let x = x.require_grad();
        let w = random([outputs * groups, inputs, kernel, kernel], &device).require_grad();
        let burns = module::conv2d(x.clone(), w.clone(), None, options());
        let g = random(burns.dims(), &device);
        let burns = all(burns, g.clone(), [Gradient::Of4(&x), Gradient::Of4(&w)]);
        let ours = conv2d(x.clone(), w.clone(), options());
        close(all(ours, g, [Gradient::Of4(&x), Gradient::Of4(&w)]), burns);
    }

    #[test]
    fn batch_norms_are_burns(
        (batch, channels, height, width) in (2..9usize, 1..20usize, 1..20usize, 1..20usize),
        transposed: bool,
    ) {
        let device = Device::flex().autodiff();
        let mut x = random([batch, channels, height, width], &device);
        if transposed {
            x = random([batch, channels, width, height], &device).swap_dims(2, 3);
        }
        let x = x.require_grad();
        let w = random([channels], &device).require_grad();
        let b = random([channels], &device).require_grad();
        let g = random([batch, channels, height, width], &device);
        let inputs = || [Gradient::Of4(&x), Gradient::Of1(&w), Gradient::Of1(&b)];
        let burns = module::batch_norm_train(x.clone(), w.clone(), b.clone(), 1e-2);
        let ours = batch_norm(x.clone(), w.clone(), b.clone(), 1e-2);
        let of = |mean: Tensor<1>, variance: Tensor<1>| {
            vec![mean.into_data(), variance.into_data()]
        };
        close(of(ours.mean, ours.variance), of(burns.mean, burns.variance));
        close(all(ours.output, g.clone(), inputs()), all(burns.output, g, inputs()));
    }
}
