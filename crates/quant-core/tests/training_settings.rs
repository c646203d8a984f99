//! Calibration, warm-up, proximal quantization, quantization losses, probes, changes of levels, and
//! weights of stock layers.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::{
    module::Module,
    nn::{Linear, LinearConfig, conv::Conv2d, conv::Conv2dConfig},
    tensor::{Device, Tensor},
};
use common::{COUNT, SHAPE, config, host, make, methods, row, tensor};
use quant_core::{
    Calibration, Granularity, Levels, Method, Percentile, QuantizationLoss, QuantizerConfig,
    QuantizerError, Role, probe, quantize_weights, record, training_call, training_loss,
};

fn wave() -> Vec<f32> {
    (0..COUNT).map(|i| (i as f32 * 0.37).sin() * 5.0 + 0.3).collect()
}

/// The calibration by squared error never increases the error, whatever the method.
#[test]
fn calibration_lowers_the_error_and_says_so() {
    let device = Device::flex();
    for (method, role) in methods() {
        for granularity in [Granularity::PerTensor, Granularity::PerChannel] {
            let config = QuantizerConfig { granularity, ..config(method, role, 8) }.nearest();
            let mut quantizer = make(&config, SHAPE, &device);
            let x = tensor(&wave(), SHAPE, &device);
            let Some(info) = quantizer.calibrate_on(x, Calibration::SquaredError) else {
                let nothing = matches!(
                    method,
                    Method::Dorefa | Method::Xnor(_) | Method::LqNets(_) | Method::Fatnn(_)
                );
                assert!(nothing, "{method:?} {role:?}");
                continue;
            };
            assert_eq!(info.elements, COUNT as u64);
            assert_eq!(quantizer.learned_values(&info.parameter), Some(info.after.clone()));
            assert_ne!(info.before, info.after, "{method:?}");
            assert!(info.error_after < info.error_before, "{info:?}");
            assert!(info.error_after < 0.7, "{info:?}");
        }
    }
}

#[test]
fn calibrations_are_what_they_are_called() {
    let device = Device::flex();
    let clip = |calibration| {
        let mut quantizer = make(&config(Method::Lsq, Role::Activation, 4), [1, 1, 1, 1], &device);
        // The samples are 0.01, 0.02, .. 1, and one below 0, which an unsigned range cannot hold.
        let x: Vec<f32> = (0..=100).map(|i| if i == 0 { -9.0 } else { i as f32 / 100.0 }).collect();
        quantizer.calibrate_on(row(&x, &device), calibration);
        quantizer.learned_values("clip_val").unwrap()[0]
    };
    assert_eq!(clip(Calibration::MinMax), 1.0);
    let part = |percent| clip(Calibration::Percentile(Percentile::new(percent).unwrap()));
    assert_eq!(part(100.0), 1.0);
    assert!((part(90.0) - 0.90).abs() < 0.011, "{}", part(90.0));
    // The mean of |x| is (50.5 + 9)/101. The step is 2·mean/sqrt(3), and the clipping value three
    // steps.
    let expected = 2.0 * 59.5 / 101.0 * 3f32.sqrt();
    assert!((clip(Calibration::MeanMagnitude) - expected).abs() < 1e-5);
    for percent in [0.0, -1.0, 100.1, f64::NAN] {
        assert!(Percentile::new(percent).is_err(), "{percent}");
    }
}

#[test]
fn the_papers_step_is_the_same_in_both_forms() {
    let device = Device::flex();
    let x = tensor(&[0.5, 1.5], [1, 1, 1, 2], &device);
    // The mean of |x| is 1, so the step is 2/sqrt(3).
    for (method, name, parts) in
        [(Method::Lsq, "clip_val", 3.0), (Method::LsqStep, "step_size", 1.0)]
    {
        let mut quantizer = make(&config(method, Role::Activation, 4), [1, 1, 1, 2], &device);
        quantizer.calibrate_on(x.clone(), Calibration::MeanMagnitude).unwrap();
        let step = quantizer.learned_values(name).unwrap()[0] / parts;
        assert!((step - 2.0 / 3f32.sqrt()).abs() < 1e-6, "{method:?}: {step}");
    }
}

#[test]
fn lsq_plus_takes_its_offset_from_the_minimum() {
    let device = Device::flex();
    let mut quantizer = make(&config(Method::LsqPlus, Role::Activation, 4), [1, 1, 1, 3], &device);
    quantizer.calibrate_on(tensor(&[-0.5, 0.2, 2.5], [1, 1, 1, 3], &device), Calibration::MinMax);
    assert_eq!(quantizer.level_values(), [-0.5, 0.5, 1.5, 2.5]);
}

