//! Runs the kernels on a device, which may be a software device, and compares them with the loops
//! of `quant-kernels`. Memory in another order must not be copied: launches are counted.

#![cfg(feature = "cube")]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "device/bases.rs"]
mod bases;
mod common;

use common::{
    FLOAT, LAYOUTS, Layout, Shaped, client, download, drawn, observed, operand, row, turn, upload,
};
use cubecl::client::Client;
use proptest::prelude::*;
use quant_cube::{
    Operand, Output,
    batch_norm::{self, Affine, Forward, Options, Running},
    quantize,
    update::{self, Adam, Parameter, Sgd},
};
use quant_kernels::{
    batch_norm as host_norm,
    quantize::{Elementwise, Rule, SignSlope, quantize as host_quantize, quantize_backward},
};

/// Returns whether all numbers but a few are close. A quotient may be one unit off on a GPU, which
/// moves a number near a threshold by a level.
fn mostly_close(ours: &[f32], theirs: &[f32], allowed: f32) -> bool {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= allowed * b.abs().max(1.0);
    let count = ours.iter().zip(theirs).filter(|pair| !near(*pair)).count();
    ours.len() == theirs.len() && count * 200 <= ours.len()
}

fn rules() -> impl Strategy<Value = Rule> {
    let clip = |(signed, learned_bound, ewgs): (bool, bool, bool)| Rule::Clip {
        steps: 3.0,
        signed,
        rescale: false,
        learned_bound,
        ewgs: if ewgs { 0.01 } else { 0.0 },
    };
    let slope = prop_oneof![Just(SignSlope::One), Just(SignSlope::Box), Just(SignSlope::Triangle)];
    prop_oneof![
        any::<(bool, bool, bool)>().prop_map(clip),
        Just(Rule::Step { lowest: -2.0, highest: 1.0, ewgs: 0.01 }),
        (1usize..=3).prop_map(|pieces| Rule::Slopes { pieces, signed: false }),
        Just(Rule::Slopes { pieces: 2, signed: true }),
        prop_oneof![Just(1usize), Just(3), Just(15)].prop_map(|pieces| Rule::Intervals { pieces }),
        Just(Rule::Ternary),
        prop_oneof![Just(0usize), Just(3), Just(5)]
            .prop_map(|thresholds| Rule::Table { thresholds }),
        slope.prop_map(|slope| Rule::Sign { slope }),
    ]
}

