//! Properties that every quantizer has, whatever its method and options.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::Device;
use common::{
    COUNT, SHAPE, cases, config, configs, group_members, host, looks_around, make, methods,
    randomize, tensor,
};
use proptest::prelude::*;
use quant_core::{
    Estimator, GradientScale, GradientScaleRule, Granularity, Levels, Method, Normalization,
    OptionValue, Parameter, Quantizer, QuantizerConfig, QuantizerError, Range, Role, Site,
    capability, methods_table, qtool::Compatibility,
};

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-3.0f32..3.0, COUNT)
}

/// Returns the configuration with FATNN's initial slope at 1, and other configurations unchanged.
fn with_slope_1(mut config: QuantizerConfig) -> QuantizerConfig {
    config.method.set_option("initial_slope", &OptionValue::Number(1.0));
    config
}

fn seeds() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(0.0f32..1.0, 11)
}

/// Returns a quantizer whose parameters are not the initial ones.
fn quantizer(config: &QuantizerConfig, seeds: &[f32]) -> Quantizer {
    let mut quantizer = make(config, SHAPE, &Device::flex());
    randomize(&mut quantizer, seeds);
    quantizer
}

fn quantize(quantizer: &Quantizer, x: &[f32]) -> Vec<f32> {
    host(quantizer.forward(tensor(x, SHAPE, &Device::flex())))
}

/// Returns for each element whether it keeps its value when it moves by 1e-5, so that it is not on
/// a threshold.
fn settled(quantizer: &Quantizer, x: &[f32]) -> Vec<bool> {
    let y = quantize(quantizer, x);
    let moved = |index: usize, by: f32| {
        let mut x = x.to_vec();
        x[index] += by;
        quantize(quantizer, &x)[index]
    };
    let close = |a: f32, b: f32| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
    (0..COUNT).map(|i| close(moved(i, 1e-5), y[i]) && close(moved(i, -1e-5), y[i])).collect()
}