#[test]
fn zeros_say_nothing_about_a_scale() {
    let device = Device::flex();
    for (method, role) in methods() {
        let mut quantizer = make(&config(method, role, 4), SHAPE, &device);
        let before: Vec<_> = quantizer.learned().iter().map(|l| host(l.value.val())).collect();
        quantizer.calibrate_on(Tensor::<4>::zeros(SHAPE, &device), Calibration::SquaredError);
        let after: Vec<_> = quantizer.learned().iter().map(|l| host(l.value.val())).collect();
        assert_eq!(before, after, "{method:?} {role:?}");
    }
}

#[test]
fn a_warm_up_passes_inputs_and_follows_their_maximum() {
    let device = Device::flex().autodiff();
    for (method, name, parts) in [
        (Method::Lsq, "clip_val", 1.0),
        (Method::LsqStep, "step_size", 3.0),
        (Method::Pact, "clip_val", 1.0),
    ] {
        let mut quantizer = make(&config(method, Role::Activation, 4), [1, 1, 1, 2], &device);
        quantizer.set_warm_up(2, 0.5, 0);
        for x in [[0.4f32, -5.0], [3.0, 0.1]] {
            let input = tensor(&x, [1, 1, 1, 2], &device);
            let (y, call) = training_call(|| quantizer.forward(input));
            assert_eq!(host(y), x.to_vec());
            assert!(call.has_warmed_up());
            quantizer = call.settle(quantizer);
        }
        // The running mean is (5/2 + 3/2)/2.
        assert!((quantizer.learned_values(name).unwrap()[0] * parts - 2.0).abs() < 1e-6);
        let input = tensor(&[0.4, 0.1], [1, 1, 1, 2], &device);
        let (y, call) = training_call(|| quantizer.forward(input));
        assert_ne!(host(y), [0.4, 0.1]);
        assert!(!call.has_warmed_up());
    }
}

/// After a warm-up of one call the clipping value is 2, and the loss is that of the rounding.
#[test]
fn a_training_loop_needs_one_function_for_warm_ups_and_losses() {
    let device = Device::flex().autodiff();
    let mut model = make(&config(Method::Lsq, Role::Activation, 2), [1, 1, 1, 2], &device);
    model.set_warm_up(1, 1.0, 0);
    model.set_loss(Some((QuantizationLoss::L1, 3.0)));
    let x = tensor(&[0.5, 2.0], [1, 1, 1, 2], &device);
    let (settled, loss) = training_loss(model, |model| model.forward(x.clone()).sum());
    assert_eq!(loss.into_scalar::<f32>(), 2.5);
    let (_, loss) = training_loss(settled, |model| model.forward(x).sum());
    assert_eq!(loss.into_scalar::<f32>(), 2.0 + 3.0 * 0.25);
}

#[test]
fn a_frozen_quantizer_does_not_warm_up() {
    let device = Device::flex().autodiff();
    let mut quantizer = make(&config(Method::Lsq, Role::Activation, 4), [1, 1, 1, 2], &device);
    quantizer.set_warm_up(3, -1.0, 0);
    let x = tensor(&[0.4, 5.0], [1, 1, 1, 2], &device);
    assert_eq!(host(quantizer.forward(x.clone())), [0.4, 5.0]);
    assert_ne!(host(quantizer.freeze().forward(x)), [0.4, 5.0]);
}

#[test]
fn proximal_quantization_mixes_in_training_alone() {
    let device = Device::flex().autodiff();
    let mut quantizer = make(&config(Method::Lsq, Role::Activation, 2), [1, 1, 1, 2], &device);
    quantizer.set_proximal(0.25);
    let x = tensor(&[0.25, 0.75], [1, 1, 1, 2], &device);
    assert_eq!(host(quantizer.forward(x.clone())), [0.0625, 0.9375]);
    assert_eq!(host(quantizer.forward(x.inner())), [0.0, 1.0]);
}

