//! What every quantizer promises, whatever its method: few levels, idempotence, monotonicity, codes
//! that decode to what was computed, and gradients that are those of the surrogate.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use common::{host, make, tensor};
use proptest::prelude::*;
use quant_core::{
    Estimator, GradientScale, GradientScaleRule, Granularity, Levels, Method, Normalization,
    QuantizerConfig, QuantizerError, Range, Role, Site,
};

/// Every method in every role it has.
fn methods() -> impl Strategy<Value = (Method, Role)> {
    prop_oneof![
        Just((Method::Lsq, Role::Activation)),
        Just((Method::Lsq, Role::Weight)),
        Just((Method::Lsq, Role::Output)),
        Just((Method::Dorefa, Role::Activation)),
        Just((Method::Dorefa, Role::Weight)),
        Just((Method::Pact, Role::Activation)),
        Just((Method::Xnor, Role::Weight)),
        Just((Method::Xnor, Role::Activation)),
        Just((Method::Fatnn, Role::Activation)),
        Just((Method::Fatnn, Role::Weight)),
        Just((Method::LqNets, Role::Activation)),
        Just((Method::LqNets, Role::Weight)),
    ]
}

const SHAPE: [usize; 4] = [2, 4, 3, 3];
const COUNT: usize = 72;

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-3.0f32..3.0, COUNT)
}

/// The nearest number of levels that the method has.
fn config(method: Method, role: Role, levels: usize) -> QuantizerConfig {
    let levels = match (method, role) {
        (Method::Xnor, _) => 2,
        (Method::Fatnn, Role::Weight) => 3,
        (Method::Fatnn, _) => 2 + levels % 3,
        (Method::LqNets, _) => 1 << (1 + levels % 4),
        _ => levels,
    };
    let boundary = if (method, role) == (Method::Dorefa, Role::Weight) { 1.0 } else { 1.3 };
    QuantizerConfig { boundary, ..QuantizerConfig::new(method, role, Levels::new(levels).unwrap()) }
}

