//! Individual methods on numbers that can be checked by hand.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::Device;
use common::{COUNT, SHAPE, config, host, make, tensor};
use quant_core::{
    Granularity, Levels, Method, Normalization, Quantizer, QuantizerConfig, Range, Role, SignScale,
    TtqOptions, XnorOptions, methods::MethodModule,
};

/// Returns the quantized values of one row.
fn row<const N: usize>(quantizer: &Quantizer, x: [f32; N]) -> Vec<f32> {
    host(quantizer.forward(tensor(&x, [1, 1, 1, N], &Device::flex())))
}

fn single(config: &QuantizerConfig) -> Quantizer {
    make(config, [1, 1, 1, 1], &Device::flex())
}

#[test]
fn xnor_scales_are_means_of_magnitudes() {
    let device = Device::flex();
    let y = |sign_scale| {
        let method = Method::Xnor(XnorOptions { sign_scale, shift: false });
        let config = config(method, Role::Activation, 2);
        // The input has two channels of two positions: 1, -3 and -5, 0.
        let x = tensor(&[1.0, -3.0, -5.0, 0.0], [1, 2, 1, 2], &device);
        host(make(&config, [1, 2, 1, 2], &device).forward(x))
    };
    assert_eq!(y(SignScale::None), [1.0, -1.0, -1.0, 1.0]);
    assert_eq!(y(SignScale::OverChannels), [3.0, -1.5, -3.0, 1.5]);
    assert_eq!(y(SignScale::OverResolution), [2.0, -2.0, -2.5, 2.5]);
}

#[test]
fn rsign_changes_sign_at_its_shift() {
    let device = Device::flex();
    let config = QuantizerConfig {
        granularity: Granularity::PerChannel,
        ..config(
            Method::Xnor(XnorOptions { shift: true, ..Default::default() }),
            Role::Activation,
            2,
        )
    };
    let mut quantizer = make(&config, [1, 2, 1, 2], &device);
    assert!(quantizer.set_learned("shift", &[0.5, -1.0]));
    let x = tensor(&[0.4, 0.5, -1.1, -0.9], [1, 2, 1, 2], &device);
    assert_eq!(host(quantizer.forward(x)), [-1.0, 1.0, -1.0, 1.0]);
}

#[test]
fn fatnn_thresholds_are_where_the_formula_puts_them() {
    let mut quantizer = single(&config(Method::FATNN, Role::Activation, 4));
    for (name, alpha) in [("alpha0", 1.0), ("alpha1", 0.5), ("alpha2", 2.0)] {
        assert!(quantizer.set_learned(name, &[alpha]));
    }
    // The thresholds are 1/2, 1 + 1 and 3 + 1/4.
    let y = row(&quantizer, [0.4, 0.6, 1.9, 2.1, 3.2, 3.3]);
    assert_eq!(y, [0.0, 1.0, 1.0, 2.0, 2.0, 3.0]);
}

