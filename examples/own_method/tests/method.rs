//! Tests the method with the checks that quant-core's own methods pass, and trains it with a
//! recipe.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path, sync::OnceLock};

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use own_method::register_power_of_two;
use quant_core::{
    Calibration, Granularity, Levels, Method, Quantizer, QuantizerConfig, Range, Role, Site,
    check::{self, Tape},
    training_call,
};
use quant_train::{Recipe, Run, RunOptions, Summary};

/// Returns the method, which is registered once for all tests of this program.
fn method() -> Method {
    static METHOD: OnceLock<Method> = OnceLock::new();
    *METHOD.get_or_init(|| register_power_of_two().unwrap())
}

fn quantizer(role: Role, levels: usize, steps: &[f32]) -> Quantizer {
    let config = QuantizerConfig {
        granularity: Granularity::PerChannel,
        ..QuantizerConfig::new(method(), role, Levels::new(levels).unwrap())
    };
    let site = match role {
        Role::Weight => Site::weight("w", [2, 1, 3, 3]),
        _ => Site::activation("a", 2),
    };
    let mut quantizer = config.init(&site, &Device::flex().autodiff()).unwrap();
    assert!(quantizer.set_learned("step_size", steps));
    quantizer
}

/// Returns 36 numbers of both signs, none of which is near a threshold for steps of 1/4 and 1/2.
fn inputs(shape: [usize; 4]) -> Tensor<4> {
    let count = shape.iter().product::<usize>();
    let x: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin() * 1.9 + 0.013).collect();
    Tensor::<1>::from_floats(x.as_slice(), &Device::flex().autodiff()).reshape(shape)
}

/// Computes the formula in double precision. The power of two is proportional to the step size.
fn surrogate(lowest: f64, highest: f64) -> impl Fn(&[f64], &[f64], &mut Tape) -> Vec<f64> {
    move |x, parameters, tape| {
        let s = parameters[0].abs();
        let ratio = tape.constant(s.log2().round_ties_even().exp2() / s);
        let step = s * ratio;
        let value = |x: &f64| {
            let v = tape.clamp(x / step, lowest, highest);
            tape.round(v) * step
        };
        x.iter().map(value).collect()
    }
}

#[test]
fn gradients_are_those_of_the_formula() {
    let activation = quantizer(Role::Activation, 4, &[0.3, 0.45]);
    let found = check::gradients(&activation, inputs([2, 2, 3, 3]), surrogate(0.0, 3.0));
    assert_eq!(found, Ok(()));
    let weight = quantizer(Role::Weight, 4, &[0.3, 0.45]);
    let found = check::gradients(&weight, inputs([2, 1, 3, 3]), surrogate(-2.0, 1.0));
    assert_eq!(found, Ok(()));
}

#[test]
fn a_gradient_that_is_not_the_formulas_is_found() {
    let activation = quantizer(Role::Activation, 4, &[0.3, 0.45]);
    let wrong = |x: &[f64], parameters: &[f64], tape: &mut Tape| {
        let right = surrogate(0.0, 3.0)(x, parameters, tape);
        right.into_iter().map(|y| 1.01 * y).collect()
    };
    assert!(check::gradients(&activation, inputs([2, 2, 3, 3]), wrong).is_err());
}

#[test]
fn forward_codes_and_staircase_agree() {
    for levels in [2, 3, 4, 16, 256] {
        let activation = quantizer(Role::Activation, levels, &[0.3, 0.45]);
        assert_eq!(check::values(&activation, inputs([2, 2, 3, 3])), Ok(()), "{levels}");
    }
    for levels in [3, 4, 16] {
        let weight = quantizer(Role::Weight, levels, &[0.06, 0.7]);
        assert_eq!(check::values(&weight, inputs([2, 1, 3, 3])), Ok(()), "{levels}");
    }
}

/// Half to even in the formula, always below in the staircase: an evaluation does what codes say.
#[test]
fn an_evaluation_is_what_its_codes_decode_to_also_on_thresholds() {
    let ties: Vec<f32> = (0..36).map(|i| (i % 6) as f32 * 0.25 - 0.125).collect();
    let ties = Tensor::<1>::from_floats(ties.as_slice(), &Device::flex()).reshape([2, 2, 3, 3]);
    let activation = quantizer(Role::Activation, 4, &[0.25, 0.25]).valid();
    assert_eq!(check::values(&activation, ties), Ok(()));
}