fn parameters(rule: Rule, groups: usize, seed: u64) -> Vec<f32> {
    let count = rule.parameters();
    let positive = |x: &f32| x.abs() + 0.1;
    let of_group = |row: &[f32]| -> Vec<f32> {
        match rule {
            Rule::Table { thresholds } => {
                let (mut limits, mut levels) =
                    (row[3..3 + thresholds].to_vec(), row[3 + thresholds..].to_vec());
                limits.sort_by(f32::total_cmp);
                levels.sort_by(f32::total_cmp);
                [vec![positive(&row[0]), -1.0, 1.0], limits, levels].concat()
            }
            Rule::Step { .. } => vec![positive(&row[0]), row[1]],
            Rule::Sign { .. } => vec![row[0] * 0.5, positive(&row[1])],
            Rule::Intervals { .. } => [positive(&row[0]), row[1]]
                .into_iter()
                .chain(row[2..].iter().map(positive))
                .collect(),
            _ => row.iter().map(positive).collect(),
        }
    };
    drawn(seed, groups * count).chunks(count).flat_map(of_group).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 8,
        ..ProptestConfig::default()
    })]

    /// Values and gradients are those of the CPU in every layout, also if the gradient lies in
    /// memory in another order; they keep the order of x; and there is one launch in each
    /// direction, which leaves none for a copy.
    #[test]
    fn quantizers_walk_every_layout(
        rule in rules(),
        x_layout in 0usize..4,
        g_layout in 0usize..4,
        channels in prop_oneof![Just(1usize), Just(4), Just(6), Just(40)],
        pixels in prop_oneof![Just(1usize), Just(9), Just(49), Just(64)],
        per_group in prop_oneof![Just(0usize), Just(1), Just(2)],
        seed: u64,
    ) {
        let _turn = turn();
        let client = client();
        let sizes = [3, channels, pixels];
        let view = match per_group {
            0 => [1, 1, 3 * channels * pixels],
            1 => [3, channels, pixels],
            _ if channels % 2 == 0 => [3, channels / 2, 2 * pixels],
            _ => [3, channels, pixels],
        };
        let operation = Elementwise { rule, view };
        let count: usize = sizes.iter().product();
        let (xs, gs) = (drawn(seed, count), drawn(seed ^ 1, count));
        let ps = parameters(rule, view[1], seed ^ 2);
        let x = upload(&client, &xs, sizes, LAYOUTS[x_layout]);
        let g = upload(&client, &gs, sizes, LAYOUTS[g_layout]);
        let width = rule.parameters();
        let p = row(&client, &ps).shaped(&[view[1], width], &[width, 1]);

        let (y, names) = observed(|| quantize::quantize(&client, &x, &p, operation, FLOAT));
        prop_assert_eq!(names.len(), 1, "{:?}", names);
        let values = host_quantize(&xs, &ps, operation);
        prop_assert!(mostly_close(&download(&client, &y), &values, 1e-5));
        let is_last = |strides: &[usize]| strides[1] == 1 && channels > 1 && pixels > 1;
        prop_assert_eq!(is_last(&y.strides), is_last(&x.binding.strides));

        let backward =
            || quantize::quantize_backward(&client, &x, &p, None, &g, operation, 0.5);
        let ((grad_x, sums), names) = observed(backward);
        prop_assert_eq!(names.len(), 1, "{:?}", names);
        prop_assert_eq!(&grad_x.strides, &y.strides);
        let mut expected = gs.clone();
        let of_parameters = quantize_backward(&xs, &ps, &mut expected, operation);
        prop_assert!(mostly_close(&download(&client, &grad_x), &expected, 1e-4));
        let half: Vec<f32> = of_parameters.iter().map(|sum| sum * 0.5).collect();
        let sums = download(&client, &sums);
        // A number that takes another level moves a sum by its gradient.
        let largest = half.iter().fold(4f32, |largest, x| largest.max(x.abs()));
        for (a, b) in sums.iter().zip(&half) {
            prop_assert!((a - b).abs() <= 0.02 * largest, "{:?} {:?}", sums, half);
        }
        let (_, again) = backward();
        prop_assert_eq!(download(&client, &again), sums, "the same sums twice");
    }

    /// Batch norms are those of the CPU in every layout, with three launches in each direction.
    #[test]
    fn batch_norms_walk_every_layout(
        layouts in any::<[u8; 3]>(),
        channels in prop_oneof![Just(1usize), Just(4), Just(6), Just(40)],
        pixels in prop_oneof![Just(9usize), Just(49), Just(64)],
        [adds, relu, tracks] in any::<[bool; 3]>(),
        seed: u64,
    ) {
        let _turn = turn();
        let client = client();
        let sizes = [3, channels, pixels];
        let layout = |at: usize| LAYOUTS[usize::from(layouts[at]) % 4];
        let count: usize = sizes.iter().product();
        let shape = host_norm::Shape { batch: 3, channels, pixels };
        // A mean that is large beside the deviation.
        let xs: Vec<f32> = drawn(seed, count).iter().map(|x| x * 0.5 + 9.0).collect();
        let (gs, added) = (drawn(seed ^ 1, count), drawn(seed ^ 2, count));
        let (ws, bs) = (drawn(seed ^ 3, channels), drawn(seed ^ 4, channels));
        let epilogue = host_norm::Epilogue { residual: adds.then_some(added.as_slice()), relu };
        let expected = host_norm::forward(shape, &xs, (&ws, &bs), 1e-5, epilogue);

        let x = upload(&client, &xs, sizes, layout(0));
        let residual = upload(&client, &added, sizes, layout(1));
        let g = upload(&client, &gs, sizes, layout(2));
        let (w, b) = (row(&client, &ws), row(&client, &bs));
        let affine = Affine { weight: &w, bias: &b };
        let (old_mean, old_variance) = (row(&client, &bs), row(&client, &ws));
        let running = Running { mean: &old_mean, variance: &old_variance, momentum: 0.25 };
        let options = Options {
            epsilon: 1e-5,
            residual: adds.then_some(&residual),
            relu,
            running: tracks.then_some(running),
            dtype: FLOAT,
        };
        let (y, names) = observed(|| batch_norm::forward(&client, &x, affine, options));
        prop_assert_eq!(names.len(), 3, "{:?}", names);
        let close = |ours: &[f32], theirs: &[f32], allowed: f32| {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= allowed * b.abs().max(1.0))
        };
        let (mean, variance) = (download(&client, &y.mean), download(&client, &y.variance));
        prop_assert!(close(&mean, &expected.mean, 1e-6), "{:?} {:?}", mean, expected.mean);
        prop_assert!(close(&variance, &expected.variance, 1e-5));
        let values = download(&client, &y.values);
        prop_assert!(close(&values, &expected.values, 1e-4));
        prop_assert_eq!(y.running.is_some(), tracks);
        if let Some([next_mean, next_variance]) = &y.running {
            let elements = (3 * pixels) as f32;
            let next = |old: &[f32], batch: &[f32], factor: f32| -> Vec<f32> {
                old.iter().zip(batch).map(|(old, s)| 0.75 * old + 0.25 * factor * s).collect()
            };
            let of_mean = next(&bs, &expected.mean, 1.0);
            let of_variance = next(&ws, &expected.variance, elements / (elements - 1.0));
            prop_assert!(close(&download(&client, next_mean), &of_mean, 1e-5));
            prop_assert!(close(&download(&client, next_variance), &of_variance, 1e-5));
        }

        let (mean_of, variance_of, output) =
            (operand(&y.mean), operand(&y.variance), operand(&y.values));
        let saved = Forward {
            x: &x,
            weight: &w,
            mean: &mean_of,
            variance: &variance_of,
            epsilon: 1e-5,
            relu_output: relu.then_some(&output),
            has_residual: adds,
        };
        let (found, names) = observed(|| batch_norm::backward(&client, &saved, &g));
        prop_assert_eq!(names.len(), 3, "{:?}", names);
        let mut passed = gs.clone();
        let on_host = host_norm::Forward {
            x: &xs,
            weight: &ws,
            mean: &mean,
            variance: &variance,
            epsilon: 1e-5,
            relu_output: relu.then_some(values.as_slice()),
            has_residual: adds,
        };
        let gradients = host_norm::backward(shape, &on_host, &mut passed);
        let by_x = gradients.input.as_ref().unwrap_or(&passed);
        prop_assert!(close(&download(&client, &found.input), by_x, 1e-4));
        prop_assert!(close(&download(&client, &found.weight), &gradients.weight, 1e-4));
        prop_assert!(close(&download(&client, &found.bias), &gradients.bias, 1e-4));
        prop_assert_eq!(found.residual.is_some(), adds && relu);
        if let Some(residual) = &found.residual {
            prop_assert!(close(&download(&client, residual), &passed, 0.0));
        }
        let again = batch_norm::backward(&client, &saved, &g);
        prop_assert_eq!(download(&client, &again.weight), download(&client, &found.weight));
    }
}

