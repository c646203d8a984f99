//! Compares the analytic gradients with central differences, in double precision, of each method's
//! *surrogate*: the function whose derivative its estimators claim to be. The surrogates are
//! written from the papers' formulas.
//!
//! A surrogate is the forward formula in which everything that the estimators hold constant is held
//! constant: the error of a rounding, or a maximum or mean that is not differentiated. A [`Tape`]
//! records these constants at the point that is checked, and plays them back beside it.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::{Device, Tensor};
use common::{
    COUNT, SHAPE, cases, config, configs, group_members, host, make, methods, randomize, tensor,
};
use proptest::prelude::*;
use quant_core::{
    Estimator, GradientScale, GradientScaleRule, Granularity, Levels, Method, Normalization,
    OptionValue, Quantizer, QuantizerConfig, Range, Role, Site,
    check::{self, CheckError, Tape},
};

type Params = Vec<(String, Vec<f64>)>;

fn param(params: &Params, name: &str, group: usize) -> f64 {
    params.iter().find(|(other, _)| other == name).map_or(1.0, |(_, values)| values[group])
}

fn count(params: &Params, name: &str) -> usize {
    params.iter().find(|(other, _)| other == name).map_or(0, |(_, values)| values.len())
}

fn mean(x: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    x.iter().map(|x| f(*x)).sum::<f64>() / x.len() as f64
}

/// Returns (w - mean)/std of the group, and the factor of a restoration.
fn normalized(config: &QuantizerConfig, x: &[f64], tape: &mut Tape) -> (Vec<f64>, f64) {
    if config.normalization != Normalization::VarMean {
        return (x.to_vec(), 1.0);
    }
    let centre = tape.constant(mean(x, |x| x));
    let variance = x.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0);
    let deviation = tape.constant(variance.sqrt());
    let restore = if config.restore_normalization { deviation } else { 1.0 };
    (x.iter().map(|x| (x - centre) / deviation).collect(), restore)
}

/// Returns the surrogate of a sign: the integral of the estimator's mask.
fn sign(x: f64, estimator: Estimator, tape: &mut Tape) -> f64 {
    let value = if x >= 0.0 { 1.0 } else { -1.0 };
    let like = match estimator {
        Estimator::Identity => x,
        Estimator::Triangle => {
            let x = tape.clamp(x, -1.0, 1.0);
            2.0 * x - x * x.abs()
        }
        _ => tape.clamp(x, -1.0, 1.0),
    };
    tape.like(value, like)
}