proptest! {
    #[test]
    fn values_are_among_the_levels((method, role) in methods(), levels in 2usize..=256, x in values()) {
        let device = Device::flex();
        let quantizer = make(&config(method, role, levels), SHAPE, &device);
        let mut y = host(quantizer.forward(tensor(&x, SHAPE, &device)));
        y.sort_by(f32::total_cmp);
        y.dedup();
        let levels = config(method, role, levels).levels.count();
        prop_assert!(y.len() <= levels, "{} values", y.len());
    }

    #[test]
    fn larger_inputs_never_give_smaller_values(
        (method, role) in methods(), levels in 2usize..=256, mut x in values(),
    ) {
        let device = Device::flex();
        x.sort_by(f32::total_cmp);
        let quantizer = make(&config(method, role, levels), SHAPE, &device);
        let y = host(quantizer.forward(tensor(&x, SHAPE, &device)));
        prop_assert!(y.windows(2).all(|pair| pair[0] <= pair[1]), "{y:?}");
    }

    #[test]
    fn codes_decode_to_what_was_computed(
        (method, role) in methods(), levels in 2usize..=256, x in values(),
    ) {
        let device = Device::flex();
        let config = config(method, role, levels);
        let quantizer = make(&config, SHAPE, &device);
        let x = tensor(&x, SHAPE, &device);
        let codes = quantizer.codes(x.clone());
        let numbers: Vec<i64> = codes.codes.clone().into_data().iter().collect();
        let highest = config.levels.count() as i64 - 1;
        prop_assert!(numbers.iter().all(|code| (0..=highest).contains(code)));
        prop_assert_eq!(host(codes.decode()), host(quantizer.forward(x)));
    }

    /// Not DoReFa's weights, whose tanh and normalisation differ after quantizing.
    #[test]
    fn quantizing_twice_changes_nothing(levels in 2usize..=256, x in values(), role in 0..3usize) {
        let device = Device::flex();
        let role = [Role::Activation, Role::Weight, Role::Output][role];
        let quantizer = make(&config(Method::Lsq, role, levels), SHAPE, &device);
        let once = quantizer.forward(tensor(&x, SHAPE, &device));
        prop_assert_eq!(host(quantizer.forward(once.clone())), host(once));
    }

    #[test]
    fn groups_are_quantized_as_if_alone(x in values(), clips in prop::collection::vec(0.2f32..3.0, 4)) {
        let device = Device::flex();
        let base = config(Method::Lsq, Role::Activation, 4);
        let per_channel = QuantizerConfig { granularity: Granularity::PerChannel, ..base.clone() };
        let mut quantizer = make(&per_channel, SHAPE, &device);
        prop_assert!(quantizer.set_learned("clip_val", &clips));
        let x = tensor(&x, SHAPE, &device);
        let y = quantizer.forward(x.clone());
        for (channel, clip) in clips.iter().enumerate() {
            let mut single = make(&base, SHAPE, &device);
            prop_assert!(single.set_learned("clip_val", &[*clip]));
            let alone = single.forward(x.clone().narrow(1, channel, 1));
            prop_assert_eq!(host(y.clone().narrow(1, channel, 1)), host(alone));
        }
    }

    /// The surrogate of LSQ: the rounding's error e = R(u) - u held fixed, y = clamp(x/s)·s + e·s.
    /// Its derivative by x and s, by central differences in f64, away from the clamp's kinks.
    #[test]
    fn lsq_gradients_are_those_of_the_surrogate(
        x in values(),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
        clip in 0.3f32..2.5,
        levels in 2usize..=16,
        signed: bool,
    ) {
        let device = Device::flex().autodiff();
        let range = if signed { Range::Signed } else { Range::Unsigned };
        let gradient_scale =
            GradientScale { rule: GradientScaleRule::ScaleFan, factor: 0.5, skip_integer_one: false };
        let config = QuantizerConfig {
            range, gradient_scale, ..config(Method::Lsq, Role::Activation, levels)
        };
        let mut quantizer = make(&config, SHAPE, &device);
        quantizer.set_learned("clip_val", &[clip]);
        let lowest = if signed { -1.0 } else { 0.0 };
        let kink = |x: f32| (f64::from(x / clip) - lowest).abs().min((f64::from(x / clip) - 1.0).abs());
        prop_assume!(x.iter().all(|x| kink(*x) > 1e-3));

        let input = tensor(&x, SHAPE, &device).require_grad();
        let loss = (quantizer.forward(input.clone()) * tensor(&grad, SHAPE, &device)).sum();
        let gradients = loss.backward();
        let by_x = host(input.grad(&gradients).unwrap());
        let by_clip = host(quantizer.clipping_value().unwrap().val().grad(&gradients).unwrap())[0];

        let n = f64::from(config.levels.steps());
        let span = 1.0 - lowest;
        let clamp = |v: f64| v.clamp(lowest, 1.0);
        let error = |x: f32| {
            let v = clamp(f64::from(x) / f64::from(clip));
            let position = (v - lowest) / span * n;
            (position.round_ties_even() - position) / n * span
        };
        let surrogate = |x: f64, s: f64, error: f64| (clamp(x / s) + error) * s;
        let h = 1e-6;
        let mut expected_clip = 0.0;
        for (index, x) in x.iter().enumerate() {
            let (e, x64, s) = (error(*x), f64::from(*x), f64::from(clip));
            let by_x_expected = (surrogate(x64 + h, s, e) - surrogate(x64 - h, s, e)) / (2.0 * h);
            let by_s = (surrogate(x64, s + h, e) - surrogate(x64, s - h, e)) / (2.0 * h);
            let g = f64::from(grad[index]);
            prop_assert!((f64::from(by_x[index]) - g * by_x_expected).abs() < 1e-5);
            expected_clip += g * by_s;
        }
        // fan = 4 channels; rounding ties may fall the other way in f32.
        expected_clip *= 0.5 / 2.0;
        prop_assert!((f64::from(by_clip) - expected_clip).abs() < 1e-4, "{by_clip} {expected_clip}");
    }

    /// PACT's surrogate is the clip itself: min(max(x, 0), c).
    #[test]
    fn pact_gradients_are_those_of_the_clip(
        x in values(), grad in prop::collection::vec(-1.0f32..1.0, COUNT), clip in 0.3f32..2.5,
    ) {
        prop_assume!(x.iter().all(|x| (x - clip).abs() > 1e-3 && x.abs() > 1e-3));
        let device = Device::flex().autodiff();
        let mut quantizer = make(&config(Method::Pact, Role::Activation, 4), SHAPE, &device);
        quantizer.set_learned("clip_val", &[clip]);
        let input = tensor(&x, SHAPE, &device).require_grad();
        let loss = (quantizer.forward(input.clone()) * tensor(&grad, SHAPE, &device)).sum();
        let gradients = loss.backward();
        let by_x = host(input.grad(&gradients).unwrap());
        let by_clip = host(quantizer.clipping_value().unwrap().val().grad(&gradients).unwrap())[0];

        let surrogate = |x: f64, c: f64| x.max(0.0).min(c);
        let (h, c) = (1e-6, f64::from(clip));
        let mut expected_clip = 0.0;
        for (index, x) in x.iter().enumerate() {
            let (x, g) = (f64::from(*x), f64::from(grad[index]));
            let by = (surrogate(x + h, c) - surrogate(x - h, c)) / (2.0 * h);
            prop_assert!((f64::from(by_x[index]) - g * by).abs() < 1e-5);
            expected_clip += g * (surrogate(x, c + h) - surrogate(x, c - h)) / (2.0 * h);
        }
        prop_assert!((f64::from(by_clip) - expected_clip).abs() < 1e-4);
    }

    /// DoReFa's surrogate drops the rounding: tanh w / max|tanh w|.
    #[test]
    fn dorefa_weight_gradients_are_those_of_the_normalised_tanh(
        w in values(), grad in prop::collection::vec(-1.0f32..1.0, COUNT),
    ) {
        let mut magnitudes: Vec<f32> = w.iter().map(|w| w.abs()).collect();
        magnitudes.sort_by(f32::total_cmp);
        // The largest magnitude must stay the largest when it moves.
        prop_assume!(magnitudes[COUNT - 1] - magnitudes[COUNT - 2] > 1e-2);
        let device = Device::flex().autodiff();
        let quantizer = make(&config(Method::Dorefa, Role::Weight, 4), SHAPE, &device);
        let input = tensor(&w, SHAPE, &device).require_grad();
        let loss = (quantizer.forward(input.clone()) * tensor(&grad, SHAPE, &device)).sum();
        let by_w = host(input.grad(&loss.backward()).unwrap());

        let objective = |w: &[f64]| {
            let largest = w.iter().map(|w| w.tanh().abs()).fold(0.0, f64::max);
            let terms = w.iter().zip(&grad).map(|(w, g)| w.tanh() / largest * f64::from(*g));
            terms.sum::<f64>()
        };
        let w: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
        for index in 0..COUNT {
            let moved = |by: f64| {
                let mut w = w.clone();
                w[index] += by;
                objective(&w)
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            prop_assert!((f64::from(by_w[index]) - expected).abs() < 1e-3, "{index}");
        }
    }
}

#[test]
fn rounding_is_half_to_even() {
    let device = Device::flex();
    let quantizer = make(
        &QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::new(5).unwrap()),
        [1, 1, 1, 4],
        &device,
    );
    // Steps of 1/4: 0.125 lies between codes 0 and 1, 0.375 between 1 and 2, and so on.
    let y = host(quantizer.forward(tensor(&[0.125, 0.375, 0.625, 0.875], [1, 1, 1, 4], &device)));
    assert_eq!(y, [0.0, 0.5, 0.5, 1.0]);
}