/// A tensor has more elements than fit into one pass of the device's threads.
#[test]
fn large_tensors_are_summed_by_several_blocks() {
    let _turn = turn();
    let client = client();
    let sizes = [64, 24, 1031];
    let count: usize = sizes.iter().product();
    let rule =
        Rule::Clip { steps: 3.0, signed: true, rescale: false, learned_bound: false, ewgs: 0.0 };
    let (xs, gs) = (drawn(1, count), drawn(2, count));
    for (layout, view) in [
        (Layout::Contiguous, [1, 1, count]),
        (Layout::ChannelsLast, [1, 1, count]),
        (Layout::Contiguous, [64, 24, 1031]),
        (Layout::ChannelsLast, [64, 24, 1031]),
    ] {
        let operation = Elementwise { rule, view };
        let ps = parameters(rule, view[1], 3);
        let x = upload(&client, &xs, sizes, layout);
        let g = upload(&client, &gs, sizes, layout);
        let p = row(&client, &ps).shaped(&[view[1], 1], &[1, 1]);
        let ((grad_x, sums), names) =
            observed(|| quantize::quantize_backward(&client, &x, &p, None, &g, operation, 1.0));
        // Several blocks share what is much for one.
        assert_eq!(names.len(), 2, "{layout:?} {view:?} {names:?}");
        let mut expected = gs.clone();
        let of_parameters = quantize_backward(&xs, &ps, &mut expected, operation);
        assert!(mostly_close(&download(&client, &grad_x), &expected, 1e-5), "{layout:?}");
        let largest = of_parameters.iter().fold(4f32, |largest, x| largest.max(x.abs()));
        for (a, b) in download(&client, &sums).iter().zip(&of_parameters) {
            assert!((a - b).abs() <= 1e-2 * largest, "{layout:?} {a} {b}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 8,
        ..ProptestConfig::default()
    })]

    /// A step of SGD of several parameters is one launch, in every layout, and keeps that of the
    /// weight.
    #[test]
    fn a_step_of_sgd_of_several_parameters_is_one_launch(
        layouts in layouts(update::most(1)),
        [nesterov, is_first] in any::<[bool; 2]>(),
        seed: u64,
    ) {
        let _turn = turn();
        let client = client();
        let (rate, decay, momentum) = (0.1f32, 0.01, 0.9);
        let step = Sgd { rate, decay, momentum, nesterov, is_first };
        let layouts = &layouts[..layouts.len().min(update::most_on(&client, 1))];
        let (tensors, values) = parameters_to_update::<1>(&client, layouts, seed);
        let (updated, names) = observed(|| update::sgd(&client, &tensors, step));
        prop_assert_eq!(names.len(), 1, "{:?}", names);
        for ((tensors, values), updated) in tensors.iter().zip(&values).zip(&updated) {
            let [weight, gradient, old, _] = values;
            let mut next = (Vec::new(), Vec::new());
            for ((weight, gradient), old) in weight.iter().zip(gradient).zip(old) {
                let gradient = weight * decay + gradient;
                let velocity = if is_first { gradient } else { gradient + old * momentum };
                let direction = if nesterov { velocity * momentum + gradient } else { velocity };
                next.0.push(weight - direction * rate);
                next.1.push(velocity);
            }
            prop_assert!(all_close(&download(&client, &updated.weight), &next.0));
            prop_assert!(all_close(&download(&client, &updated.kept[0]), &next.1));
            prop_assert!(same_order(&tensors.weight, &updated.weight));
        }
    }

    /// And so is a step of Adam and of AdamW, which follow the formula in 64 bits.
    #[test]
    fn a_step_of_adam_of_several_parameters_is_one_launch(
        layouts in layouts(update::most(2)),
        decoupled: bool,
        step in prop_oneof![Just(1usize), Just(2), Just(1000)],
        seed: u64,
    ) {
        let _turn = turn();
        let client = client();
        let (rate, beta1, beta2, epsilon, decay) = (0.01, 0.9, 0.999, 1e-8, 0.1);
        let adam = Adam { rate, beta1, beta2, epsilon, decay, decoupled, step };
        let layouts = &layouts[..layouts.len().min(update::most_on(&client, 2))];
        let (tensors, values) = parameters_to_update::<2>(&client, layouts, seed);
        let (updated, names) = observed(|| update::adam(&client, &tensors, adam));
        prop_assert_eq!(names.len(), 1, "{:?}", names);
        for ((tensors, values), updated) in tensors.iter().zip(&values).zip(&updated) {
            let mut next = [Vec::new(), Vec::new(), Vec::new()];
            for (at, weight) in values[0].iter().enumerate() {
                let mut w = f64::from(*weight);
                let [g, m, v] = [1, 2, 3].map(|tensor| f64::from(values[tensor][at]));
                let [m, v] = if step == 1 { [0.0; 2] } else { [m, v] };
                let g = if decoupled { g } else { g + decay * w };
                if decoupled {
                    w *= 1.0 - rate * decay;
                }
                let m = beta1 * m + (1.0 - beta1) * g;
                let v = beta2 * v + (1.0 - beta2) * g * g;
                let [by1, by2] = [beta1, beta2].map(|beta: f64| 1.0 - beta.powf(step as f64));
                w -= rate * (m / by1) / ((v / by2).sqrt() + epsilon);
                for (next, value) in next.iter_mut().zip([w, m, v]) {
                    next.push(value as f32);
                }
            }
            prop_assert!(all_close(&download(&client, &updated.weight), &next[0]));
            prop_assert!(all_close(&download(&client, &updated.kept[0]), &next[1]));
            prop_assert!(all_close(&download(&client, &updated.kept[1]), &next[2]));
            prop_assert!(same_order(&tensors.weight, &updated.weight));
        }
    }
}