/// Returns the surrogate of one group's elements.
fn surrogate(
    quantizer: &Quantizer,
    group: usize,
    x: &[f64],
    params: &Params,
    tape: &mut Tape,
) -> Vec<f64> {
    let config = quantizer.config();
    let n = f64::from(config.levels.steps());
    let signed = config.range == Range::Signed;
    let weight = config.role == Role::Weight;
    let get = |name: &str| param(params, name, group);
    let (x, restore) = normalized(config, x, tape);
    let gamma = get("gamma");
    let staircase = |v: f64, tape: &mut Tape| {
        if signed {
            let u = (tape.clamp(v, -1.0, 1.0) + 1.0) / 2.0;
            2.0 * tape.round(u * n) / n - 1.0
        } else {
            let u = tape.clamp(v, 0.0, 1.0);
            tape.round(u * n) / n
        }
    };
    let y: Vec<f64> = match config.method {
        Method::Lsq => {
            let s = get("clip_val").abs();
            x.iter().map(|x| staircase(x / s, tape) * s * gamma).collect()
        }
        Method::LsqStep => {
            let positive = if signed { (n / 2.0).floor() } else { n };
            let negative = if signed { n - positive } else { 0.0 };
            let s = get("step_size").abs();
            let code = |x: f64, tape: &mut Tape| {
                let v = tape.clamp(x / s, -negative, positive);
                tape.round(v)
            };
            x.iter().map(|x| code(*x, tape) * s).collect()
        }
        Method::LsqPlus => {
            let (s, b) = (get("step_size").abs(), get("offset"));
            let code = |x: f64, tape: &mut Tape| {
                let v = tape.clamp((x - b) / s, 0.0, n);
                tape.round(v)
            };
            x.iter().map(|x| code(*x, tape) * s + b).collect()
        }
        // This is equation 1 of the paper, which holds for any clipping value. The clipping value
        // is a constant inside the rounding, and where it is 0 or below nothing is left of the
        // rounded value.
        Method::Pact => {
            let c = get("clip_val");
            let fixed = tape.constant(c);
            let value = |x: f64, tape: &mut Tape| {
                tape.mark_kink(x.abs() < 1e-3 || (x - c).abs() < 1e-3);
                let bounded = 0.5 * (x.abs() - (x - c).abs() + c);
                if fixed > 0.0 {
                    tape.round(bounded * n / fixed) * fixed / n
                } else {
                    tape.like(0.0, bounded)
                }
            };
            x.iter().map(|x| value(*x, tape)).collect()
        }
        Method::Dorefa if !weight => {
            let b = config.boundary;
            let code = |x: f64, tape: &mut Tape| {
                let v = tape.clamp(x, 0.0, b);
                tape.round(v * n / b)
            };
            x.iter().map(|x| code(*x, tape) * b / n * gamma).collect()
        }
        // The maximum is differentiated, and it has to stay at the same element.
        Method::Dorefa => {
            let b = config.boundary;
            let t: Vec<f64> = x.iter().map(|x| x.tanh()).collect();
            let mut sizes: Vec<f64> = t.iter().map(|t| t.abs()).collect();
            sizes.sort_by(f64::total_cmp);
            let largest = sizes[sizes.len() - 1];
            tape.mark_kink(largest - sizes[sizes.len() - 2] < 1e-3);
            let code = |t: f64, tape: &mut Tape| tape.round((t / (2.0 * largest) + 0.5) * n / b);
            t.iter().map(|t| (2.0 * code(*t, tape) * b / n - 1.0) * gamma).collect()
        }
        Method::Xnor(_) if weight => {
            let scale = tape.constant(mean(&x, f64::abs));
            // The estimator stands for the derivative of the scaled sign.
            let value = |x: f64, tape: &mut Tape| {
                let fixed = if x >= 0.0 { scale } else { -scale };
                let like = sign(x, config.estimator, tape);
                tape.like(fixed, like)
            };
            x.iter().map(|x| value(*x, tape) * gamma).collect()
        }
        Method::Xnor(options) => {
            let shift = if options.shift { get("shift") } else { 0.0 };
            x.iter().map(|x| sign(x - shift, config.estimator, tape)).collect()
        }
        Method::Fatnn(_) if signed => {
            let (below, above) = (get("alpha0").abs(), get("alpha1").abs());
            let piece = |u: f64, low: f64, tape: &mut Tape| {
                let u = tape.clamp(u, low, low + 1.0);
                tape.round(u)
            };
            x.iter().map(|x| piece(x * below, -1.0, tape) + piece(x * above, 0.0, tape)).collect()
        }
        Method::Fatnn(_) => {
            let alphas: Vec<f64> = ["alpha0", "alpha1", "alpha2"]
                .iter()
                .take(config.levels.count() - 1)
                .map(|name| get(name).abs())
                .collect();
            let sum = |x: f64, tape: &mut Tape| {
                let (mut sum, mut from) = (0.0, 0.0);
                for alpha in &alphas {
                    let u = tape.clamp((x - from) * alpha, 0.0, 1.0);
                    sum += tape.round(u);
                    from += 1.0 / alpha;
                }
                sum
            };
            x.iter().map(|x| sum(*x, tape)).collect()
        }
        Method::N2uq if !weight => {
            let (start, scale) = (get("start"), get("scale"));
            let groups = count(params, "intervals") / (config.levels.count() - 1);
            let widths: Vec<f64> = (0..config.levels.count() - 1)
                .map(|index| param(params, "intervals", index * groups + group).abs())
                .collect();
            let sum = |x: f64, tape: &mut Tape| {
                let (mut sum, mut from) = (0.0, start);
                for width in &widths {
                    let u = tape.clamp((x - from) / width, 0.0, 1.0);
                    sum += tape.round(u);
                    from += width;
                }
                sum
            };
            x.iter().map(|x| sum(*x, tape) * scale).collect()
        }
        Method::N2uq => {
            let unit = tape.constant(mean(&x, f64::abs) * 2.0 * n / (n + 1.0));
            let s = get("clip_val").abs() * unit;
            x.iter().map(|x| staircase(x / s, tape) * s).collect()
        }
        // The gradients of the scales are those of the values. The gradient of w is that of the
        // function with the slopes N, 1, P.
        Method::Ttq(options) => {
            let largest = x.iter().map(|x| x.abs()).fold(0.0, f64::max);
            let bound = tape.constant(largest * options.ternary_threshold);
            let (positive, negative) = (get("positive"), get("negative"));
            let (p, q) = (tape.constant(positive), tape.constant(negative));
            let value = |x: f64, tape: &mut Tape| {
                tape.mark_kink((x.abs() - bound).abs() < 1e-3);
                let value = match x {
                    x if x > bound => positive,
                    x if x < -bound => -negative,
                    _ => 0.0,
                };
                let inner = x.clamp(-bound, bound);
                let moving = inner + p * (x - bound).max(0.0) - q * (-bound - x).max(0.0);
                value + moving - tape.constant(moving)
            };
            x.iter().map(|x| value(*x, tape)).collect()
        }
        Method::Apot => {
            let a = get("clip_val").abs();
            let unit = apot_levels(config);
            let value = |x: f64, tape: &mut Tape| {
                let v = tape.clamp(x / a, if signed { -1.0 } else { 0.0 }, 1.0);
                let distance = |level: &f64| (level - v).abs();
                let mut near: Vec<f64> = unit.clone();
                near.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
                tape.mark_kink(distance(&near[1]) - distance(&near[0]) < 1e-4);
                tape.like(near[0], v)
            };
            x.iter().map(|x| value(*x, tape) * a).collect()
        }
        // For weights no surrogate has the derivative. For activations it is min(x, top).
        Method::LqNets(_) => {
            // This is the basis from before the call, which changes it.
            let top = tape.constant(f64::from(*quantizer.level_values().last().unwrap()));
            let value = |x: f64, tape: &mut Tape| {
                if weight {
                    x
                } else {
                    tape.mark_kink((x - top).abs() < 1e-3);
                    x.min(top)
                }
            };
            x.iter().map(|x| value(*x, tape)).collect()
        }
        Method::Own(_) => unreachable!("none is registered"),
    };
    y.into_iter().map(|y| y * restore).collect()
}