fn distinct(values: impl Iterator<Item = f32>) -> usize {
    let mut values: Vec<f32> = values.map(|value| value + 0.0).collect();
    values.sort_by(f32::total_cmp);
    values.dedup();
    values.len()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_group_has_no_more_values_than_levels(
        config in configs(),
        x in values(),
        seeds in seeds(),
    ) {
        prop_assume!(!looks_around(&config));
        let quantizer = quantizer(&config, &seeds);
        let y = quantize(&quantizer, &x);
        for members in group_members(&quantizer) {
            let count = distinct(members.iter().map(|index| y[*index]));
            prop_assert!(count <= config.levels.count(), "{count} values: {config:?}");
        }
    }

    #[test]
    fn larger_elements_of_a_group_never_get_smaller_values(
        config in configs(), x in values(), seeds in seeds(),
    ) {
        prop_assume!(!looks_around(&config));
        let quantizer = quantizer(&config, &seeds);
        let y = quantize(&quantizer, &x);
        for mut members in group_members(&quantizer) {
            members.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
            let rising = members.windows(2).all(|pair| y[pair[0]] <= y[pair[1]]);
            prop_assert!(rising, "{config:?}");
        }
    }

    #[test]
    fn codes_decode_to_what_was_computed(config in configs(), x in values(), seeds in seeds()) {
        let quantizer = quantizer(&config, &seeds);
        let input = tensor(&x, SHAPE, &Device::flex());
        let codes = quantizer.codes(input.clone());
        let numbers: Vec<i64> = codes.codes.clone().into_data().iter().collect();
        let highest = config.levels.count() as i64 - 1;
        prop_assert!(numbers.iter().all(|code| (0..=highest).contains(code)), "{config:?}");
        prop_assert_eq!(host(codes.decode()), host(quantizer.forward(input)), "{:?}", config);
    }

    /// Training and evaluation compute the same values, except for what a call learns before its
    /// output.
    #[test]
    fn training_computes_what_evaluation_does(
        config in configs(),
        x in values(),
        seeds in seeds(),
    ) {
        prop_assume!(!common::flag(&config, "closed_form"));
        let device = Device::flex().autodiff();
        let mut trained = make(&config, SHAPE, &device);
        randomize(&mut trained, &seeds);
        let y = host(trained.forward(tensor(&x, SHAPE, &device)));
        prop_assert_eq!(y, quantize(&quantizer(&config, &seeds), &x), "{:?}", config);
    }

    /// With initial parameters, values lie in their own intervals. This does not hold for methods
    /// that measure the tensor (normalisation, DoReFa's and N2UQ's weights), because quantizing
    /// changes the measure.
    #[test]
    fn quantizing_twice_changes_nothing(config in configs(), x in values()) {
        let measures = matches!(config.method, Method::Dorefa | Method::N2uq)
            && config.role == Role::Weight;
        prop_assume!(!measures && config.normalization == Normalization::None);
        prop_assume!(!common::scales_signs(&config));
        // A slope of 1 puts FATNN's integers into their intervals.
        let config = with_slope_1(config);
        let quantizer = make(&config, SHAPE, &Device::flex());
        quantizer.set_running("basis", &[1.0]);
        let once = quantize(&quantizer, &x);
        let twice = quantize(&quantizer, &once);
        for (once, twice) in once.iter().zip(&twice) {
            prop_assert!((once - twice).abs() <= 1e-5, "{once} {twice} {config:?}");
        }
    }

    #[test]
    fn symmetric_levels_are_odd_functions(config in configs(), x in values()) {
        prop_assume!(config.range == Range::Signed && !looks_around(&config));
        prop_assume!(config.method != Method::LsqStep || config.levels.count() % 2 == 1);
        let quantizer = make(&config, SHAPE, &Device::flex());
        let negated: Vec<f32> = x.iter().map(|x| -x).collect();
        let (plus, minus) = (quantize(&quantizer, &x), quantize(&quantizer, &negated));
        let settled = settled(&quantizer, &x);
        for index in (0..COUNT).filter(|index| settled[*index]) {
            let (plus, minus) = (plus[index], minus[index]);
            prop_assert!(
                (plus + minus).abs() <= 1e-5 * (1.0 + plus.abs()),
                "{plus} {minus} {config:?}"
            );
        }
    }

    /// The staircase computes what the quantizer computes. Values therefore stay within its range,
    /// and calibration, which uses the staircase, measures the error that the quantizer will have.
    #[test]
    fn the_staircase_is_the_quantizer(config in configs(), x in values(), seeds in seeds()) {
        prop_assume!(config.normalization == Normalization::None);
        prop_assume!((config.method, config.role) != (Method::N2uq, Role::Weight));
        let quantizer = quantizer(&config, &seeds);
        let staircases = quantizer.staircases(tensor(&x, SHAPE, &Device::flex()));
        let (y, settled) = (quantize(&quantizer, &x), settled(&quantizer, &x));
        for (staircase, members) in staircases.iter().zip(group_members(&quantizer)) {
            for index in members.into_iter().filter(|index| settled[*index]) {
                let expected = staircase.value(x[index]);
                prop_assert!(
                    (y[index] - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                    "{} {expected}: {config:?}", y[index]
                );
            }
        }
    }

    /// Inputs and scales that are four times as large give values four times as large, to the last
    /// bit.
    #[test]
    fn scales_carry_through(config in configs(), x in values(), seeds in seeds()) {
        let free = matches!(config.method, Method::Dorefa | Method::Fatnn(_))
            || matches!(config.method, Method::Xnor(_)) && config.role != Role::Weight;
        prop_assume!(!free && config.normalization == Normalization::None);
        let small = quantizer(&config, &seeds);
        let mut large = quantizer(&config, &seeds);
        let relative = config.method == Method::N2uq && config.role == Role::Weight;
        for learned in small.learned() {
            if learned.name == "gamma" || relative {
                continue;
            }
            let values = host(learned.value.val()).into_iter();
            let scaled: Vec<f32> = values.map(|value| value * 4.0).collect();
            large.set_learned(learned.name, &scaled);
        }
        for (name, value) in small.running() {
            large.set_running(name, &host(value.mul_scalar(4.0)));
        }
        let x4: Vec<f32> = x.iter().map(|x| x * 4.0).collect();
        let y4: Vec<f32> = quantize(&small, &x).iter().map(|y| y * 4.0).collect();
        prop_assert_eq!(quantize(&large, &x4), y4, "{:?}", config);
    }

    #[test]
    fn channels_can_be_permuted(config in configs(), x in values(), seeds in seeds()) {
        prop_assume!(config.granularity == Granularity::PerChannel && !config.independent_norm);
        prop_assume!(!common::scales_signs(&config) && config.method != Method::Dorefa);
        prop_assume!(config.role == Role::Weight || config.normalization == Normalization::None);
        let axis = usize::from(config.role != Role::Weight);
        let shape = if axis == 0 { [4, 2, 3, 3] } else { SHAPE };
        let device = Device::flex();
        let mut straight = make(&config, shape, &device);
        randomize(&mut straight, &seeds);
        let mut flipped = make(&config, shape, &device);
        for learned in straight.learned() {
            let reversed: Vec<f32> = host(learned.value.val())
                .chunks(4)
                .flat_map(|row| row.iter().rev().copied().collect::<Vec<_>>())
                .collect();
            flipped.set_learned(learned.name, &reversed);
        }
        let x = tensor(&x, shape, &device);
        let expected = straight.forward(x.clone()).flip([axis as isize]);
        let y = flipped.forward(x.flip([axis as isize]));
        prop_assert_eq!(host(y), host(expected), "{:?}", config);
    }

    /// A configuration that was written to a file is read back unchanged.
    #[test]
    fn configurations_survive_serialisation(config in configs()) {
        let text = toml::to_string(&config).unwrap();
        prop_assert_eq!(toml::from_str::<QuantizerConfig>(&text).unwrap(), config);
    }

    #[test]
    fn the_nearest_configuration_is_valid(config in configs(), levels in 2usize..=256, flip: bool) {
        let range = if flip { Range::Unsigned } else { Range::Signed };
        let asked = QuantizerConfig { levels: Levels::new(levels).unwrap(), range, ..config };
        let near = asked.nearest();
        prop_assert_eq!(near.validate("test"), Ok(()));
        prop_assert_eq!(near.nearest(), near.clone());
        prop_assert_eq!(asked.validate("test").is_ok(), near == asked);
    }
}

#[test]
fn rounding_is_half_to_even() {
    let device = Device::flex();
    for method in [Method::Lsq, Method::LsqStep, Method::LsqPlus, Method::Pact, Method::Dorefa] {
        let quantizer = make(&config(method, Role::Activation, 5), [1, 1, 1, 4], &device);
        // The steps are 1/4: 0.125 lies between codes 0 and 1, 0.375 between 1 and 2, and so on.
        let x = tensor(&[0.125, 0.375, 0.625, 0.875], [1, 1, 1, 4], &device);
        assert_eq!(host(quantizer.forward(x)), [0.0, 0.5, 0.5, 1.0], "{method:?}");
    }
}

/// The two forms of LSQ are the same function if the range is unsigned, or if the number of levels
/// is odd.
#[test]
fn step_size_and_clipping_value_describe_the_same_function() {
    let device = Device::flex();
    let x: Vec<f32> = (0..COUNT).map(|index| index as f32 / 20.0 - 1.8).collect();
    for (range, levels) in [
        (Range::Unsigned, 4),
        (Range::Unsigned, 7),
        (Range::Unsigned, 256),
        (Range::Signed, 3),
        (Range::Signed, 15),
        (Range::Signed, 255),
    ] {
        let of = |method| QuantizerConfig { range, ..config(method, Role::Activation, levels) };
        let (mut by_clip, mut by_step) =
            (make(&of(Method::Lsq), SHAPE, &device), make(&of(Method::LsqStep), SHAPE, &device));
        let steps = (levels - 1) as f32 / if range == Range::Signed { 2.0 } else { 1.0 };
        by_clip.set_learned("clip_val", &[1.37]);
        by_step.set_learned("step_size", &[1.37 / steps]);
        let (a, b) = (quantize(&by_clip, &x), quantize(&by_step, &x));
        let settled = settled(&by_clip, &x);
        assert!(settled.iter().filter(|settled| **settled).count() > COUNT / 2);
        for index in (0..COUNT).filter(|index| settled[*index]) {
            assert!(
                (a[index] - b[index]).abs() < 1e-6,
                "{range:?} {levels}: {} {}",
                a[index],
                b[index]
            );
        }
    }
}

/// If the range is signed and the number of levels is even, the levels of the paper include 0, and
/// those of the clipping-value form do not.
#[test]
fn the_papers_signed_levels_lie_about_zero() {
    let device = Device::flex();
    let step = make(&config(Method::LsqStep, Role::Weight, 4), SHAPE, &device);
    assert_eq!(step.level_values(), [-2.0, -1.0, 0.0, 1.0]);
    let clip = make(&config(Method::Lsq, Role::Weight, 4), SHAPE, &device);
    assert!(clip.level_values().iter().all(|level| level.abs() > 0.3));
}

#[test]
fn groups_that_do_not_divide_name_both_numbers() {
    let config = QuantizerConfig {
        granularity: Granularity::Groups(5),
        ..config(Method::Lsq, Role::Weight, 3)
    };
    let site = Site::weight("conv7", [4, 3, 3, 3]);
    let error = config.init(&site, &Device::flex()).unwrap_err();
    let expected = QuantizerError::Groups {
        layer: "conv7".into(),
        groups: 5,
        elements: 12,
        shape: vec![4, 3, 3, 3],
    };
    assert_eq!(error, expected);
    // Imported configurations fall back to another number of groups and report it.
    let imported = QuantizerConfig {
        qtool: Compatibility { group_fallback: true, ..Default::default() },
        ..config
    };
    let quantizer = imported.init(&site, &Device::flex()).unwrap();
    let text = quantizer.group_fallback().unwrap().to_string();
    assert_eq!(text, "conv7: 5 does not divide 12, so 4 groups are used instead");
}

#[test]
fn what_a_method_does_not_offer_shows_the_nearest_that_it_does() {
    let text = |config: QuantizerConfig| config.validate("conv").unwrap_err().to_string();
    let bits = Levels::from_bits(2).unwrap();
    let pact = QuantizerConfig::new(Method::Pact, Role::Weight, bits);
    assert!(text(pact).ends_with("configuration has method = dorefa"));
    let fatnn = QuantizerConfig::new(Method::FATNN, Role::Weight, bits);
    assert!(text(fatnn).ends_with("levels = 3"));
    let several = QuantizerConfig {
        granularity: Granularity::PerChannel,
        normalization: Normalization::MeanVar,
        ..config(Method::Dorefa, Role::Activation, 4)
    };
    assert!(text(several).ends_with("granularity = per-tensor, normalization = none"));
    let gamma = QuantizerConfig { gamma: true, ..config(Method::Lsq, Role::Activation, 4) };
    let expected = "conv: gamma = true is not supported by the method lsq as activation quantizer; \
                    the nearest supported configuration has gamma = false";
    assert_eq!(text(gamma), expected);
    let groups = QuantizerConfig {
        granularity: Granularity::Groups(2),
        estimator: Estimator::Triangle,
        ..config(Method::Dorefa, Role::Activation, 4)
    };
    assert!(text(groups.clone()).starts_with("conv: granularity = { groups = 2 } is not"));
    assert!(text(groups).ends_with("granularity = per-tensor, estimator = clipped"));
}

/// The test sets every option that a method does not have to a value that another method takes.
#[test]
fn options_that_nothing_acts_on_are_refused() {
    type Change = fn(&mut QuantizerConfig);
    let changes: [(&str, Change); 6] = [
        ("gradient_scale", |c| c.gradient_scale.rule = GradientScaleRule::ScaleFan),
        ("boundary", |c| c.boundary = 2.0),
        ("gamma", |c| c.gamma = true),
        // These options belong to choices of other fields.
        ("ewgs_factor", |c| c.ewgs_factor = 0.2),
        ("independent_norm", |c| {
            (c.independent_norm, c.normalization) = (true, Normalization::None);
        }),
        ("restore_normalization", |c| {
            (c.restore_normalization, c.normalization) = (true, Normalization::None);
        }),
    ];
    for (method, role) in methods() {
        let plain = config(method, role, 4);
        assert_eq!(plain.validate("conv"), Ok(()));
        let offer = capability(method, role, plain.range).unwrap();
        let changed = changes.iter().map(|(option, change)| {
            let mut config = plain.clone();
            change(&mut config);
            (*option, config)
        });
        // The type of a method cannot hold the options of another, so its own options are tested.
        let own = method.own_options().list().into_iter().map(|option| {
            let value = match option.default {
                OptionValue::Flag(flag) => OptionValue::Flag(!flag),
                OptionValue::Number(number) => OptionValue::Number(number * 0.7),
                OptionValue::Text(_) => OptionValue::Text("over-channels".into()),
            };
            (option.name, common::with(plain.clone(), option.name, value))
        });
        for (option, config) in changed.chain(own) {
            let refused = config.validate("conv").err().map(|error| error.to_string());
            let has = offer.options.contains(&option);
            assert_eq!(refused.is_none(), has, "{method:?} {role:?} {option}: {refused:?}");
            if let Some(refused) = refused {
                assert!(refused.contains(&format!("conv: {option}")), "{refused}");
            }
        }
    }
    let factor = GradientScale { factor: 3.0, ..GradientScale::default() };
    let config = QuantizerConfig { gradient_scale: factor, ..config(Method::Lsq, Role::Weight, 4) };
    assert!(config.validate("conv").is_err(), "a factor without a rule that has one");
}

/// Fields that a file leaves out have the same defaults as in Rust.
#[test]
fn defaults_are_the_same_from_rust_and_from_a_file() {
    for (method, role) in methods() {
        let usual = config(method, role, 4);
        let text = toml::to_string(&usual).unwrap();
        let least: Vec<&str> = text
            .lines()
            .filter(|line| ["method", "role", "levels"].iter().any(|key| line.starts_with(key)))
            .collect();
        assert_eq!(least.len(), 3, "{text}");
        assert_eq!(toml::from_str::<QuantizerConfig>(&least.join("\n")).unwrap(), usual);
    }
}

#[test]
fn an_option_of_another_method_in_a_file_is_refused_with_its_owner() {
    let text = "method = 'lsq'\nrole = 'weight'\nlevels = 3\nternary_threshold = 0.3";
    let error = toml::from_str::<QuantizerConfig>(text).unwrap_err().to_string();
    assert!(error.contains("ternary_threshold is an option of the method ttq"), "{error}");
    let unknown = text.replace("ternary_threshold", "threshhold");
    let error = toml::from_str::<QuantizerConfig>(&unknown).unwrap_err().to_string();
    assert!(error.contains("unknown field `threshhold`"), "{error}");
}

#[test]
fn a_field_that_must_be_positive_is_named() {
    for boundary in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let config = QuantizerConfig { boundary, ..config(Method::Lsq, Role::Weight, 4) };
        let text = config.validate("conv").unwrap_err().to_string();
        assert!(text.contains("boundary") && text.contains("conv"), "{text}");
    }
}

