//! Compares every quantizer on the GPU backend of this build with the CPU: the same values, except
//! where rounding in the last place decides between two levels; the same gradients; the same
//! running values. Without a GPU feature there is no test.

#![cfg(feature = "cube")]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;
#[path = "common/gpu.rs"]
mod gpu;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use common::{configs, host, make, randomize};
use gpu::gpu;
use proptest::prelude::*;
use quant_core::{Method, QuantizerConfig};

/// The results of a training call.
struct Outcome {
    y: Vec<f32>,
    x_gradient: Vec<f32>,
    learned: Vec<(&'static str, Vec<f32>)>,
    running: Vec<(&'static str, Vec<f32>)>,
}

/// Returns numbers in -1.5..1.5 that lie on no special point of a formula.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number = |i: usize| {
        let mixed = (i as u32 ^ seed).wrapping_mul(0x9E37_79B9) ^ 0x85EB_CA6B;
        (mixed.wrapping_mul(0xC2B2_AE35) >> 8) as f32 / (1 << 24) as f32 * 3.0 - 1.5
    };
    (0..count).map(number).collect()
}

fn run(
    config: &QuantizerConfig,
    shape: [usize; 4],
    seed: u32,
    nudge: f32,
    (device, output): (&Device, FloatDType),
) -> Outcome {
    let device = device.clone().autodiff();
    let mut quantizer = make(config, shape, &device);
    randomize(&mut quantizer, &numbers(32, seed ^ 7).map_to_unit());
    let tensor = |seed, factor: f32| {
        let values: Vec<f32> =
            numbers(shape.iter().product(), seed).into_iter().map(|x| x * factor).collect();
        Tensor::<1>::from_floats(values.as_slice(), &device).reshape(shape)
    };
    let x: Tensor<4> = tensor(seed, nudge).require_grad();
    let y = quantizer.forward_as(x.clone(), output).cast(FloatDType::F32);
    let gradients = (y.clone() * tensor(seed ^ 1, 1.0)).sum().backward();
    let learned = quantizer.learned().into_iter().map(|learned| {
        (learned.name, learned.value.val().grad(&gradients).map(host).unwrap_or_default())
    });
    Outcome {
        y: host(y),
        x_gradient: x.grad(&gradients).map(host).unwrap_or_default(),
        learned: learned.collect(),
        running: quantizer.running().into_iter().map(|(name, value)| (name, host(value))).collect(),
    }
}

trait MapToUnit {
    fn map_to_unit(self) -> Vec<f32>;
}

impl MapToUnit for Vec<f32> {
    fn map_to_unit(self) -> Vec<f32> {
        self.into_iter().map(|x| x / 3.0 + 0.5).collect()
    }
}

/// Returns whether all differences are within this share of the largest value.
fn close(ours: &[f32], theirs: &[f32], share: f32) -> bool {
    let largest = theirs.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= share * largest)
}

fn check(
    config: &QuantizerConfig,
    shape: [usize; 4],
    seed: u32,
    output: FloatDType,
) -> Result<(), TestCaseError> {
    let ours = run(config, shape, seed, 1.0, (&gpu(), output));
    let nudges = [1.0, 1.0 - 4e-7, 1.0 + 4e-7];
    let theirs = nudges.map(|nudge| run(config, shape, seed, nudge, (&Device::flex(), output)));
    // Of 16 bits, one unit in the last place.
    let allowed = match output {
        FloatDType::F16 => 1e-3,
        FloatDType::BF16 => 8e-3,
        _ => 1e-4,
    };
    let one_of = |value: f32, of: &dyn Fn(&Outcome) -> f32| {
        theirs.iter().any(|run| (value - of(run)).abs() <= allowed * (1.0 + of(run).abs()))
    };
    for index in 0..ours.y.len() {
        prop_assert!(one_of(ours.y[index], &|run| run.y[index]), "y[{index}] {}", ours.y[index]);
        let gradient = ours.x_gradient[index];
        prop_assert!(one_of(gradient, &|run| run.x_gradient[index]), "∂x[{index}] {gradient}");
    }
    // The basis of LQ-Nets is the solution of normal equations, in 32 bits on a GPU. With many bits
    // two columns of signs can be nearly the same; then only the sum of their values is exact.
    let many = config.method.is(&Method::LQ_NETS) && config.levels.count() > 8;
    let fitted = if many { 3e-2 } else { 1e-3 };
    // Sums that depend on ties are not compared.
    let tied = theirs.iter().any(|run| {
        !close(&run.y, &theirs[0].y, 1e-4) || !close(&run.x_gradient, &theirs[0].x_gradient, 1e-4)
    });
    if !tied {
        for ((name, ours), (_, theirs)) in ours.learned.iter().zip(&theirs[0].learned) {
            prop_assert!(close(ours, theirs, 2e-4), "∂{name} {ours:?} {theirs:?}");
        }
        for ((name, ours), (_, theirs)) in ours.running.iter().zip(&theirs[0].running) {
            prop_assert!(close(ours, theirs, fitted), "{name} {ours:?} {theirs:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 20, ..common::cases() })]

    /// The channels are of sizes that loads of four elements divide, and of sizes that they do not.
    #[test]
    fn quantizers_are_those_of_the_cpu(
        config in configs(),
        side in prop_oneof![Just([3usize, 3]), Just([8, 4]), Just([33, 17])],
        seed: u32,
    ) {
        check(&config, [2, 4, side[0], side[1]], seed, FloatDType::F32)?;
    }
}

/// The tensors have more elements than the kernels have threads.
#[test]
fn large_tensors_are_those_of_the_cpu() {
    use quant_core::{Granularity, Levels, Role};
    for method in Method::ALL {
        for granularity in [Granularity::PerTensor, Granularity::PerChannel] {
            let levels = Levels::new(4).unwrap();
            let config = QuantizerConfig::new(*method, Role::Activation, levels);
            let config = QuantizerConfig { granularity, ..config }.nearest();
            check(&config, [8, 4, 48, 48], 5, FloatDType::F32).unwrap();
        }
    }
}

/// A batch without images has gradients of 0.
#[test]
fn empty_batches_pass() {
    use quant_core::{Granularity, Role};
    for (method, role) in common::methods().into_iter().filter(|(_, role)| *role != Role::Weight) {
        for granularity in [Granularity::PerTensor, Granularity::PerChannel] {
            let config = common::config(method, role, 4);
            let config = QuantizerConfig { granularity, ..config }.nearest();
            let gradients = common::gradients_of_nothing(&config, &gpu().autodiff());
            assert!(gradients.iter().all(|gradient| *gradient == 0.0), "{config:?} {gradients:?}");
        }
    }
}

/// Values of 16 bits, on devices that have them.
#[test]
fn values_of_16_bits_are_those_of_the_cpu() {
    for (dtype, output) in [(DType::F16, FloatDType::F16), (DType::BF16, FloatDType::BF16)] {
        if !gpu().supports_dtype(dtype) {
            println!("this device has no {dtype:?}");
            continue;
        }
        for (method, role) in common::methods() {
            let config = common::config(method, role, 4);
            for shape in [[2, 4, 3, 3], [2, 4, 8, 4]] {
                check(&config, shape, 7, output).unwrap();
            }
        }
    }
}
