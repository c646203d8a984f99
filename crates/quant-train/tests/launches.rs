//! Counts the launches of a training step on the GPU backend of this build, which may run on a
//! software device. Without a GPU feature there is no test.

#![cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]
#![expect(clippy::print_stdout, reason = "a failed test shows what was launched")]

#[path = "../../quant-core/tests/common/gpu.rs"]
mod gpu;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use burn::{
    backend::DispatchDevice,
    module::Module,
    nn::loss::CrossEntropyLossConfig,
    optim::GradientsParams,
    tensor::{Device, Distribution, Int, Tensor},
};
use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver};
use gpu::gpu;
use quant_core::{Levels, Method, QuantizerConfig, Role, Site, quantizers};
use quant_cube::update;
use quant_nn::{
    Network, Quantization, ResNetConfig,
    layers::{
        LayerQuantizers,
        conv::{QuantConv2d, QuantConv2dConfig},
        norm::BatchNorm2d,
    },
    ops::channels_last,
    resnet::{Depth, Stem},
};
use quant_train::optimizer::{GroupRules, Optimizer, Optimizers, parameters};

#[derive(Default)]
struct Names(Mutex<BTreeMap<&'static str, usize>>);

impl LaunchObserver for Names {
    fn launched(&self, kernel: &'static str) {
        *self.0.lock().unwrap().entry(kernel).or_default() += 1;
    }
}

/// The launches of the whole process are observed, so tests that launch take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns how often a task launches each kernel.
fn launches(device: &Device, task: impl FnOnce()) -> BTreeMap<&'static str, usize> {
    device.sync().unwrap();
    let names = Arc::new(Names::default());
    let watching = LaunchObservation::new(names.clone());
    task();
    device.sync().unwrap();
    drop(watching);
    let counts = names.0.lock().unwrap().clone();
    for (name, count) in &counts {
        println!("{count:5} {name}");
    }
    counts
}

/// Returns the number of launches of this project's kernels, and that of all.
fn counted(launches: &BTreeMap<&'static str, usize>) -> (usize, usize) {
    let ours = launches.iter().filter(|(name, _)| name.contains("quant_cube"));
    let counts = (ours.map(|(_, count)| count).sum(), launches.values().sum());
    println!("{} launches of this project, {} in all", counts.0, counts.1);
    counts
}

/// Returns the number of copies into another order of memory.
fn copies(launches: &BTreeMap<&'static str, usize>) -> usize {
    launches.iter().filter(|(name, _)| name.contains("contiguous")).map(|(_, count)| count).sum()
}

fn two_bits(method: Method, role: Role) -> QuantizerConfig {
    QuantizerConfig::new(method, role, Levels::from_bits(2).unwrap())
}

/// Returns the quantization of all layers to two bits by this method.
fn quantized(method: Method) -> Quantization {
    Quantization {
        activation: Some(two_bits(method, Role::Activation)),
        weight: Some(two_bits(method, Role::Weight)),
        ..Quantization::default()
    }
}

#[derive(Module, Debug)]
struct Layer {
    conv: QuantConv2d,
    norm: BatchNorm2d,
}

/// A quantized convolution with its batch norm takes at most 12 launches, forward and backward: the
/// norm six, the quantizer of the input one forward, one where its values are computed again and
/// two backward, and that of the weight one in each direction. The weight is small enough for one
/// block of the smallest size to sum its gradients: a larger one takes one more launch.
#[test]
fn a_quantized_convolution_takes_at_most_twelve_launches() {
    let _turn = turn();
    let device = gpu().autodiff();
    let config = QuantConv2dConfig {
        quantizers: LayerQuantizers {
            activation: Some(two_bits(Method::Lsq, Role::Activation)),
            weight: Some(two_bits(Method::Lsq, Role::Weight)),
            ..LayerQuantizers::default()
        },
        ..QuantConv2dConfig::new([32, 32], 3, 1)
    };
    let conv = channels_last(config.init("conv", &device).unwrap());
    let layer = Layer { conv, norm: BatchNorm2d::new(32, &device) };
    let x = Tensor::<4>::random([2, 32, 64, 64], Distribution::Normal(0.0, 1.0), &device);
    let step = || {
        // As in a network, the input is the result of another operation.
        let x = x.clone().require_grad().mul_scalar(2.0);
        let y = layer.norm.forward_add_relu(layer.conv.forward(x), None, true);
        let gradients = y.sum().backward();
        layer.conv.weight.val().grad(&gradients).unwrap();
    };
    // The first steps try which kernels of Burn's are the fastest.
    (0..3).for_each(|_| step());
    let (ours, _) = counted(&launches(&device, step));
    assert!((1..=12).contains(&ours), "{ours} launches");
}