#[test]
fn quantization_losses_are_means_over_the_elements() {
    let device = Device::flex().autodiff();
    // The values 0.25 and 0.75 become 0 and 1.
    for (loss, expected, gradient) in [
        (QuantizationLoss::L1, 0.25, [0.0, 0.0]),
        (QuantizationLoss::L2, 0.0625, [0.0, 0.0]),
        // The sums are Σxy = 0.75 and Σy² = 1.
        (QuantizationLoss::Distribution, 0.25, [-0.25, -0.25]),
    ] {
        let mut quantizer = make(&config(Method::Lsq, Role::Activation, 2), [1, 1, 1, 2], &device);
        quantizer.set_loss(Some((loss, 2.0)));
        let zero = || Tensor::<1>::zeros([1], &device);
        let x = tensor(&[0.25, 0.75], [1, 1, 1, 2], &device).require_grad();
        let (_, mut call) = training_call(|| quantizer.forward(x.clone()));
        let taken = call.add_losses(zero());
        let value: f32 = taken.clone().into_scalar();
        assert!((value - 2.0 * expected).abs() < 1e-6, "{loss:?}: {value}");
        // y moves as x does: the differences y - x do not change, and the factor Σxy/Σy² changes by
        // y + x - 2·0.75·y.
        let by_x = host(x.grad(&taken.backward()).unwrap());
        for (actual, expected) in by_x.iter().zip(gradient) {
            assert!((actual - 2.0 * expected).abs() < 1e-6, "{loss:?}: {by_x:?}");
        }
        let (_, mut call) = training_call(|| quantizer.forward(x.inner()));
        assert_eq!(host(call.add_losses(zero())), [0.0], "evaluation has no loss");
    }
}

#[test]
fn a_probe_holds_the_last_evaluation_call() {
    let device = Device::flex();
    let quantizer = make(&config(Method::Lsq, Role::Activation, 2), [1, 1, 1, 2], &device);
    assert!(probe(&quantizer, |_| true, |_| ()).is_empty());
    let probes = probe(
        &quantizer,
        |_| true,
        |quantizer| {
            quantizer.forward(tensor(&[9.0, 9.0], [1, 1, 1, 2], &device));
            quantizer.forward(tensor(&[0.25, 0.75], [1, 1, 1, 2], &device));
        },
    );
    let probe = &probes[0];
    let names: Vec<&str> = probe.tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["before-quant", "after-quant", "clip_val"]);
    let values = |index: usize| probe.tensors[index].1.iter::<f32>().collect::<Vec<_>>();
    assert_eq!((values(0), values(1), values(2)), (vec![0.25, 0.75], vec![0.0, 1.0], vec![1.0]));
    assert_eq!(probe.layer, "test");
}

/// A scope ends with the call that it was opened for, also after a panic, and does not see other
/// quantizers.
#[test]
fn a_scope_ends_with_what_it_was_opened_for() {
    let device = Device::flex();
    let quantizer = make(&config(Method::Lsq, Role::Activation, 2), [1, 1, 1, 2], &device);
    let x = || tensor(&[0.25, 0.75], [1, 1, 1, 2], &device);
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        record(
            &quantizer,
            |_| true,
            |quantizer| {
                quantizer.forward(x());
                panic!("in the middle");
            },
        )
    }));
    assert!(lost.is_err());
    let recorded = record(&quantizer, |_| true, |quantizer| drop(quantizer.forward(x())));
    assert_eq!(recorded.into_iter().next().unwrap().values(), [0.25, 0.75]);
    let other = make(&config(Method::Lsq, Role::Activation, 2), [1, 1, 1, 2], &device);
    assert!(record(&quantizer, |_| true, |_| drop(other.forward(x()))).is_empty());
}

#[test]
fn a_change_of_levels_keeps_the_step_size() {
    let device = Device::flex().autodiff();
    let two = Levels::from_bits(2).unwrap();
    for (method, name, factor) in [
        (Method::Lsq, "clip_val", 3.0 / 15.0),
        (Method::Pact, "clip_val", 3.0 / 15.0),
        (Method::LsqStep, "step_size", 1.0),
        (Method::LsqPlus, "step_size", 1.0),
        (Method::Apot, "clip_val", 1.0),
    ] {
        let mut quantizer = make(&config(method, Role::Activation, 16), SHAPE, &device);
        quantizer.set_learned(name, &[0.9]);
        let id = quantizer.learned()[0].value.id;
        let change = quantizer.set_levels(two).unwrap();
        assert_eq!((change.from, change.to), (16, 4));
        let value = quantizer.learned_values(name).unwrap()[0];
        assert!((value - 0.9 * factor).abs() < 1e-6, "{method:?}: {value}");
        // The parameter keeps its identity for optimizers, and the change names the parameters
        // whose momentum has to be reset.
        assert_eq!(quantizer.learned()[0].value.id, id);
        let rescaled: Vec<_> = change.rescaled.iter().map(|r| (r.name, r.id)).collect();
        assert_eq!(rescaled, if factor == 1.0 { vec![] } else { vec![(name, id)] });
        assert_eq!(quantizer.level_values().len(), 4);
        assert_eq!(quantizer.config().levels, two);
    }
}