#[test]
fn signed_activations_of_fatnn_are_ternary() {
    let device = Device::flex();
    let signed = QuantizerConfig {
        range: Range::Signed,
        granularity: Granularity::PerChannel,
        ..config(Method::FATNN, Role::Activation, 3)
    };
    let quantizer = make(&signed, [1, 2, 1, 3], &device);
    // With alpha = 1/2 the thresholds are -1 and 1.
    let x = [-1.2, 0.3, 1.2, -0.9, 0.9, 4.0];
    let y = host(quantizer.forward(tensor(&x, [1, 2, 1, 3], &device)));
    assert_eq!(y, [-1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let four = QuantizerConfig { levels: Levels::new(4).unwrap(), ..signed };
    assert!(four.validate("conv").unwrap_err().to_string().contains("levels"));
}

#[test]
fn ttq_has_a_value_for_each_side() {
    let third = config(Method::Ttq(TtqOptions { ternary_threshold: 0.3 }), Role::Weight, 3);
    let mut quantizer = single(&third);
    quantizer.set_learned("positive", &[1.5]);
    quantizer.set_learned("negative", &[0.25]);
    // The largest magnitude is 2, so the thresholds are -0.6 and 0.6.
    assert_eq!(row(&quantizer, [-2.0, -0.7, -0.5, 0.5, 0.7]), [-0.25, -0.25, 0.0, 0.0, 1.5]);
}

#[test]
fn lsq_plus_counts_from_its_offset() {
    let mut quantizer = single(&config(Method::LsqPlus, Role::Activation, 4));
    quantizer.set_learned("step_size", &[0.5]);
    quantizer.set_learned("offset", &[-0.75]);
    // The levels are -0.75, -0.25, 0.25 and 0.75.
    assert_eq!(
        row(&quantizer, [-2.0, -0.6, -0.1, 0.1, 0.4, 9.0]),
        [-0.75, -0.75, -0.25, 0.25, 0.25, 0.75]
    );
}

#[test]
fn apot_takes_the_nearest_sum_of_powers() {
    let mut quantizer = single(&config(Method::Apot, Role::Activation, 4));
    quantizer.set_learned("clip_val", &[2.0]);
    // The levels are 0, 0.5, 1 and 2.
    assert_eq!(row(&quantizer, [-1.0, 0.2, 0.3, 0.8, 1.4, 1.6]), [0.0, 0.0, 0.5, 1.0, 1.0, 2.0]);
}

#[test]
fn n2uq_has_uneven_thresholds_and_even_values() {
    let mut quantizer = single(&config(Method::N2uq, Role::Activation, 4));
    quantizer.set_learned("start", &[0.5]);
    quantizer.set_learned("intervals", &[1.0, 0.5, 2.0]);
    quantizer.set_learned("scale", &[0.5]);
    // The thresholds lie in the middle of 0.5..1.5, 1.5..2 and 2..4.
    let y = row(&quantizer, [0.9, 1.1, 1.7, 1.8, 2.9, 3.1]);
    assert_eq!(y, [0.0, 0.5, 0.5, 1.0, 1.0, 1.5]);
}

#[test]
fn n2uq_weights_are_measured_by_their_mean_magnitude() {
    let quantizer = single(&config(Method::N2uq, Role::Weight, 4));
    // With mean|w| = 2 and r = 6/4 the unit is 3, and the levels are -3, -1, 1 and 3.
    let y = row(&quantizer, [-4.0, -1.5, 0.25, 2.25]);
    for (y, expected) in y.into_iter().zip([-3.0, -1.0, 1.0, 3.0]) {
        assert!((y - expected).abs() < 1e-6, "{y} {expected}");
    }
}

#[test]
fn normalisation_has_mean_zero_and_unit_deviation() {
    let fine = QuantizerConfig {
        normalization: Normalization::VarMean,
        boundary: 8.0,
        ..config(Method::Lsq, Role::Weight, 256)
    };
    // The mean is 3 and the unbiased variance 14/3. The steps are 16/255.
    let deviation = (14.0f32 / 3.0).sqrt();
    let restored = QuantizerConfig { restore_normalization: true, ..fine.clone() };
    for (config, factor) in [(fine, 1.0), (restored, deviation)] {
        let y = row(&single(&config), [1.0, 2.0, 3.0, 6.0]);
        for (y, x) in y.iter().zip([-2.0, -1.0, 0.0, 3.0]) {
            let expected = x / deviation * factor;
            assert!((y - expected).abs() < 0.04 * factor, "{y} {expected}");
        }
    }
}

#[test]
fn an_independent_normalisation_looks_at_the_whole_weight() {
    let device = Device::flex();
    let per_channel = QuantizerConfig {
        normalization: Normalization::VarMean,
        granularity: Granularity::PerChannel,
        ..config(Method::Lsq, Role::Weight, 3)
    };
    // The channels are -1, 1 and 9, 11: each normalised alone they are equal, together they are far
    // apart.
    let x = tensor(&[-1.0, 1.0, 9.0, 11.0], [2, 2, 1, 1], &device);
    let y = |config| host(make(&config, [2, 2, 1, 1], &device).forward(x.clone()));
    assert_eq!(y(per_channel.clone()), [-1.0, 1.0, -1.0, 1.0]);
    let independent = QuantizerConfig { independent_norm: true, ..per_channel };
    assert_eq!(y(independent), [-1.0, -1.0, 1.0, 1.0]);
}

#[test]
fn evaluation_does_not_move_a_basis() {
    let quantizer =
        make(&config(Method::LQ_NETS, Role::Weight, 4), SHAPE, &Device::flex().autodiff());
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
            let quantizer = make(&config(Method::LQ_NETS, role, 4), SHAPE, &device);
            let x = tensor(&[value; COUNT], SHAPE, &device);
            let MethodModule::LqNets(lq) = &quantizer.method else { unreachable!() };
            let condition = lq.condition(&x);
            assert_eq!(condition.len(), 1);
            if value > 0.0 {
                assert!(condition[0] > 1e3, "{role:?}: {condition:?}");
            }
            quantizer.forward(x);
            let basis = host(quantizer.running()[0].1.clone());
            assert!(basis.iter().all(|v| v.is_finite()), "{role:?} {value}: {basis:?}");
        }
    }
}
