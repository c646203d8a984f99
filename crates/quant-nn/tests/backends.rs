//! Compares a quantized network on the GPU backend of this build with the CPU. Without a GPU
//! feature there is no test.

#![cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "../../quant-core/tests/common/gpu.rs"]
mod gpu;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Gradients, Tensor},
};
use gpu::gpu;
use quant_core::{Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    Quantization, ResNetConfig, StateDict,
    layers::activation::ActivationKind,
    resnet::{Depth, Stem},
};

/// Numbers in -1..1 that all devices are given.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number = |i: usize| {
        let mixed = (i as u32 ^ seed).wrapping_mul(0x9E37_79B9) ^ 0x85EB_CA6B;
        (mixed.wrapping_mul(0xC2B2_AE35) >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// Scores, and the lengths of the gradients by name, of one training step of a narrow residual
/// network.
fn step(method: Option<Method>, state: &StateDict, device: &Device) -> (Vec<f32>, Vec<f32>) {
    let device = device.clone().autodiff();
    let (network, report) = state.load_into(config(method).init(&device).unwrap());
    assert!(report.is_complete(), "{report}");
    let x = Tensor::<1>::from_floats(numbers(2 * 3 * 16 * 16, 1).as_slice(), &device);
    let scores = network.forward(x.reshape([2, 3, 16, 16]));
    let weights = Tensor::<1>::from_floats(numbers(20, 2).as_slice(), &device).reshape([2, 10]);
    let gradients = (scores.clone() * weights).reshape([1, 20]).sum_dim(1).backward();
    let mut lengths = Lengths { gradients: &gradients, of: Vec::new() };
    network.visit(&mut lengths);
    (scores.into_data().iter().collect(), lengths.of)
}

struct Lengths<'a> {
    gradients: &'a Gradients,
    of: Vec<f32>,
}

impl ModuleVisitor for Lengths<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let squares: f32 = gradient.into_data().iter::<f32>().map(|x| x * x).sum();
            self.of.push(squares.sqrt());
        }
    }
}

fn config(method: Option<Method>) -> ResNetConfig {
    let of = |role| {
        let levels = Levels::from_bits(2).unwrap();
        method.map(|method| QuantizerConfig::new(method, role, levels).nearest())
    };
    ResNetConfig {
        width_alpha: 0.0625,
        // Behind a ReLU all signs are +1, and batch norms divide by no deviation.
        activation: match method {
            Some(Method::XNOR) => ActivationKind::NReLU,
            _ => ActivationKind::ReLU,
        },
        quantization: Quantization {
            activation: of(Role::Activation),
            weight: of(Role::Weight),
            ..Quantization::default()
        },
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 16)
    }
}

/// The network, with norms that add something else to each channel. With the biases of a new
/// network, which are 0, sums of a few signs are often exactly at the threshold of the next sign,
/// and the last bit of a sum decides: a change of 2e-7 moves the scores by half then.
fn state(method: Option<Method>, device: &Device) -> StateDict {
    let state = StateDict::of(&config(method).init(device).unwrap());
    StateDict::from_entries(state.entries().enumerate().map(|(index, (name, entry))| {
        let mut entry = entry.clone();
        if name.contains("bn") && name.ends_with("bias") {
            let biases = numbers(entry.values.len(), index as u32 + 3);
            entry.values = biases.into_iter().map(|x| 0.5 * x).collect();
        }
        (name.to_owned(), entry)
    }))
}

#[test]
fn a_training_step_is_that_of_the_cpu() {
    for method in [None, Some(Method::Lsq), Some(Method::XNOR), Some(Method::LQ_NETS)] {
        let device = Device::flex().autodiff();
        let state = state(method, &device);
        let ours = step(method, &state, &gpu());
        let theirs = step(method, &state, &Device::flex());
        let off = |ours: &[f32], theirs: &[f32]| {
            let squares = |values: &mut dyn Iterator<Item = f32>| -> f32 {
                values.map(|x| x * x).sum::<f32>().sqrt()
            };
            let difference = squares(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
            difference / squares(&mut theirs.iter().copied())
        };
        let (scores, gradients) = (off(&ours.0, &theirs.0), off(&ours.1, &theirs.1));
        println!("{method:?}: scores off by {scores:.1e}, gradients by {gradients:.1e}");
        assert!(scores < 1e-3 && gradients < 1e-3, "{method:?}: {scores} {gradients}");
    }
}