/// Returns the sums of one term for each two bits, and of one term of one bit where the number of
/// bits is odd: section 2.2.
fn apot_levels(config: &QuantizerConfig) -> Vec<f64> {
    let signed = config.range == Range::Signed;
    let bits = config.levels.bits() - u32::from(signed);
    let terms: &[&[i32]] = match bits {
        1 => &[&[0]],
        2 => &[&[0, 1, 2]],
        3 => &[&[0, 1, 3], &[2]],
        4 => &[&[0, 2, 4], &[1, 3, 5]],
        _ => unreachable!("the test keeps to four bits"),
    };
    let mut sums = vec![0.0];
    for term in terms {
        let powers: Vec<f64> =
            [0.0].into_iter().chain(term.iter().map(|power| 2f64.powi(-power))).collect();
        sums = sums.iter().flat_map(|sum| powers.iter().map(move |power| sum + power)).collect();
    }
    let largest = sums.iter().copied().fold(0.0, f64::max);
    let positive: Vec<f64> = sums.iter().map(|sum| sum / largest).collect();
    if signed {
        positive
            .iter()
            .flat_map(|p| [*p, -p])
            .filter(|p| *p != -0.0 || p.is_sign_positive())
            .collect()
    } else {
        positive
    }
}

/// Returns Σ g·surrogate over all groups.
fn objective(
    quantizer: &Quantizer,
    x: &[f64],
    grad: &[f32],
    params: &Params,
    tape: &mut Tape,
) -> f64 {
    tape.rewind();
    let mut sum = 0.0;
    for (group, members) in group_members(quantizer).into_iter().enumerate() {
        let inputs: Vec<f64> = members.iter().map(|index| x[*index]).collect();
        let y = surrogate(quantizer, group, &inputs, params, tape);
        sum += members.iter().zip(y).map(|(index, y)| f64::from(grad[*index]) * y).sum::<f64>();
    }
    sum
}

