//! Networks of several structures: the served evaluation, the plain executor of `quant-infer` and
//! the usual evaluation.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::tensor::Device;
use common::{check, randomized};
use proptest::prelude::*;
use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role};
use quant_export::Explained;
use quant_infer::model::Op;
use quant_nn::{
    FirstLast, FirstLastQuantizers, NetworkConfig, NetworkError, Quantization, ResNetConfig,
    layers::{activation::ActivationKind, norm::NormKind},
    mobilenet::{MobileNetV1Config, MobileNetV2Config, MobileSkip},
    nin::NinConfig,
    resnet::{
        BlockKernel, Depth, DownsampleKind, Fixup, LosslessDownsample, Order, PointReshape,
        SkipSpan, Stem,
    },
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
        first_last: FirstLast::Own(FirstLastQuantizers::new(8)),
        ..both(Method::Lsq, 4)
    };
    let network = small(quantization).init(&Device::flex()).unwrap();
    let lowered = check(&randomized(network, "first and last"), "first and last", 3);
    assert!(lowered.explanation.iter().all(|layer| layer.reason.is_none()), "{lowered}");
    let bits = |layer: &Explained| [layer.activation_bits, layer.weight_bits];
    let all: Vec<_> = lowered.explanation.iter().map(bits).collect();
    let [first, others @ .., last] = &all[..] else { panic!("{lowered}") };
    assert_eq!([first, last], [&[8, 8]; 2], "{lowered}");
    assert!(others.iter().all(|bits| *bits == [2, 2]), "{lowered}");
}

#[test]
fn mobile_networks_and_network_in_network() {
    let per_channel = |method, levels| Quantization {
        activation: Some(QuantizerConfig {
            granularity: Granularity::PerChannel,
            ..quantizer(method, Role::Activation, levels).unwrap()
        }),
        ..both(method, levels)
    };
    for (name, quantization) in
        [("lsq", both(Method::Lsq, 4)), ("lsq per channel", per_channel(Method::Lsq, 16))]
    {
        let one = MobileNetV1Config {
            width_alpha: 0.125,
            skip: MobileSkip::Layer,
            double_by_concatenation: true,
            quantization: quantization.clone(),
            ..MobileNetV1Config::new(3, 32)
        };
        let two = MobileNetV2Config {
            width_alpha: 0.125,
            quantization: quantization.clone(),
            ..MobileNetV2Config::new(3, 32)
        };
        let configs = [NetworkConfig::MobilenetV1(one), NetworkConfig::MobilenetV2(two)];
        for config in configs {
            let network = config.init(&Device::flex()).unwrap();
            let lowered = check(&randomized(network, name), name, 3);
            // A depthwise convolution reads one scale for each output, so it has integers also
            // where each channel has its own.
            let depthwise = lowered.model.nodes.iter().filter(
                |node| matches!(&node.op, Op::Conv(conv) if conv.groups == conv.in_channels),
            );
            for node in depthwise {
                let layer = lowered.explanation.iter().find(|layer| layer.name == node.name);
                assert_eq!(layer.and_then(|layer| layer.reason.clone()), None, "{}", node.name);
            }
        }
    }
    let nin = NinConfig { quantization: both(Method::XNOR, 2), ..NinConfig::new(3, 16) };
    let network = NetworkConfig::Nin(nin).init(&Device::flex()).unwrap();
    check(&randomized(network, "nin"), "nin", 1);
}

/// Residual networks of all structures, with all methods.
fn structures() -> impl Strategy<Value = ResNetConfig> {
    fn pick<T: Clone + std::fmt::Debug + 'static>(
        choices: &[T],
    ) -> impl Strategy<Value = T> + use<T> {
        prop::sample::select(choices.to_vec())
    }
    let shape = (
        pick(&[Depth::ResNet20, Depth::ResNet18, Depth::ResNet50]),
        pick(&[Stem::Cifar, Stem::ImageNet, Stem::SpaceToDepth(1), Stem::SpaceToDepthMaxPool(3)]),
        pick(&[Order::Cbas, Order::Cbsa, Order::Cabs, Order::Bacs, Order::Bcas]),
        pick(&[SkipSpan::Block, SkipSpan::Layer]),
        pick(&[DownsampleKind::StridedConv, DownsampleKind::AveragePool, DownsampleKind::Repeat]),
    );
    let layers = (
        pick(&[NormKind::Batch, NormKind::Reverse, NormKind::Group(2), NormKind::Instance]),
        pick(&[
            ActivationKind::ReLU,
            ActivationKind::NReLU,
            ActivationKind::LReLU,
            ActivationKind::PReLU,
            ActivationKind::RPReLU,
        ]),
    );
    let body = (
        1usize..=2,
        pick(&[None, Some("c"), Some("cba")]),
        pick(&[None, None, Some(false), Some(true)]),
        pick(&[None, None, Some(false), Some(true)]),
    );
    let names: Vec<&'static str> = Method::ALL.iter().map(Method::name).collect();
    let quantizers = (prop::sample::select(names), pick(&[2usize, 3, 4, 16]));
    let flags = prop::array::uniform8(any::<bool>());
    (shape, layers, body, quantizers, flags).prop_map(
        |(shape, (norm, activation), body, (name, levels), flags)| {
            let (depth, stem, order, skip, downsample) = shape;
            let (branches, lossless, reshape, fixup) = body;
            let [fix, pre_norm, linear_stem, identity_norm, first_last, after, output, caffe] =
                flags;
            let method = Method::named(name).unwrap();
            ResNetConfig {
                width_alpha: 0.0625,
                order,
                skip,
                downsample,
                norm,
                activation,
                branches,
                lossless_downsample: lossless
                    .map(|order| LosslessDownsample { order: order.to_owned(), whole_block: fix }),
                point_reshape: reshape.map(|keep_downsample| PointReshape {
                    keep_downsample,
                    norm_before_restore: fix,
                }),
                first_kernel: if output { BlockKernel::One } else { BlockKernel::Usual },
                fixup: fixup.map(|bias| Fixup { bias }),
                fix,
                pre_norm,
                linear_stem,
                identity_norm,
                caffe_pooling: caffe,
                quantization: Quantization {
                    first_last: first_last.into(),
                    padding_after_quant: after,
                    output: output.then(|| quantizer(method, Role::Output, levels)).flatten(),
                    ..both(method, levels)
                },
                ..ResNetConfig::new(depth, stem, 3, 32)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_global_rejects: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_residual_network_is_lowered(config in structures()) {
        match config.init(&Device::flex()) {
            Ok(network) => drop(check(&randomized(network, "structure"), "structure", 100)),
            Err(NetworkError::Structure { .. } | NetworkError::Field { .. }) => {
                return Err(TestCaseError::reject("does not fit together"));
            }
            Err(error) => panic!("{error}: {config:?}"),
        }
    }
}