/// Norms with an addition and a ReLU, and quantizers, read and write the order of memory of Burn's
/// convolutions, in which the channels of a pixel lie side by side.
#[test]
fn quantizers_and_norms_copy_nothing() {
    let _turn = turn();
    let device = gpu().autodiff();
    let quantizer = two_bits(Method::Lsq, Role::Activation)
        .init(&Site::activation("layer", 32), &device)
        .unwrap();
    let norm = BatchNorm2d::new(32, &device);
    let step = |pixels: Tensor<4>| {
        let mut x = pixels.permute([0, 3, 1, 2]).require_grad();
        for _ in 0..4 {
            x = norm.forward_add_relu(quantizer.forward(x.clone()), Some(x), true);
        }
        x.sum().backward()
    };
    let pixels = || Tensor::random([2, 16, 16, 32], Distribution::Normal(0.0, 1.0), &device);
    step(pixels());
    let pixels = pixels();
    let counts = launches(&device, || drop(step(pixels)));
    assert!(counted(&counts).0 >= 4 * (6 + 2), "the launches are not observed");
    assert_eq!(copies(&counts), 0);
}

/// Returns the largest number of launches in which optimizers that keep this many tensors of a
/// parameter update `count` parameters. Weights decay and the others do not, so that there are two
/// groups, each with a last launch that may be smaller. Some devices let a kernel have few tensors.
fn updates_of(count: usize, kept: usize) -> usize {
    let DispatchDevice::Cube(device) = gpu().as_dispatch().clone() else {
        panic!("the device has no CubeCL backend");
    };
    let (most, together) = (update::most(kept), update::most_on(&device.client(), kept));
    (count.div_ceil(most) + 1) * most.div_ceil(together)
}

/// Returns the launches of a step of this network, and the numbers of its parameters and layers
/// with quantizers.
fn step_of(
    quantization: Quantization,
    optimizer: Optimizer,
) -> (BTreeMap<&'static str, usize>, [usize; 2]) {
    let device = gpu().autodiff();
    let config = ResNetConfig {
        width_alpha: 0.125,
        quantization,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
    };
    let mut network: Network = channels_last(config.init(&device).unwrap());
    let images = Tensor::<4>::random([8, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
    let labels = Tensor::<1, Int>::from_ints([1, 2, 3, 4, 5, 6, 7, 8], &device);
    let loss = CrossEntropyLossConfig::new().init(&device);
    let counts = [parameters(&network).len(), quantizers(&network).len() / 2];
    let mut optimizers = Optimizers::new(optimizer, &GroupRules::default(), &network);
    let mut step = || {
        let value = loss.forward(network.forward(images.clone()), labels.clone());
        let gradients = GradientsParams::from_grads(value.backward(), &network);
        network = optimizers.step(0.001, network.clone(), gradients);
    };
    (0..3).for_each(|_| step());
    (launches(&device, step), counts)
}

/// A step of ResNet-20 with two bits, whose weights are small enough for one block of the smallest
/// size to sum their gradients.
#[test]
fn a_step_of_resnet20_takes_few_launches() {
    let _turn = turn();
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let adam = Optimizer::Adam { betas: [0.9, 0.999], epsilon: 1e-8 };
    let (of_adam, _) = step_of(quantized(Method::Lsq), adam);
    let (counts, [count, layers]) = step_of(quantized(Method::Lsq), sgd);
    let (full_precision, _) = step_of(Quantization::default(), sgd);
    let updates = |counts: &BTreeMap<&'static str, usize>| -> usize {
        let of_optimizer = counts.iter().filter(|(name, _)| name.contains("update"));
        of_optimizer.map(|(_, count)| count).sum()
    };
    for (counts, kept) in [(&counts, 1), (&of_adam, 2)] {
        let (updates, most) = (updates(counts), updates_of(count, kept));
        assert!((1..=most).contains(&updates), "{updates} launches for {count} parameters");
    }
    let (ours, all) = counted(&counts);
    let updates = updates(&counts);
    // The first convolution is not quantized, and its norm takes six.
    assert!(ours - updates <= 12 * layers + 6, "{ours} launches for {layers} layers");
    // Which algorithms of Burn's convolutions are the fastest, and with them copies and launches,
    // changes from run to run. The network in full precision has the same ones.
    assert!(copies(&counts) <= copies(&full_precision), "quantizers copy");
    let (ours_there, all_there) = counted(&full_precision);
    // Without fusion, each operation on the quantizers' few parameters is a launch of its own.
    let added = (all - ours).saturating_sub(all_there - ours_there);
    assert!(added <= 40 * layers, "{added} launches of Burn for {layers} layers");
}

/// LQ-Nets fits a basis for each quantizer in every step: one launch for its levels, one that sums
/// the elements of each level, and one that solves the system.
#[test]
fn a_step_of_lq_nets_takes_few_launches() {
    let _turn = turn();
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let (counts, [_, layers]) = step_of(quantized(Method::LQ_NETS), sgd);
    let (full_precision, _) = step_of(Quantization::default(), sgd);
    let (ours, all) = counted(&counts);
    let (ours_there, all_there) = counted(&full_precision);
    let of_bases = counts.iter().filter(|(name, _)| name.contains("quant_cube::basis"));
    let of_bases: usize = of_bases.map(|(_, count)| count).sum();
    // Two quantizers in a layer, and the levels once more in the forward pass.
    assert_eq!(of_bases, 2 * 4 * layers);
    assert!(copies(&counts) <= copies(&full_precision), "quantizers copy");
    let added = (all - ours).saturating_sub(all_there - ours_there);
    assert!(added <= 100 * layers, "{added} launches of Burn for {layers} layers");
}