fn close(
    actual: f32,
    expected: f64,
    what: &str,
    config: &QuantizerConfig,
) -> Result<(), TestCaseError> {
    let error = (f64::from(actual) - expected).abs();
    prop_assert!(
        error < 2e-4 * (1.0 + expected.abs()),
        "{what}: {actual}, expected {expected}: {config:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn gradients_are_those_of_the_surrogate(
        config in configs(),
        x in prop::collection::vec(-2.5f32..2.5, COUNT),
        seeds in prop::collection::vec(0.0f32..1.0, 11),
    ) {
        // Estimators without a surrogate, and normalisations over images, have tests of their own.
        prop_assume!(!matches!(config.estimator, Estimator::Ewgs | Estimator::SteScale));
        prop_assume!(matches!(config.normalization, Normalization::None | Normalization::VarMean));
        prop_assume!(!common::scales_signs(&config));
        let device = Device::flex().autodiff();
        let levels = Levels::new(config.levels.count().min(16)).unwrap();
        let mut config = QuantizerConfig { levels, ..config };
        config.method.set_option("closed_form", &OptionValue::Flag(false));
        let config = config.nearest();
        let mut quantizer = make(&config, SHAPE, &device);
        randomize(&mut quantizer, &seeds);
        // A maximum or a normalisation over the whole tensor is checked only where the tensor is
        // one group.
        let together = config.method == Method::Dorefa && config.role == Role::Weight
            || config.independent_norm;
        prop_assume!(!together || quantizer.groups() == 1);

        let names: Vec<(String, usize)> = quantizer.learned().iter().map(|learned| {
            let count = host(learned.value.val()).len() / quantizer.groups();
            (learned.name.to_owned(), count)
        }).collect();
        let of_group = |x: &[f64], parameters: &[f64], tape: &mut Tape| {
            let mut rest = parameters.iter().copied();
            let params: Params = names.iter().map(|(name, count)| {
                (name.clone(), rest.by_ref().take(*count).collect())
            }).collect();
            surrogate(&quantizer, 0, x, &params, tape)
        };
        match check::gradients(&quantizer, tensor(&x, SHAPE, &device), of_group) {
            Err(CheckError::Kink) => prop_assume!(false),
            found => prop_assert_eq!(found, Ok(()), "{:?}", config),
        }
    }

    /// Scales that training has driven to zero or below also have the gradient of the formula, so
    /// that they can recover. At exactly 0 it is the gradient towards positive scales.
    #[test]
    fn scales_at_and_below_zero_have_the_gradient_of_the_formula(
        (method, role) in prop::sample::select(vec![
            (Method::Lsq, Role::Activation),
            (Method::Lsq, Role::Weight),
            (Method::LsqStep, Role::Activation),
            (Method::LsqStep, Role::Weight),
            (Method::LsqPlus, Role::Activation),
            (Method::Pact, Role::Activation),
            (Method::Apot, Role::Activation),
            (Method::N2uq, Role::Activation),
            (Method::N2uq, Role::Weight),
            (Method::FATNN, Role::Activation),
        ]),
        at_zero: bool,
        x in prop::collection::vec(-2.5f32..2.5, COUNT),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
        seeds in prop::collection::vec(0.0f32..1.0, 11),
    ) {
        // Around a slope of 0 the whole piece is at a kink. This case has a test of its own.
        prop_assume!(!(at_zero && method == Method::FATNN));
        let value = if at_zero { 0.0 } else { -0.7 };
        let device = Device::flex().autodiff();
        let none = GradientScale { rule: GradientScaleRule::None, ..GradientScale::default() };
        let config = QuantizerConfig { gradient_scale: none, ..config(method, role, 4) };
        let mut quantizer = make(&config, SHAPE, &device);
        randomize(&mut quantizer, &seeds);
        let is_scale = |name: &str| !matches!(name, "offset" | "start" | "scale" | "gamma");
        let names: Vec<&str> = quantizer.learned().iter().map(|learned| learned.name).collect();
        for name in names.into_iter().filter(|name| is_scale(name)) {
            let mut values = quantizer.learned_values(name).unwrap();
            // Where there are several intervals, some of them stay above 0.
            values.iter_mut().step_by(2).for_each(|scale| *scale = value);
            prop_assert!(quantizer.set_learned(name, &values));
        }
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let params: Params = quantizer.learned().iter().map(|learned| {
            let values = host(learned.value.val()).into_iter().map(f64::from).collect();
            (learned.name.to_owned(), values)
        }).collect();
        let mut tape = Tape::recording();
        objective(&quantizer, &wide, &grad, &params, &mut tape);
        prop_assume!(!tape.has_kink());
        tape.play();

        let input = tensor(&x, SHAPE, &device).require_grad();
        let loss = (quantizer.forward(input.clone()) * tensor(&grad, SHAPE, &device)).sum();
        let gradients = loss.backward();
        if method == Method::Pact {
            // No input lies between 0 and the clipping value.
            let by_x = host(input.grad(&gradients).unwrap());
            prop_assert!(by_x.iter().all(|by_x| *by_x == 0.0), "{by_x:?}");
        }
        let h = 1e-6;
        for (kind, learned) in quantizer.learned().iter().enumerate() {
            let actual = host(learned.value.val().grad(&gradients).unwrap());
            for (index, actual) in actual.into_iter().enumerate() {
                let mut at = |by: f64| {
                    let mut params = params.clone();
                    params[kind].1[index] += by;
                    objective(&quantizer, &wide, &grad, &params, &mut tape)
                };
                let zero = is_scale(learned.name) && params[kind].1[index] == 0.0;
                let below = if zero && method != Method::Pact { 0.0 } else { h };
                let expected = (at(h) - at(-below)) / (h + below);
                close(actual, expected, learned.name, &config)?;
            }
        }
    }

    /// The gradient scale multiplies the gradients of scales, and nothing else.
    #[test]
    fn gradient_scales_multiply(
        config in configs(),
        x in prop::collection::vec(-2.5f32..2.5, COUNT),
        seeds in prop::collection::vec(0.0f32..1.0, 11),
    ) {
        prop_assume!(!matches!(
            config.method,
            Method::Xnor(_) | Method::Dorefa | Method::LqNets(_)
        ));
        let device = Device::flex().autodiff();
        // The fan is 36 for weights and 4 channels for activations, and the scale is a/sqrt(fan).
        let factor = if config.role == Role::Weight { 0.5 / 6.0 } else { 0.25 };
        let gradients = |rule| {
            let gradient_scale = GradientScale { rule, factor: 0.5 };
            let config = QuantizerConfig { gradient_scale, ..config.clone() };
            let mut quantizer = make(&config, SHAPE, &device);
            randomize(&mut quantizer, &seeds);
            let input = tensor(&x, SHAPE, &device).require_grad();
            let gradients = quantizer.forward(input.clone()).sum().backward();
            let learned = quantizer.learned().into_iter().map(|learned| {
                (learned.name, host(learned.value.val().grad(&gradients).unwrap()))
            });
            (host(input.grad(&gradients).unwrap()), learned.collect::<Vec<_>>())
        };
        let (plain_x, plain) = gradients(GradientScaleRule::None);
        let (scaled_x, scaled) = gradients(GradientScaleRule::ScaleFan);
        prop_assert_eq!(plain_x, scaled_x);
        for ((name, plain), (_, scaled)) in plain.into_iter().zip(scaled) {
            let factor = if name == "gamma" { 1.0 } else { factor };
            for (plain, scaled) in plain.into_iter().zip(scaled) {
                let expected = plain * factor;
                prop_assert!((scaled - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{name}");
            }
        }
    }

    /// Compares element-wise gradient scaling with its formula, g·(1 + d·sign(g)·(u - q)) where
    /// plain rounding passes g, with u and q in 0..1.
    #[test]
    fn ewgs_scales_each_element(
        x in prop::collection::vec(-0.3f32..1.3, COUNT),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
        method in prop::sample::select(vec![
            Method::Lsq, Method::LsqStep, Method::LsqPlus, Method::Pact, Method::Dorefa,
        ]),
    ) {
        let device = Device::flex().autodiff();
        let config = QuantizerConfig {
            estimator: Estimator::Ewgs,
            ewgs_factor: 0.4,
            ..config(method, Role::Activation, 4)
        };
        prop_assume!(x.iter().all(|x| (x * 3.0 - (x * 3.0).floor() - 0.5).abs() > 1e-4));
        let input = tensor(&x, SHAPE, &device).require_grad();
        let y = make(&config, SHAPE, &device).forward(input.clone());
        let gradients = (y * tensor(&grad, SHAPE, &device)).sum().backward();
        for ((by_x, x), g) in host(input.grad(&gradients).unwrap()).iter().zip(&x).zip(&grad) {
            let error = x - (x * 3.0).round_ties_even() / 3.0;
            let inside = *x > 0.0 && *x < 1.0;
            let expected = if inside { g * (1.0 + 0.4 * g.signum() * error) } else { 0.0 };
            prop_assert!((by_x - expected).abs() < 1e-5, "{method:?} {x}: {by_x} {expected}");
        }
    }

    /// The factor is sqrt(elements / elements inside), over the whole tensor.
    #[test]
    fn ste_scale_keeps_the_norm(x in prop::collection::vec(-1.0f32..2.0, COUNT)) {
        let device = Device::flex().autodiff();
        let inside = x.iter().filter(|x| **x > 0.0 && **x < 1.0).count();
        let config = QuantizerConfig {
            estimator: Estimator::SteScale,
            ..config(Method::Lsq, Role::Activation, 4)
        };
        let input = tensor(&x, SHAPE, &device).require_grad();
        let gradients = make(&config, SHAPE, &device).forward(input.clone()).sum().backward();
        let factor = (COUNT as f32 / inside.max(1) as f32).sqrt();
        for (by_x, x) in host(input.grad(&gradients).unwrap()).iter().zip(&x) {
            let expected = if *x > 0.0 && *x < 1.0 { factor } else { 0.0 };
            prop_assert!((by_x - expected).abs() < 1e-5 * factor);
        }
    }

    /// A normalisation over images is taken as a constant, so the gradient is masked by the
    /// normalised values.
    #[test]
    fn lq_nets_masks_what_it_normalised(
        x in prop::collection::vec(0.1f32..4.0, COUNT),
        grad in prop::collection::vec(-1.0f32..1.0, COUNT),
    ) {
        let device = Device::flex().autodiff();
        let config = QuantizerConfig {
            normalization: Normalization::Mean,
            ..config(Method::LQ_NETS, Role::Activation, 4)
        };
        let quantizer = make(&config, SHAPE, &device);
        let top = *quantizer.level_values().last().unwrap();
        let input = tensor(&x, SHAPE, &device).require_grad();
        let y = quantizer.forward(input.clone());
        let by_x = host(input.grad(&(y * tensor(&grad, SHAPE, &device)).sum().backward()).unwrap());
        for (index, by_x) in by_x.iter().enumerate() {
            let image = &x[index / 36 * 36..][..36];
            let mean = image.iter().sum::<f32>() / 36.0 + 1e-5;
            let expected = if x[index] / mean < top { grad[index] } else { 0.0 };
            prop_assert!((by_x - expected).abs() < 1e-5);
        }
    }
}

/// The gradient of LSQ is multiplied by c²/sqrt(N·c), where N is the number of elements of one
/// image that share the clipping value, and c the number of steps up to it. The gradient of a step
/// size is multiplied by 1/sqrt(N·Qp). N is counted and not configured.
#[test]
fn the_gradient_scale_counts_the_elements_of_the_tensor() {
    let device = Device::flex().autodiff();
    let gradient = |config: &QuantizerConfig, side: usize| -> f32 {
        let quantizer = config.init(&Site::activation("test", 4), &device).unwrap();
        let x = Tensor::<4>::full([2, 4, side, side], 2.0, &device);
        let gradients = quantizer.forward(x).mean().backward();
        host(quantizer.learned()[0].value.val().grad(&gradients).unwrap()).iter().sum()
    };
    for (method, numerator) in [(Method::Lsq, 9.0), (Method::LsqStep, 1.0), (Method::LsqPlus, 1.0)]
    {
        for (granularity, groups) in [(Granularity::PerTensor, 1), (Granularity::PerChannel, 4)] {
            let config = QuantizerConfig { granularity, ..config(method, Role::Activation, 4) };
            let none = GradientScale { rule: GradientScaleRule::None, ..GradientScale::default() };
            let plain = QuantizerConfig { gradient_scale: none, ..config.clone() };
            for side in [1, 3, 8] {
                let shared = (4 * side * side / groups) as f32;
                let expected = numerator / (shared * 3.0).sqrt();
                let actual = gradient(&config, side) / gradient(&plain, side);
                assert!((actual / expected - 1.0).abs() < 1e-5, "{method:?} {side}: {actual}");
            }
        }
    }
}

/// ∂α = the sum of g·x over the elements of the piece, which at a slope of 0 contains all x above
/// 0.
#[test]
fn a_slope_of_zero_has_the_gradient_of_its_piece() {
    let device = Device::flex().autodiff();
    let mut quantizer = make(&config(Method::FATNN, Role::Activation, 2), [1, 1, 1, 4], &device);
    assert!(quantizer.set_learned("alpha0", &[0.0]));
    let input = tensor(&[-1.0, 0.25, 0.5, 2.0], [1, 1, 1, 4], &device);
    let gradients = quantizer.forward(input).sum().backward();
    let learned = quantizer.learned();
    assert_eq!(host(learned[0].value.val().grad(&gradients).unwrap()), [2.75]);
}

/// The bounds count as outside, as in PyTorch's clamp.
#[test]
fn bounds_pass_no_gradient() {
    let device = Device::flex().autodiff();
    for method in
        [Method::Lsq, Method::LsqStep, Method::LsqPlus, Method::Pact, Method::Dorefa, Method::Apot]
    {
        let quantizer = make(&config(method, Role::Activation, 4), [1, 1, 1, 3], &device);
        let input = tensor(&[0.0, 0.5001, 1.0], [1, 1, 1, 3], &device).require_grad();
        let gradients = quantizer.forward(input.clone()).sum().backward();
        assert_eq!(host(input.grad(&gradients).unwrap()), [0.0, 1.0, 0.0], "{method:?}");
    }
}

/// The weight of a linear layer, `[in, out]`, has its channels in dimension 1. It gets the values
/// and the gradients that its transpose has with the channels in dimension 0.
#[test]
fn the_dimension_of_the_channels_does_not_matter() {
    let device = Device::flex().autodiff();
    let weight: Vec<f32> = (0..24).map(|index| ((index * 7 % 24) as f32 - 11.5) / 10.0).collect();
    let gradient_scale =
        GradientScale { rule: GradientScaleRule::ScaleFan, ..GradientScale::default() };
    for (method, _) in methods().into_iter().filter(|(_, role)| *role == Role::Weight) {
        let granularity = Granularity::PerChannel;
        let config = config(method, Role::Weight, 4);
        let config = QuantizerConfig { granularity, gradient_scale, ..config }.nearest();
        let results = [[4, 6], [6, 4]].map(|shape| {
            let channel_axis = usize::from(shape[0] == 6);
            let site = Site { channel_axis, ..Site::weight("w", shape) };
            let quantizer = config.init(&site, &device).unwrap();
            let w = tensor(&weight, [4, 6, 1, 1], &device).reshape([4, 6]).require_grad();
            let y = if channel_axis == 0 {
                quantizer.forward(w.clone())
            } else {
                quantizer.forward(w.clone().transpose()).transpose()
            };
            let gradients = (y.clone() * w.clone().detach()).sum().backward();
            let learned = quantizer.learned().into_iter();
            let by_learned = learned.flat_map(|l| host(l.value.val().grad(&gradients).unwrap()));
            let by_w = host(w.grad(&gradients).unwrap());
            [host(y), by_w, by_learned.collect()].concat()
        });
        for (a, b) in results[0].iter().zip(&results[1]) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{method:?}: {a} {b}");
        }
        assert_eq!(results[0].len(), results[1].len());
    }
}
