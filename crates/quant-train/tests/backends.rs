//! Compares optimizers on the GPU backend of this build, which may run on a software device, with
//! those on the CPU. Without a GPU feature there is no test.

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
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use gpu::gpu;
use quant_nn::QuantizedModule;
use quant_train::optimizer::{GroupRules, Optimizer, Optimizers};

/// More parameters than one launch takes, of which one gets no gradient in the first step.
#[derive(Module, Debug)]
struct Own {
    early: Vec<Param<Tensor<2>>>,
    late: Param<Tensor<1>>,
}

impl QuantizedModule for Own {}

fn drawn(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| ((7 * at + 13 * seed) as f32).sin()).collect()
}

/// Returns the parameters after some steps, of which the last ones continue from a file.
fn trained(optimizer: Optimizer, device: &Device) -> Vec<f32> {
    let tensor = |seed: usize| {
        let rows = 3 + seed;
        Tensor::<1>::from_floats(drawn(seed, 5 * rows).as_slice(), device).reshape([rows, 5])
    };
    let late = Tensor::<1>::from_floats(drawn(99, 300).as_slice(), device);
    let early = (0..12).map(|seed| Param::from_tensor(tensor(seed)));
    let mut own = Own { early: early.collect(), late: Param::from_tensor(late) };
    let rules = GroupRules { weight_decay: 0.1, ..GroupRules::default() };
    let mut optimizers = Optimizers::new(optimizer, &rules, &own);
    for step in 0..6 {
        if step == 3 {
            let states = optimizers.to_bytes().unwrap();
            optimizers = Optimizers::new(optimizer, &rules, &own).load(states).unwrap();
        }
        let squares = own.early.iter().map(|weight| weight.val().powi_scalar(2).sum());
        let mut loss = squares.reduce(|a, b| a + b).unwrap();
        if step > 0 {
            loss = loss + own.late.val().powi_scalar(2).sum();
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &own);
        own = optimizers.step(0.05, own, gradients);
    }
    let early = own.early.iter().map(|weight| weight.val().into_data());
    let all = early.chain([own.late.val().into_data()]);
    all.flat_map(|data| data.try_to_vec::<f32>().unwrap()).collect()
}

#[test]
fn optimizers_update_parameters_as_on_the_cpu() {
    let betas = [0.9, 0.999];
    for optimizer in [
        Optimizer::Sgd { momentum: 0.9, nesterov: false },
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::Sgd { momentum: 0.0, nesterov: false },
        Optimizer::Adam { betas, epsilon: 1e-8 },
        Optimizer::AdamW { betas, epsilon: 1e-8 },
    ] {
        let ours = trained(optimizer, &gpu().autodiff());
        let expected = trained(optimizer, &Device::flex().autodiff());
        assert_eq!(ours.len(), expected.len());
        for (a, b) in ours.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-4, "{optimizer:?}: {a} {b}");
        }
    }
}