#[test]
fn not_a_number_stays_not_a_number() {
    let device = Device::flex();
    for method in [Method::Lsq, Method::Pact, Method::Dorefa] {
        let quantizer = make(&config(method, Role::Activation, 4), [1, 1, 1, 2], &device);
        let y = host(quantizer.forward(tensor(&[f32::NAN, 1.0], [1, 1, 1, 2], &device)));
        assert!(y[0].is_nan() && y[1].is_finite(), "{method:?}: {y:?}");
    }
}

#[test]
fn an_empty_batch_passes() {
    let device = Device::flex();
    let quantizer = make(&config(Method::Lsq, Role::Activation, 4), SHAPE, &device);
    assert_eq!(quantizer.forward(Tensor::<4>::zeros([0, 4, 3, 3], &device)).dims(), [0, 4, 3, 3]);
}

#[test]
fn ste_scale_multiplies_what_passes() {
    let device = Device::flex().autodiff();
    let config = QuantizerConfig {
        estimator: Estimator::SteScale,
        ..QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::new(4).unwrap())
    };
    let quantizer = make(&config, [1, 1, 1, 4], &device);
    let x = tensor(&[0.5, 2.0, 3.0, 4.0], [1, 1, 1, 4], &device).require_grad();
    let gradients = quantizer.forward(x.clone()).sum().backward();
    // One of four elements is inside: sqrt(4/1).
    assert_eq!(host(x.grad(&gradients).unwrap()), [2.0, 0.0, 0.0, 0.0]);
}