/// The layouts of the weight and of the gradient of a parameter, and a size.
fn layouts(most: usize) -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    prop::collection::vec((0usize..4, 0usize..4, 1usize..700), 1..=most)
}

/// Returns parameters with a gradient and what an optimizer keeps, and the values of the weight,
/// the gradient and two kept tensors. The last ones are not negative.
fn parameters_to_update<const KEPT: usize>(
    client: &Client,
    layouts: &[(usize, usize, usize)],
    seed: u64,
) -> (Vec<Parameter<KEPT>>, Vec<[Vec<f32>; 4]>) {
    let of = |(at, (weight, gradient, pixels)): (usize, &(usize, usize, usize))| {
        let sizes = [2, 6, *pixels];
        let mut values =
            [0, 1, 2, 3].map(|tensor| drawn(seed ^ tensor ^ (at as u64) << 8, 12 * pixels));
        values[3].iter_mut().for_each(|value| *value = value.abs());
        let upload =
            |tensor: usize, layout: usize| upload(client, &values[tensor], sizes, LAYOUTS[layout]);
        let parameter = Parameter {
            weight: upload(0, *weight),
            gradient: upload(1, *gradient),
            kept: std::array::from_fn(|at| upload(2 + at, *weight)),
        };
        (parameter, values)
    };
    layouts.iter().enumerate().map(of).unzip()
}

fn all_close(ours: &[f32], theirs: &[f32]) -> bool {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(close)
}

/// Returns whether the channels of both lie side by side in memory, or those of neither.
fn same_order(before: &Operand, after: &Output) -> bool {
    let last = |strides: &[usize]| strides[1] == 1;
    last(&after.strides) == last(&before.binding.strides) || before.binding.shape[2] == 1
}
