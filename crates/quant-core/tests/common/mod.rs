//! Helpers that the test programs share.

#![allow(dead_code, reason = "each test program uses a part")]

use burn::tensor::{Device, Tensor};
use proptest::prelude::*;
use quant_core::{
    Estimator, GradientScale, GradientScaleRule, Granularity, Levels, Method, Normalization,
    OptionValue, Quantizer, QuantizerConfig, Range, Role, Site,
};

/// Enough cases to meet every method, although many cases do not fit the claim of a test.
pub(crate) fn cases() -> ProptestConfig {
    ProptestConfig { cases: 192, max_global_rejects: 1 << 16, ..ProptestConfig::default() }
}

/// The shape of two images of four channels, or of a weight with two output and four input
/// channels.
pub(crate) const SHAPE: [usize; 4] = [2, 4, 3, 3];
pub(crate) const COUNT: usize = 72;

/// Returns the quantizer of a configuration for a weight of this shape, or for an activation of its
/// channels.
pub(crate) fn make(config: &QuantizerConfig, shape: [usize; 4], device: &Device) -> Quantizer {
    let site = match config.role {
        Role::Weight => Site::weight("test", shape.to_vec()),
        _ => Site::activation("test", shape[1]),
    };
    config.init(&site, device).unwrap()
}

pub(crate) fn tensor(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::<1>::from_floats(values, device).reshape(shape)
}

/// Returns values as one row.
pub(crate) fn row(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::<1>::from_floats(values, device).reshape([1, values.len()])
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// Trains on a batch without images, and returns the gradients of the learned parameters.
pub(crate) fn gradients_of_nothing(config: &QuantizerConfig, device: &Device) -> Vec<f32> {
    let quantizer = make(config, SHAPE, device);
    let empty = Tensor::<4>::zeros([0, 4, 3, 3], device).require_grad();
    let y = quantizer.forward(empty.clone());
    assert_eq!(y.dims(), [0, 4, 3, 3]);
    let gradients = y.sum().backward();
    assert_eq!(empty.grad(&gradients).unwrap().dims(), [0, 4, 3, 3]);
    let of = |learned: quant_core::Learned| learned.value.val().grad(&gradients).map(host);
    quantizer.learned().into_iter().filter_map(of).flatten().collect()
}

/// Returns the usual form of a method, with this number of levels or the nearest that it has.
pub(crate) fn config(method: Method, role: Role, levels: usize) -> QuantizerConfig {
    QuantizerConfig::new(method, role, Levels::new(levels).unwrap()).nearest()
}

/// Returns every method with every role that it has.
pub(crate) fn methods() -> Vec<(Method, Role)> {
    let all = Method::ALL.iter().copied().flat_map(|method| Role::ALL.map(|role| (method, role)));
    all.filter(|(method, role)| config(*method, *role, 4).method == *method).collect()
}

/// Generates valid configurations: any configuration, replaced by the nearest valid one.
pub(crate) fn configs() -> impl Strategy<Value = QuantizerConfig> {
    let choices = (
        prop::sample::select(methods()),
        prop_oneof![2usize..=9, 2usize..=256],
        any::<bool>(),
        prop::sample::select(vec![
            Granularity::PerTensor,
            Granularity::PerChannel,
            Granularity::Groups(2),
        ]),
        prop::sample::select(vec![
            Estimator::Clipped,
            Estimator::Clipped,
            Estimator::SteScale,
            Estimator::Identity,
            Estimator::Triangle,
            Estimator::Ewgs,
        ]),
        prop::sample::select(vec![
            Normalization::None,
            Normalization::None,
            Normalization::VarMean,
            Normalization::Mean,
            Normalization::Var,
            Normalization::MeanVar,
        ]),
        prop::sample::select(vec!["none", "none", "over-channels", "over-resolution"]),
        prop::array::uniform6(any::<bool>()),
        0.0..=1.0,
    );
    choices.prop_map(|choices| {
        let (
            (method, role),
            levels,
            signed,
            granularity,
            estimator,
            normalization,
            sign_scale,
            flags,
            position,
        ) = choices;
        let [gamma, shift, closed_form, independent_norm, restore_normalization, running] = flags;
        let mut method = method;
        for (option, value) in [
            ("sign_scale", OptionValue::Text(sign_scale.into())),
            ("shift", OptionValue::Flag(shift)),
            ("closed_form", OptionValue::Flag(closed_form)),
            ("running_mean_basis", OptionValue::Flag(running)),
            ("threshold_position", OptionValue::Number(position)),
        ] {
            // A method has some of these options, or none.
            method.set_option(option, &value);
        }
        QuantizerConfig {
            range: if signed { Range::Signed } else { Range::Unsigned },
            granularity,
            estimator,
            normalization,
            gamma,
            independent_norm,
            restore_normalization,
            gradient_scale: GradientScale {
                rule: GradientScaleRule::None,
                ..GradientScale::default()
            },
            ..QuantizerConfig::new(method, role, Levels::new(levels).unwrap())
        }
        .nearest()
    })
}

/// Returns whether a flag of the method is set. A flag that the method does not have is not set.
pub(crate) fn flag(config: &QuantizerConfig, name: &str) -> bool {
    config.method.option(name) == Some(OptionValue::Flag(true))
}

/// Returns the same configuration with an option of its method set.
pub(crate) fn with(mut config: QuantizerConfig, name: &str, value: OptionValue) -> QuantizerConfig {
    assert!(config.method.set_option(name, &value), "{} has no {name}", config.method);
    config
}

/// Returns whether the signs of an activation are multiplied by means of its image.
pub(crate) fn scales_signs(config: &QuantizerConfig) -> bool {
    let scale = config.method.option("sign_scale");
    scale.is_some_and(|scale| scale != OptionValue::Text("none".into()))
}

/// Returns whether a value depends on other elements of its image.
pub(crate) fn looks_around(config: &QuantizerConfig) -> bool {
    scales_signs(config)
        || config.role != Role::Weight && config.normalization != Normalization::None
}

/// Sets parameters in a sensible range, from numbers in 0..1.
pub(crate) fn randomize(quantizer: &mut Quantizer, seeds: &[f32]) {
    let steps = quantizer.config().levels.steps();
    let learned: Vec<(&str, usize)> = quantizer
        .learned()
        .iter()
        .map(|learned| (learned.name, host(learned.value.val()).len()))
        .collect();
    for (kind, (name, count)) in learned.into_iter().enumerate() {
        let value = |index: usize| {
            let seed = seeds[(7 * kind + index) % seeds.len()];
            match name {
                "offset" | "start" | "shift" => seed - 0.5,
                "step_size" => (0.5 + seed) * 2.0 / steps,
                "intervals" => (0.3 + seed) * 3.0 / steps,
                "alpha0" | "alpha1" | "alpha2" => 0.5 + seed,
                _ => 0.6 + seed,
            }
        };
        let values: Vec<f32> = (0..count).map(value).collect();
        assert!(quantizer.set_learned(name, &values), "{name}");
    }
}

/// Returns the indices of each group's elements in a tensor of [`SHAPE`].
pub(crate) fn group_members(quantizer: &Quantizer) -> Vec<Vec<usize>> {
    let groups = quantizer.groups();
    let mut members = vec![Vec::new(); groups];
    for index in 0..COUNT {
        let group = match (groups, quantizer.config().role) {
            (1, _) => 0,
            (_, Role::Weight) => index * groups / COUNT,
            _ => index / 9 % 4 * groups / 4,
        };
        members[group].push(index);
    }
    members
}