#[test]
fn normalisation_has_mean_zero_and_unit_deviation() {
    let device = Device::flex();
    let fine = QuantizerConfig {
        normalization: Normalization::VarMean,
        boundary: 8.0,
        ..QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::new(256).unwrap())
    };
    let quantizer = make(&fine, [1, 1, 1, 4], &device);
    let y = host(quantizer.forward(tensor(&[1.0, 2.0, 3.0, 6.0], [1, 1, 1, 4], &device)));
    // Mean 3, unbiased variance 14/3; steps of 16/255.
    let std = (14.0f32 / 3.0).sqrt();
    for (y, x) in y.iter().zip([-2.0, -1.0, 0.0, 3.0]) {
        assert!((y - x / std).abs() < 0.04, "{y} {}", x / std);
    }
}

#[test]
fn a_frozen_quantizer_does_not_warm_up() {
    let device = Device::flex().autodiff();
    let quantizer = make(&config(Method::Lsq, Role::Activation, 4), [1, 1, 1, 2], &device);
    quantizer.warm_up(3, -1.0, 0);
    let x = tensor(&[0.4, 5.0], [1, 1, 1, 2], &device);
    assert_eq!(host(quantizer.forward(x.clone())), [0.4, 5.0]);
    assert_ne!(host(quantizer.freeze().forward(x)), [0.4, 5.0]);
}

#[test]
fn groups_that_do_not_divide_name_both_numbers() {
    let config = QuantizerConfig {
        granularity: Granularity::Groups(5),
        ..QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::TERNARY)
    };
    let error = config.init(&Site::weight("conv7", [4, 3, 3, 3]), &Device::flex()).unwrap_err();
    let expected = QuantizerError::Groups {
        layer: "conv7".into(),
        groups: 5,
        elements: 12,
        shape: vec![4, 3, 3, 3],
    };
    assert_eq!(error, expected);
}

