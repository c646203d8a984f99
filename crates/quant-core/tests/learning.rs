//! On small least squares problems, learned parameters move to their known optimum.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::{
    optim::{GradientsParams, SgdConfig},
    tensor::Device,
};
use common::{config, host, make, row};
use quant_core::{
    Estimator, GradientScale, GradientScaleRule, Method, OptionValue, Quantizer, QuantizerConfig,
    Range, Role,
};

/// Trains only the quantizer's parameters on Σ(Q(x) - target)².
fn train(
    mut quantizer: Quantizer,
    x: &[f32],
    target: &[f32],
    rate: f64,
    steps: usize,
) -> Quantizer {
    let device = Device::flex().autodiff();
    let mut optimizer = SgdConfig::new().init();
    for step in 0..steps {
        let loss = (quantizer.forward(row(x, &device)) - row(target, &device)).square().mean();
        let grads = GradientsParams::from_grads(loss.backward(), &quantizer);
        let rate = rate * (1.0 - step as f64 / steps as f64);
        quantizer = optimizer.step(rate, quantizer, grads);
    }
    quantizer
}

fn of(method: Method, role: Role, levels: usize) -> QuantizerConfig {
    QuantizerConfig {
        gradient_scale: GradientScale { rule: GradientScaleRule::None, ..GradientScale::default() },
        ..config(method, role, levels)
    }
}

fn toy(config: &QuantizerConfig) -> Quantizer {
    make(config, [1, 1, 1, 1], &Device::flex().autodiff())
}

fn learned(quantizer: &Quantizer, name: &str) -> f32 {
    quantizer.learned_values(name).unwrap()[0]
}

/// Returns numbers that are evenly spaced over low..high.
fn ramp(low: f32, high: f32) -> Vec<f32> {
    (0..512).map(|index| low + (high - low) * (index as f32 + 0.5) / 512.0).collect()
}

fn near(actual: f32, expected: f32, within: f32) {
    assert!((actual - expected).abs() < within, "{actual}, expected {expected}");
}

/// For inputs spread evenly over 0..1, L levels that start at 0 with step s have the least error
/// where s = 2/(2L - 1). The first and the last interval are cut, and in every interval the error
/// is then at most s/2.
#[test]
fn lsq_finds_the_step_of_least_error() {
    let x = ramp(0.0, 1.0);
    for (method, name, parts) in
        [(Method::LsqStep, "step_size", 1.0), (Method::Lsq, "clip_val", 3.0)]
    {
        for estimator in [Estimator::Clipped, Estimator::Ewgs] {
            let config = QuantizerConfig { estimator, ..of(method, Role::Activation, 4) };
            let quantizer = train(toy(&config), &x, &x, 0.3, 400);
            near(learned(&quantizer, name) / parts, 2.0 / 7.0, 0.01);
        }
    }
}

#[test]
fn lsq_plus_finds_the_offset_of_its_inputs() {
    let x = ramp(-0.8, 0.4);
    let quantizer = train(toy(&of(Method::LsqPlus, Role::Activation, 4)), &x, &x, 0.2, 800);
    // There are four intervals of 0.3, with levels in their middles.
    near(learned(&quantizer, "step_size"), 0.3, 0.02);
    near(learned(&quantizer, "offset"), -0.65, 0.03);
}

/// Only elements above c move it, towards their mean.
#[test]
fn pact_learns_to_clip_where_the_target_does() {
    let x = ramp(0.0, 2.0);
    let target: Vec<f32> = x.iter().map(|x| x.min(1.5)).collect();
    let config = of(Method::Pact, Role::Activation, 256);
    near(learned(&train(toy(&config), &x, &target, 1.0, 400), "clip_val"), 1.5, 0.02);
}

#[test]
fn apot_finds_its_clipping_value() {
    let config = of(Method::Apot, Role::Activation, 4);
    let mut planted = toy(&config);
    planted.set_learned("clip_val", &[1.7]);
    let x = ramp(0.0, 2.0);
    let inputs = row(&x, &Device::flex());
    let target = host(planted.forward(inputs));
    near(learned(&train(toy(&config), &x, &target, 0.3, 600), "clip_val"), 1.7, 0.03);
}

/// The values of another quantizer are matched by learning its thresholds.
#[test]
fn thresholds_move_to_planted_ones() {
    let x = ramp(0.0, 4.0);
    for (method, rate) in [(Method::FATNN, 0.05), (Method::N2uq, 0.1)] {
        let config = of(method, Role::Activation, 3);
        let (mut planted, mut start) = (toy(&config), toy(&config));
        match method {
            Method::Fatnn(_) => {
                planted.set_learned("alpha0", &[0.8]);
                planted.set_learned("alpha1", &[0.5]);
            }
            _ => {
                planted.set_learned("intervals", &[1.25, 2.0]);
                planted.set_learned("scale", &[1.0]);
                start.set_learned("intervals", &[1.0, 1.0]);
                start.set_learned("scale", &[0.7]);
            }
        }
        let inputs = row(&x, &Device::flex());
        let target = host(planted.forward(inputs.clone()));
        let wrong = |quantizer: &Quantizer| {
            let y = host(quantizer.forward(inputs.clone()));
            let error = y.iter().zip(&target).map(|(y, t)| (y - t).powi(2)).sum::<f32>();
            error / x.len() as f32
        };
        let trained = train(start.clone(), &x, &target, rate, 1000);
        assert!(wrong(&start) > 0.05, "{method:?}: {}", wrong(&start));
        assert!(wrong(&trained) < 0.02, "{method:?}: {}", wrong(&trained));
    }
}

