//! What single methods promise beyond `properties.rs`: gradients against their surrogates, masks, and
//! that what is learned from data is learned.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::Device;
use common::{host, make, tensor};
use proptest::prelude::*;
use quant_core::{
    Estimator, Granularity, Levels, Method, Quantizer, QuantizerConfig, Range, Role, SignScale,
    quantizer::MethodModule,
};

const SHAPE: [usize; 4] = [2, 4, 3, 3];
const COUNT: usize = 72;

fn config(method: Method, role: Role, levels: usize) -> QuantizerConfig {
    QuantizerConfig::new(method, role, Levels::new(levels).unwrap())
}

/// Gradient of sum(y·grad) by the input.
fn input_gradient(quantizer: &Quantizer, x: &[f32], grad: &[f32], shape: [usize; 4]) -> Vec<f32> {
    let device = Device::flex().autodiff();
    let input = tensor(x, shape, &device).require_grad();
    let loss = (quantizer.forward(input.clone()) * tensor(grad, shape, &device)).sum();
    host(input.grad(&loss.backward()).unwrap())
}

proptest! {
    /// FATNN's surrogate keeps each piece's rounding error e: y = Σ clamp((x - o_i)·α_i) + e_i.
    #[test]
    fn fatnn_gradients_are_those_of_the_surrogate(
        x in prop::collection::vec(-1.0f32..6.0, COUNT),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
        alphas in prop::collection::vec(0.4f32..2.0, 3),
        levels in 2usize..=4,
    ) {
        let device = Device::flex().autodiff();
        let mut quantizer = make(&config(Method::Fatnn, Role::Activation, levels), SHAPE, &device);
        for (index, alpha) in alphas.iter().take(levels - 1).enumerate() {
            prop_assert!(quantizer.set_learned(["alpha0", "alpha1", "alpha2"][index], &[*alpha]));
        }
        let position = |x: f64, alphas: &[f64], piece: usize| {
            let offset: f64 = alphas[..piece].iter().map(|alpha| 1.0 / alpha).sum();
            (x - offset) * alphas[piece]
        };
        let alphas: Vec<f64> =
            alphas.iter().take(levels - 1).map(|alpha| f64::from(*alpha)).collect();
        // Away from the kinks of every piece.
        prop_assume!(x.iter().all(|x| (0..alphas.len()).all(|piece| {
            let u = position(f64::from(*x), &alphas, piece);
            u.abs() > 1e-3 && (u - 1.0).abs() > 1e-3
        })));

        let input = tensor(&x, SHAPE, &device).require_grad();
        let loss = (quantizer.forward(input.clone()) * tensor(&grad, SHAPE, &device)).sum();
        let gradients = loss.backward();
        let by_x = host(input.grad(&gradients).unwrap());
        let surrogate = |x: f64, alphas: &[f64]| -> f64 {
            (0..alphas.len()).map(|piece| position(x, alphas, piece).clamp(0.0, 1.0)).sum()
        };
        let h = 1e-6;
        let mut by_alpha = vec![0.0; alphas.len()];
        for (index, x) in x.iter().enumerate() {
            let (x, g) = (f64::from(*x), f64::from(grad[index]));
            let slope = (surrogate(x + h, &alphas) - surrogate(x - h, &alphas)) / (2.0 * h);
            prop_assert!((f64::from(by_x[index]) - g * slope).abs() < 1e-5);
            for piece in 0..alphas.len() {
                let moved = |by: f64| {
                    let mut alphas = alphas.clone();
                    alphas[piece] += by;
                    surrogate(x, &alphas)
                };
                by_alpha[piece] += g * (moved(h) - moved(-h)) / (2.0 * h);
            }
        }
        for (learned, expected) in quantizer.learned().iter().zip(by_alpha) {
            let actual = host(learned.value.val().grad(&gradients).unwrap())[0];
            prop_assert!((f64::from(actual) - expected).abs() < 1e-3, "{actual} {expected}");
        }
    }

    /// XNOR's estimators are the stated functions of x, whatever the scale.
    #[test]
    fn xnor_gradients_are_the_estimators(
        x in prop::collection::vec(-2.0f32..2.0, COUNT),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
        scale in 0..3usize,
    ) {
        let sign_scale = [SignScale::None, SignScale::OverChannels, SignScale::OverResolution][scale];
        for (estimator, slope) in [
            (Estimator::Identity, (|_| 1.0) as fn(f32) -> f32),
            (Estimator::Clipped, |x| if x.abs() < 1.0 { 1.0 } else { 0.0 }),
            (Estimator::Triangle, |x| if x.abs() < 1.0 { 2.0 - 2.0 * x.abs() } else { 0.0 }),
        ] {
            let config = QuantizerConfig {
                estimator, sign_scale, ..config(Method::Xnor, Role::Activation, 2)
            };
            let quantizer = make(&config, SHAPE, &Device::flex().autodiff());
            let by_x = input_gradient(&quantizer, &x, &grad, SHAPE);
            for (index, by_x) in by_x.iter().enumerate() {
                prop_assert!((by_x - grad[index] * slope(x[index])).abs() < 1e-6);
            }
        }
    }

    /// LQ-Nets: activations pass below the top level, weights everywhere.
    #[test]
    fn lq_nets_gradients_are_the_stated_masks(
        x in prop::collection::vec(-2.0f32..4.0, COUNT),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
    ) {
        let device = Device::flex().autodiff();
        let quantizer = make(&config(Method::LqNets, Role::Activation, 4), SHAPE, &device);
        let top = *quantizer.level_values().last().unwrap();
        let by_x = input_gradient(&quantizer, &x, &grad, SHAPE);
        for (index, by_x) in by_x.iter().enumerate() {
            prop_assert_eq!(*by_x, if x[index] < top { grad[index] } else { 0.0 });
        }
        let weights = make(&config(Method::LqNets, Role::Weight, 4), SHAPE, &device);
        prop_assert_eq!(input_gradient(&weights, &x, &grad, SHAPE), grad);
    }
}

