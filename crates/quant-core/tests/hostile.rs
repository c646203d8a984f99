//! Unusual input gives an error or a documented result, never a panic or a silent NaN.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::{Device, Tensor};
use common::{cases, config, configs, host, make, methods, tensor};
use proptest::prelude::*;
use quant_core::{Granularity, Quantizer, QuantizerConfig, QuantizerError, Role, Site};

/// Returns values and gradients of a training call, and codes and values of an evaluation.
fn call(quantizer: &Quantizer, x: &[f32], shape: [usize; 4]) -> Vec<f32> {
    let device = Device::flex().autodiff();
    let input = tensor(x, shape, &device).require_grad();
    let y = quantizer.forward(input.clone());
    let gradients = y.clone().sum().backward();
    let mut values = host(y);
    values.extend(host(input.grad(&gradients).unwrap()));
    for learned in quantizer.learned() {
        if let Some(gradient) = learned.value.val().grad(&gradients) {
            values.extend(host(gradient));
        }
    }
    let plain = tensor(x, shape, &Device::flex());
    let codes = quantizer.codes(plain.clone());
    values.extend(host(codes.decode()));
    values.extend(host(quantizer.forward(plain)));
    values
}

fn assert_finite(config: &QuantizerConfig, x: &[f32], shape: [usize; 4]) -> Result<(), String> {
    let quantizer = make(config, shape, &Device::flex().autodiff());
    let values = call(&quantizer, x, shape);
    let running = quantizer.running().into_iter().flat_map(|(_, value)| host(value));
    if values.into_iter().chain(running).all(f32::is_finite) {
        Ok(())
    } else {
        Err(format!("{x:?}: {config:?}"))
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn degenerate_tensors_give_numbers(config in configs(), per_tensor: bool) {
        let granularity = if per_tensor { Granularity::PerTensor } else { config.granularity };
        let config = QuantizerConfig { granularity, ..config }.nearest();
        let denormal = f32::from_bits(3);
        for value in [0.0, -0.0, 1.0, -7.5, denormal, -denormal, 1e-30] {
            // The shapes have one element per channel, and 1x1 positions.
            for shape in [[2, 4, 1, 1], [2, 2, 3, 3]] {
                let count: usize = shape.iter().product();
                prop_assert_eq!(assert_finite(&config, &vec![value; count], shape), Ok(()));
            }
        }
        let single = QuantizerConfig { granularity: Granularity::PerTensor, ..config }.nearest();
        for value in [0.0, 0.3, -2.0] {
            prop_assert_eq!(assert_finite(&single, &[value], [1, 1, 1, 1]), Ok(()));
        }
    }

    #[test]
    fn not_a_number_stays_one_and_touches_nothing_else(config in configs()) {
        // A method that measures the whole tensor cannot measure it with a NaN.
        let measures = config.normalization != quant_core::Normalization::None
            || common::scales_signs(&config)
            || config.role == Role::Weight;
        let x = [0.4, f32::NAN, -0.7, 0.9, 0.1, 0.2, 0.3, 0.5];
        let quantizer = make(&config, [1, 4, 1, 2], &Device::flex().autodiff());
        let y = host(quantizer.forward(tensor(&x, [1, 4, 1, 2], &Device::flex().autodiff())));
        prop_assert!(y[1].is_nan(), "{y:?}: {config:?}");
        if !measures && !common::flag(&config, "closed_form") {
            let others = y.iter().enumerate().filter(|(index, _)| *index != 1);
            prop_assert!(others.into_iter().all(|(_, y)| y.is_finite()), "{y:?}: {config:?}");
        }
        // Running values do not follow such an input.
        for (name, value) in quantizer.running() {
            prop_assert!(host(value).into_iter().all(f32::is_finite), "{name}: {config:?}");
        }
    }

    #[test]
    fn infinities_of_activations_are_the_ends_of_the_range(config in configs()) {
        prop_assume!(config.role != Role::Weight && !common::looks_around(&config));
        prop_assume!(!common::flag(&config, "closed_form"));
        let quantizer = make(&config, [1, 4, 1, 1], &Device::flex().autodiff());
        let x = [f32::INFINITY, 0.3, f32::NEG_INFINITY, 0.7];
        let values = call(&quantizer, &x, [1, 4, 1, 1]);
        prop_assert!(values.iter().all(|value| value.is_finite()), "{values:?} {config:?}");
        let quantizer = make(&config, [1, 4, 1, 1], &Device::flex());
        let ends = call(&quantizer, &[1e30, 0.3, -1e30, 0.7], [1, 4, 1, 1]);
        prop_assert_eq!(&values[..4], &ends[..4], "{:?}", config);
    }

    #[test]
    fn an_empty_batch_passes(config in configs()) {
        prop_assume!(config.role != Role::Weight);
        for device in [Device::flex(), Device::flex().autodiff()] {
            let quantizer = make(&config, [2, 4, 3, 3], &device);
            let empty = Tensor::<4>::zeros([0, 4, 3, 3], &device);
            prop_assert_eq!(quantizer.forward(empty.clone()).dims(), [0, 4, 3, 3]);
            prop_assert_eq!(quantizer.codes(empty.clone()).decode().dims(), [0, 4, 3, 3]);
            prop_assert!(quantizer.staircases(empty).is_empty());
        }
        let gradients = common::gradients_of_nothing(&config, &Device::flex().autodiff());
        prop_assert!(gradients.iter().all(|gradient| *gradient == 0.0), "{gradients:?}");
    }
}

/// Parameters that are 0, below 0 or not finite are reported. With finite parameters the values are
/// finite.
#[test]
fn degenerate_parameters_are_reported_with_their_layer() {
    let device = Device::flex().autodiff();
    let x: Vec<f32> = (0..8).map(|index| index as f32 / 3.0 - 1.0).collect();
    for (method, role) in methods() {
        let config = config(method, role, 4);
        let names: Vec<&str> =
            make(&config, [1, 4, 1, 2], &device).learned().iter().map(|l| l.name).collect();
        for name in names {
            let free = matches!(name, "gamma" | "offset" | "shift" | "start");
            for value in [0.0, -0.5, f32::NAN, f32::INFINITY] {
                let mut quantizer = make(&config, [1, 4, 1, 2], &device);
                assert_eq!(quantizer.validate(), Ok(()));
                let count = quantizer.learned_values(name).unwrap().len();
                assert!(quantizer.set_learned(name, &vec![value; count]));
                let checked = quantizer.validate();
                if free && value.is_finite() {
                    assert_eq!(checked, Ok(()), "{name}");
                } else {
                    let text = checked.unwrap_err().to_string();
                    assert!(
                        text.contains("test") && text.contains(&format!("{name}[0]")),
                        "{text}"
                    );
                }
                let y = host(quantizer.forward(tensor(&x, [1, 4, 1, 2], &device)));
                if value.is_finite() {
                    assert!(y.iter().all(|y| y.is_finite()), "{method:?} {name} {value}: {y:?}");
                }
            }
        }
    }
}

#[test]
fn shapes_without_channels_are_refused() {
    let config = config(quant_core::Method::Lsq, Role::Weight, 4);
    for shape in [vec![], vec![4], vec![0, 3, 3, 3], vec![4, 0]] {
        let error = config.init(&Site::weight("conv1", shape), &Device::flex()).unwrap_err();
        assert!(matches!(error, QuantizerError::Shape { .. }), "{error}");
        assert!(error.to_string().contains("conv1"), "{error}");
    }
}