#[test]
fn steps_are_the_nearest_powers_of_two() {
    let activation = quantizer(Role::Activation, 4, &[0.3, 0.45]);
    // The logarithms are log2 0.3 = -1.74 and log2 0.45 = -1.15.
    assert_eq!(activation.level_values(), [0.0, 0.25, 0.5, 0.75]);
    let weight = quantizer(Role::Weight, 4, &[1.5, 1.0]);
    // The logarithm is log2 1.5 = 0.58.
    assert_eq!(weight.level_values(), [-4.0, -2.0, 0.0, 2.0]);
    assert_eq!(weight.config().range, Range::Signed);
}

#[test]
fn calibration_finds_the_power_of_least_error() {
    let mut activation = quantizer(Role::Activation, 4, &[1.0, 1.0]);
    // The inputs are the levels for step 1/2, in both channels.
    let levels = [0.0f32, 0.5, 1.0, 1.5];
    let x: Vec<f32> = (0..16).map(|i| levels[i % 4]).collect();
    let x = Tensor::<1>::from_floats(x.as_slice(), &Device::flex()).reshape([2, 2, 2, 2]);
    let info = activation.calibrate_on::<4>(x, Calibration::SquaredError).unwrap();
    assert!(info.error_after < 1e-12, "{info:?}");
    assert_eq!(activation.level_values(), levels);
}

/// Three steps make the clipping value of four unsigned levels.
#[test]
fn a_clipping_value_and_a_warm_up_set_the_step_size() {
    let mut activation = quantizer(Role::Activation, 4, &[0.3, 0.45]);
    assert_eq!(activation.set_clipping_value(1.5), Some("step_size"));
    assert_eq!(activation.learned_values("step_size"), Some(vec![0.5, 0.5]));

    // After two calls, the clipping value is the mean of the largest magnitudes 6 and 3.
    activation.set_warm_up(2, 1.0, 0);
    for largest in [6.0, 3.0] {
        let x = Tensor::<4>::full([1, 2, 1, 1], largest, &Device::flex().autodiff());
        let (_, call) = training_call(|| activation.forward(x));
        activation = call.settle(activation);
    }
    assert_eq!(activation.learned_values("step_size"), Some(vec![1.5, 1.5]));
    assert_eq!(activation.warm_up_left(), 0);
}

const RECIPE: &str = r#"
    name = "own"
    [data]
    kind = "fake"
    input_size = 16
    fake = { train = 24, val = 12, classes = 3 }
    [model]
    depth = "resnet20"
    stem = "cifar"
    width_alpha = 0.05
    [[phase]]
    name = "quantized"
    epochs = 2
    batch_size = 4
    learning_rate = 0.01
    checkpoint_steps = 2
    [[phase.policy]]
    at = { epoch = 1 }
    role = "weight"
    change = { bits = 2 }
    [phase.quantization]
    activation = { method = "power-of-two", bits = 2 }
    weight = { method = "power-of-two", bits = 3, granularity = "per-channel" }
"#;

fn train(run: &Run) -> Summary {
    run.execute().unwrap()
}

/// The method is calibrated, changed by a policy, saved and resumed like any other.
#[test]
fn a_recipe_trains_it_and_a_run_goes_on_to_the_same_bits() {
    method();
    let folder = tempfile::tempdir().unwrap();
    let options = || RunOptions { workers: Some(1), ..RunOptions::new(Device::flex()) };
    let recipe = Recipe::parse(RECIPE, Path::new("own.toml")).unwrap();
    let run = Run::create(folder.path(), recipe, folder.path(), folder.path(), options()).unwrap();
    let summary = train(&run);
    assert!(summary.size_bytes_packed < summary.size_bytes_float);
    let phase = run.folder().join("quantized");
    let whole = fs::read(phase.join("last.safetensors")).unwrap();
    for name in ["result.json", "last.safetensors"] {
        fs::remove_file(phase.join(name)).unwrap();
    }
    let checkpoints = fs::read_dir(phase.join("checkpoints")).unwrap();
    let mut steps: Vec<_> = checkpoints.map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    fs::remove_dir_all(steps.pop().unwrap()).unwrap();
    train(&Run::resume(run.folder(), None, options()).unwrap());
    assert!(fs::read(phase.join("last.safetensors")).unwrap() == whole);
}

#[test]
fn names_are_plain_and_taken_once() {
    method();
    let again = register_power_of_two().unwrap_err().to_string();
    assert!(again.contains("power-of-two") && again.contains("no other method"), "{again}");
}

#[test]
fn a_name_that_is_not_registered_lists_those_that_are() {
    method();
    let text = RECIPE.replace("power-of-two", "power-of-three");
    let error = Recipe::parse(&text, Path::new("own.toml")).unwrap_err().to_string();
    assert!(error.contains("power-of-three") && error.contains("`power-of-two`"), "{error}");
}
