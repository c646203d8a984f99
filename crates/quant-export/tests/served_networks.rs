//! Networks of several structures: the served evaluation, the plain executor of `quant-infer` and
//! the usual evaluation.

mod common;

use burn::tensor::Device;
use common::{check, randomized};
use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    Quantization, ResNetConfig,
    layers::{activation::ActivationKind, norm::NormKind},
    resnet::{Depth, Stem},
};

fn small(quantization: Quantization) -> ResNetConfig {
    ResNetConfig {
        width_alpha: 0.0625,
        quantization,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 5, 16)
    }
}

fn quantizer(method: Method, role: Role, levels: usize) -> Option<QuantizerConfig> {
    Some(QuantizerConfig::new(method, role, Levels::new(levels).ok()?).nearest())
}

fn both(method: Method, levels: usize) -> Quantization {
    Quantization {
        activation: quantizer(method, Role::Activation, levels),
        weight: quantizer(method, Role::Weight, levels),
        ..Quantization::default()
    }
}

#[test]
fn two_bits_of_every_norm() {
    for norm in [
        NormKind::Batch,
        NormKind::Reverse,
        NormKind::Static,
        NormKind::Group(2),
        NormKind::Instance,
    ] {
        let config = ResNetConfig { norm, ..small(both(Method::Lsq, 4)) };
        let network = config.init(&Device::flex()).unwrap();
        check(&randomized(network, "norm"), &format!("{norm:?}"), 1);
    }
}

#[test]
fn signs_with_every_activation_function() {
    for activation in [
        ActivationKind::NReLU,
        ActivationKind::PReLU,
        ActivationKind::RPReLU,
        ActivationKind::ReLU6,
    ] {
        let config = ResNetConfig { activation, ..small(both(Method::XNOR, 2)) };
        let network = config.init(&Device::flex()).unwrap();
        check(&randomized(network, "activation"), &format!("{activation:?}"), 1);
    }
}

#[test]
fn first_and_last_layers_of_eight_bits() {
    let quantization = Quantization {
        first_last: true,
        weight: Some(QuantizerConfig {
            granularity: Granularity::PerChannel,
            ..quantizer(Method::Lsq, Role::Weight, 256).unwrap()
        }),
        ..both(Method::Lsq, 256)
    };
    let mut network = small(quantization).init(&Device::flex()).unwrap();
    // The first layer reads the bytes of the image.
    for submodule in network.pieces.iter_mut().take(1) {
        if let quant_nn::network::Submodule::Conv(conv) = submodule {
            conv.quant_activation = None;
        }
    }
    // With 256 levels a threshold is always near: what differs spreads through twenty layers.
    let lowered = check(&randomized(network, "first and last"), "first and last", 5);
    assert!(lowered.explanation.iter().all(|layer| layer.reason.is_none()), "{lowered}");
}