#[test]
fn xnor_scales_are_means_of_magnitudes() {
    let device = Device::flex();
    let y = |sign_scale| {
        let config = QuantizerConfig { sign_scale, ..config(Method::Xnor, Role::Activation, 2) };
        // Two channels of two positions: 1, -3 and -5, 0.
        let x = tensor(&[1.0, -3.0, -5.0, 0.0], [1, 2, 1, 2], &device);
        host(make(&config, [1, 2, 1, 2], &device).forward(x))
    };
    assert_eq!(y(SignScale::None), [1.0, -1.0, -1.0, 1.0]);
    assert_eq!(y(SignScale::OverChannels), [3.0, -1.5, -3.0, 1.5]);
    assert_eq!(y(SignScale::OverResolution), [2.0, -2.0, -2.5, 2.5]);
}

#[test]
fn fatnn_thresholds_are_where_the_formula_puts_them() {
    let device = Device::flex();
    let mut quantizer = make(&config(Method::Fatnn, Role::Activation, 4), [1, 1, 1, 6], &device);
    for (name, alpha) in [("alpha0", 1.0), ("alpha1", 0.5), ("alpha2", 2.0)] {
        assert!(quantizer.set_learned(name, &[alpha]));
    }
    // Thresholds 1/2, 1 + 1, 3 + 1/4.
    let x = [0.4, 0.6, 1.9, 2.1, 3.2, 3.3];
    let y = host(quantizer.forward(tensor(&x, [1, 1, 1, 6], &device)));
    assert_eq!(y, [0.0, 1.0, 1.0, 2.0, 2.0, 3.0]);
}

#[test]
fn lq_nets_recovers_a_planted_basis() {
    let device = Device::flex().autodiff();
    // Levels of the basis (0.5, 1.6): 0, 0.5, 1.6, 2.1.
    let planted = [0.0, 0.5, 1.6, 2.1];
    let x: Vec<f32> = (0..COUNT).map(|index| planted[index % 4]).collect();
    let quantizer = make(&config(Method::LqNets, Role::Activation, 4), SHAPE, &device);
    for _ in 0..200 {
        quantizer.forward(tensor(&x, SHAPE, &device));
    }
    let levels = quantizer.level_values();
    for (level, planted) in levels.iter().zip(planted) {
        assert!((level - planted).abs() < 1e-3, "{levels:?}");
    }
}

#[test]
fn evaluation_does_not_move_a_basis() {
    let quantizer =
        make(&config(Method::LqNets, Role::Weight, 4), SHAPE, &Device::flex().autodiff());
    let before = host(quantizer.running()[0].1.clone());
    let x: Vec<f32> = (0..COUNT).map(|index| index as f32).collect();
    quantizer.forward(tensor(&x, SHAPE, &Device::flex()));
    assert_eq!(host(quantizer.running()[0].1.clone()), before);
}

#[test]
fn a_basis_that_the_data_do_not_determine_is_regularised_and_reported() {
    let device = Device::flex().autodiff();
    for role in [Role::Activation, Role::Weight] {
        for value in [0.0, 100.0] {
            let quantizer = make(&config(Method::LqNets, role, 4), SHAPE, &device);
            quantizer.forward(tensor(&[value; COUNT], SHAPE, &device));
            let basis = host(quantizer.running()[0].1.clone());
            assert!(basis.iter().all(|v| v.is_finite()), "{role:?} {value}: {basis:?}");
            let MethodModule::LqNets(lq) = &quantizer.method else { unreachable!() };
            assert_eq!(lq.condition().len(), 1);
            if value > 0.0 {
                assert!(lq.condition()[0] > 1e3, "{role:?}: {:?}", lq.condition());
            }
        }
    }
}

#[test]
fn signed_activations_of_fatnn_are_ternary() {
    let device = Device::flex();
    let signed = QuantizerConfig {
        range: Range::Signed,
        granularity: Granularity::PerChannel,
        ..config(Method::Fatnn, Role::Activation, 3)
    };
    let quantizer = make(&signed, [1, 2, 1, 3], &device);
    // alpha = 1/2: thresholds at -1 and 1.
    let x = [-1.2, 0.3, 1.2, -0.9, 0.9, 4.0];
    let y = host(quantizer.forward(tensor(&x, [1, 2, 1, 3], &device)));
    assert_eq!(y, [-1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let four = QuantizerConfig { levels: Levels::new(4).unwrap(), ..signed };
    assert!(four.validate("conv").unwrap_err().to_string().contains("levels"));
}