#[test]
fn what_a_method_does_not_offer_is_refused() {
    let bits = Levels::from_bits(2).unwrap();
    let weights = QuantizerConfig::new(Method::Pact, Role::Weight, bits);
    assert!(matches!(weights.validate("conv"), Err(QuantizerError::Unsupported { .. })));
    let unsigned = QuantizerConfig {
        range: Range::Unsigned,
        ..QuantizerConfig::new(Method::Lsq, Role::Weight, bits)
    };
    let text = unsigned.validate("conv").unwrap_err().to_string();
    assert!(text.contains("conv") && text.contains("range"), "{text}");
    for boundary in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let config = QuantizerConfig {
            boundary,
            ..QuantizerConfig::new(Method::Pact, Role::Activation, bits)
        };
        assert!(matches!(config.validate("a"), Err(QuantizerError::NotPositive { .. })));
    }
}

#[test]
fn the_usual_form_of_every_method_is_valid() {
    let methods =
        [Method::Lsq, Method::Dorefa, Method::Pact, Method::Xnor, Method::Fatnn, Method::LqNets];
    for method in methods {
        for role in [Role::Activation, Role::Weight, Role::Output] {
            let levels = match method {
                Method::Xnor => Levels::new(2).unwrap(),
                _ => Levels::TERNARY,
            };
            let valid = QuantizerConfig::new(method, role, levels).validate("test");
            assert_eq!(valid.is_ok(), (method, role) != (Method::Pact, Role::Weight), "{valid:?}");
        }
    }
}

#[test]
fn a_gamma_that_would_not_be_used_is_refused() {
    for (method, role) in [
        (Method::Pact, Role::Output),
        (Method::LqNets, Role::Weight),
        (Method::Xnor, Role::Output),
        (Method::Lsq, Role::Activation),
    ] {
        let gamma = QuantizerConfig { gamma: true, ..config(method, role, 4) };
        let text = gamma.validate("test").unwrap_err().to_string();
        assert!(text.contains("gamma"), "{text}");
    }
}

#[test]
fn a_degenerate_clipping_value_is_reported_with_its_layer() {
    let device = Device::flex();
    let mut quantizer = make(&config(Method::Lsq, Role::Activation, 4), SHAPE, &device);
    assert_eq!(quantizer.check(), Ok(()));
    for value in [0.0, -0.5, f32::NAN] {
        quantizer.set_learned("clip_val", &[value]);
        let text = quantizer.check().unwrap_err().to_string();
        assert!(text.contains("test") && text.contains("clip_val[0]"), "{text}");
    }
}

#[test]
fn calibration_lowers_the_error_and_says_so() {
    use quant_core::Calibration;
    let device = Device::flex();
    let x: Vec<f32> = (0..COUNT).map(|i| (i as f32 * 0.37).sin() * 5.0).collect();
    for calibration in [Calibration::SquaredError, Calibration::MeanMagnitude, Calibration::Largest]
    {
        let mut quantizer = make(&config(Method::Lsq, Role::Output, 16), SHAPE, &device);
        let info = quantizer.calibrate_on(tensor(&x, SHAPE, &device), calibration).unwrap();
        assert_eq!((info.elements, info.before.clone()), (COUNT as u64, vec![1.3]));
        assert!(info.error_after < info.error_before, "{info:?}");
        assert_eq!(host(quantizer.clipping_value().unwrap().val()), info.after);
    }
}

#[test]
fn mean_magnitude_calibration_is_the_papers_step() {
    use quant_core::Calibration;
    let device = Device::flex();
    // mean|x| = 1; step 2/sqrt(3), clipping value 3 steps.
    let mut quantizer = make(&config(Method::Lsq, Role::Activation, 4), [1, 1, 1, 2], &device);
    let x = tensor(&[0.5, 1.5], [1, 1, 1, 2], &device);
    quantizer.calibrate_on(x, Calibration::MeanMagnitude).unwrap();
    let clip = host(quantizer.clipping_value().unwrap().val())[0];
    assert!((clip - 2.0 * 3f32.sqrt()).abs() < 1e-6, "{clip}");
}