#[test]
fn methods_whose_parameters_belong_to_their_levels_keep_them() {
    let device = Device::flex();
    for (method, from, to) in
        [(Method::LQ_NETS, 4, 8), (Method::FATNN, 4, 2), (Method::N2uq, 4, 8), (Method::XNOR, 2, 4)]
    {
        let mut quantizer = make(&config(method, Role::Activation, from), SHAPE, &device);
        let error = quantizer.set_levels(Levels::new(to).unwrap()).unwrap_err();
        assert!(matches!(error, QuantizerError::LevelChange { .. }), "{error}");
        assert!(error.to_string().contains("test"), "{error}");
        assert_eq!(quantizer.config().levels.count(), from);
    }
}

/// Parameters that fit are kept, one value is repeated for several groups, and the others start
/// again. A parameter with a new identity has the old value.
#[test]
fn a_reconfigured_quantizer_keeps_what_fits() {
    let device = Device::flex().autodiff();
    let of = |method, granularity| QuantizerConfig {
        granularity,
        ..config(method, Role::Activation, 16)
    };
    let mut quantizer = make(&of(Method::Lsq, Granularity::PerTensor), SHAPE, &device);
    quantizer.set_learned("clip_val", &[0.75]);
    let change = quantizer.reconfigure(&of(Method::Pact, Granularity::PerTensor), true).unwrap();
    assert!(change.fresh.is_empty() && change.rescaled.is_empty());
    let wider = of(Method::Lsq, Granularity::PerChannel);
    assert_eq!(quantizer.reconfigure(&wider, false).unwrap().fresh, ["clip_val"]);
    let before = quantizer.learned()[0].value.id;
    quantizer.reset_optimizer_state("clip_val");
    assert_ne!(quantizer.learned()[0].value.id, before);
    assert!(quantizer.learned()[0].value.val().is_require_grad());
    assert_eq!(quantizer.learned_values("clip_val").unwrap(), vec![0.75; SHAPE[1]]);
    // A refused configuration changes nothing.
    let groups = of(Method::Lsq, Granularity::Groups(SHAPE[1] + 1));
    assert!(quantizer.reconfigure(&groups, true).is_err());
    assert_eq!(quantizer.config(), &wider);
}

#[test]
fn a_disabled_quantizer_passes_everything() {
    let device = Device::flex();
    let mut quantizer = make(&config(Method::Lsq, Role::Activation, 4), SHAPE, &device);
    let x = || tensor(&wave(), SHAPE, &device);
    assert!(!quantizer.is_changed());
    quantizer.set_enabled(false);
    assert_eq!(host(quantizer.forward(x())), wave());
    quantizer.set_enabled(true);
    assert_ne!(host(quantizer.forward(x())), wave());
    assert!(quantizer.is_changed());
}

#[derive(Module, Debug)]
struct Stock {
    conv: Conv2d,
    fc: Linear,
}

/// Burn's layers read quantized weights where the filter selects them, and after folding they hold
/// exactly these weights.
#[test]
fn weights_of_stock_layers_fold_to_what_they_computed() {
    let device = Device::flex();
    for (method, _) in methods().into_iter().filter(|(_, role)| *role == Role::Weight) {
        for granularity in [Granularity::PerTensor, Granularity::PerChannel] {
            let config =
                QuantizerConfig { granularity, ..config(method, Role::Weight, 4) }.nearest();
            let stock = Stock {
                conv: Conv2dConfig::new([2, 4], [3, 3]).init(&device),
                fc: LinearConfig::new(6, 5).init(&device),
            };
            let plain = host(stock.fc.weight.val());
            let model = quantize_weights(stock, &config, |path| path == "conv.weight").unwrap();
            assert_eq!(host(model.fc.weight.val()), plain, "not selected");
            let quantized = host(model.conv.weight.val());
            let folded = model.materialize();
            assert!(!format!("{folded}").contains("quant_weight"));
            assert_eq!(host(folded.conv.weight.val()), quantized, "{method:?}");
            for channel in quantized.chunks(18) {
                let mut values = channel.to_vec();
                values.sort_by(f32::total_cmp);
                values.dedup();
                assert!(values.len() <= 4, "{method:?}: {values:?}");
            }
        }
    }
}

/// `Linear` stores its weight as `[in, out]`, so its output channels are columns.
#[test]
fn channels_of_stock_linear_layers_are_columns() {
    let device = Device::flex();
    let config = QuantizerConfig {
        granularity: Granularity::PerChannel,
        ..config(Method::XNOR, Role::Weight, 2)
    };
    let mut layer = LinearConfig::new(2, 2).with_bias(false).init(&device);
    let weight = Tensor::<2>::from_data([[1.0, -10.0], [-3.0, 30.0]], &device);
    layer.weight = burn::module::Param::from_tensor(weight);
    let layer = quantize_weights(layer, &config, |_| true).unwrap();
    assert_eq!(host(layer.weight.val()), [2.0, -20.0, -2.0, 20.0]);
}