/// A method lacks only the roles that its paper does not have.
#[test]
fn every_method_has_the_roles_of_its_paper() {
    let all = methods();
    for method in Method::ALL.iter().copied() {
        let weights = !matches!(method, Method::Pact | Method::LsqPlus);
        assert_eq!(all.contains(&(method, Role::Weight)), weights, "{method:?}");
        let activations = method != Method::TTQ;
        assert_eq!(all.contains(&(method, Role::Activation)), activations, "{method:?}");
        assert_eq!(all.contains(&(method, Role::Output)), activations, "{method:?}");
    }
}

/// The parameters that a quantizer has are those that the table names.
#[test]
fn the_table_names_what_is_learned() {
    for (method, role) in methods() {
        let config = config(method, role, 4);
        let offer = capability(method, role, config.range).unwrap();
        let quantizer = make(&config, SHAPE, &Device::flex());
        let learned = quantizer.learned();
        let learned: Vec<Parameter> =
            learned.iter().map(|learned| Parameter::new(learned.name, learned.kind)).collect();
        assert_eq!(learned, offer.learned, "{method:?} {role:?}");
        let running: Vec<&str> = quantizer.running().iter().map(|(name, _)| *name).collect();
        assert_eq!(running, offer.running, "{method:?} {role:?}");
    }
}

#[test]
fn the_guide_has_the_table_that_configurations_are_checked_by() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/quantizers.md");
    let guide = std::fs::read_to_string(path).unwrap();
    assert!(guide.contains(&methods_table()), "run `cargo run -p quantizer_plots`");
}