/// Scales recover to their optimum from values that training may have driven them to.
#[test]
fn scales_that_fell_to_zero_or_below_come_back() {
    let x = ramp(0.0, 1.0);
    for (method, name, parts) in
        [(Method::LsqStep, "step_size", 1.0), (Method::Lsq, "clip_val", 3.0)]
    {
        let mut start = toy(&of(method, Role::Activation, 4));
        start.set_learned(name, &[0.0]);
        near(learned(&train(start, &x, &x, 0.3, 400), name) / parts, 2.0 / 7.0, 0.01);
    }
    // With a target clipped at 1.7, only the elements above it move the clipping value.
    let x = ramp(-1.0, 3.0);
    let target: Vec<f32> = x.iter().map(|x| x.clamp(0.0, 1.7)).collect();
    for fallen in [0.0, -0.5] {
        let mut start = toy(&of(Method::Pact, Role::Activation, 256));
        start.set_learned("clip_val", &[fallen]);
        near(learned(&train(start, &x, &target, 0.3, 600), "clip_val"), 1.7, 0.03);
    }
}

/// The magnitude of an interval is used, so negative intervals learn as positive ones of the same
/// magnitude do.
#[test]
fn intervals_below_zero_learn_as_their_magnitudes_do() {
    let x = ramp(0.0, 4.0);
    let target: Vec<f32> = x.iter().map(|x| x.round()).collect();
    let from = |widths: &[f32]| {
        let mut start = toy(&of(Method::N2uq, Role::Activation, 3));
        start.set_learned("intervals", widths);
        train(start, &x, &target, 0.05, 50).learned_values("intervals").unwrap()
    };
    let (above, below) = (from(&[1.0, 1.5]), from(&[-1.0, 1.5]));
    assert_eq!([-above[0], above[1]], below[..]);
}

#[test]
fn ttq_scales_are_the_means_of_their_sides() {
    let x = ramp(-1.0, 2.0);
    let quantizer = train(toy(&of(Method::TTQ, Role::Weight, 3)), &x, &x, 1.0, 200);
    // The thresholds lie at ±0.1, and the scales are the means of 0.1..2 and of 0.1..1.
    near(learned(&quantizer, "positive"), 1.05, 0.01);
    near(learned(&quantizer, "negative"), 0.55, 0.01);
}

#[test]
fn gamma_is_the_least_squares_factor() {
    let x = ramp(-1.0, 1.0);
    for method in [Method::XNOR, Method::Dorefa] {
        let config = QuantizerConfig { gamma: true, ..of(method, Role::Weight, 2) };
        let target: Vec<f32> = x.iter().map(|x| x * 3.0).collect();
        let start = toy(&config);
        let plain = host(start.forward(row(&x, &Device::flex())));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let expected = dot(&plain, &target) / dot(&plain, &plain);
        near(learned(&train(start, &x, &target, 0.3, 200), "gamma"), expected, 0.01);
    }
}

#[test]
fn rsign_moves_its_threshold_between_two_clusters() {
    let device = Device::flex().autodiff();
    let config = QuantizerConfig {
        estimator: Estimator::Triangle,
        ..common::with(of(Method::XNOR, Role::Activation, 2), "shift", OptionValue::Flag(true))
    };
    // Both clusters are positive, so without a shift all signs are +1.
    let x: Vec<f32> = (0..64).map(|i| 0.3 + 0.01 * (i % 8) as f32 + 0.4 * (i % 2) as f32).collect();
    let target: Vec<f32> = (0..64).map(|i| if i % 2 == 0 { -1.0 } else { 1.0 }).collect();
    let quantizer = train(make(&config, [1, 1, 1, 1], &device), &x, &target, 0.05, 200);
    let shift = learned(&quantizer, "shift");
    assert!((0.37..0.71).contains(&shift), "{shift}");
}

#[test]
fn lq_nets_recovers_a_planted_basis() {
    let device = Device::flex().autodiff();
    for (range, planted) in [
        // These are the levels of the bases (0.5, 1.6) with digits 0, 1 and (0.4, 1.3) with digits
        // -1, 1.
        (Range::Unsigned, [0.0, 0.5, 1.6, 2.1]),
        (Range::Signed, [-1.7, -0.9, 0.9, 1.7]),
    ] {
        let x: Vec<f32> = (0..72).map(|index| planted[index % 4]).collect();
        let config = QuantizerConfig { range, ..of(Method::LQ_NETS, Role::Activation, 4) };
        let quantizer = make(&config, [1, 1, 1, 1], &device);
        for _ in 0..200 {
            quantizer.forward(row(&x, &device));
        }
        let levels = quantizer.level_values();
        for (level, planted) in levels.iter().zip(planted) {
            assert!((level - planted).abs() < 1e-3, "{levels:?}");
        }
    }
}
