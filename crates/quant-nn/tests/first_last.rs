//! The first and the last layer with quantizers of their own, in every structure.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use burn::tensor::{Device, Distribution, Tensor};
use quant_core::{
    Calibration, Granularity, Levels, Method, QuantizerConfig, Range, Role, calibrate_where,
};
use quant_nn::{
    FirstLast, FirstLastQuantizers, Network, NetworkConfig, Quantization, QuantizedModule,
    ResNetConfig, StateDict,
    layers::activation::ActivationKind,
    mobilenet::{MobileNetV1Config, MobileNetV2Config},
    nin::NinConfig,
    resnet::{Depth, DownsampleKind, Fixup, SkipSpan, Stem},
    summarize,
    vgg_small::{PlainOrder, VggSmallConfig},
};

const EIGHT: FirstLast =
    FirstLast::Own(FirstLastQuantizers { bits: 8, granularity: Granularity::PerChannel });

/// 2-bit LSQ, skips in full precision, and these quantizers of the first and the last layer.
fn two_bits(first_last: FirstLast) -> Quantization {
    let of = |role| Some(QuantizerConfig::new(Method::Lsq, role, Levels::from_bits(2).unwrap()));
    Quantization {
        activation: of(Role::Activation),
        weight: of(Role::Weight),
        real_downsample: true,
        first_last,
        ..Quantization::default()
    }
}

fn resnet(depth: Depth, stem: Stem) -> ResNetConfig {
    ResNetConfig { width_alpha: 0.0625, ..ResNetConfig::new(depth, stem, 3, 32) }
}

/// One of every structure, with the names of its first and last layer.
fn structures() -> Vec<(NetworkConfig, &'static str, &'static str)> {
    let vgg = |order| {
        let config = VggSmallConfig { order, ..VggSmallConfig::new(3, 32) };
        (NetworkConfig::VggSmall(config), "conv1", "classifier")
    };
    vec![
        (resnet(Depth::ResNet20, Stem::Cifar).into(), "conv1", "fc"),
        (resnet(Depth::ResNet18, Stem::ImageNet).into(), "conv1", "fc"),
        (resnet(Depth::ResNet50, Stem::ImageNet).into(), "conv1", "fc"),
        (resnet(Depth::ResNet18, Stem::SpaceToDepth(3)).into(), "conv1.conv", "fc"),
        (resnet(Depth::ResNet18, Stem::SpaceToDepthMaxPool(1)).into(), "conv1.conv", "fc"),
        (
            NetworkConfig::MobilenetV1(MobileNetV1Config {
                width_alpha: 0.125,
                ..MobileNetV1Config::new(3, 32)
            }),
            "root.0",
            "classifier.0",
        ),
        (
            NetworkConfig::MobilenetV2(MobileNetV2Config {
                width_alpha: 0.125,
                ..MobileNetV2Config::new(3, 32)
            }),
            "features.0.0",
            "classifier.0",
        ),
        vgg(PlainOrder::Cba),
        vgg(PlainOrder::Bac),
        (NetworkConfig::Nin(NinConfig::new(3, 32)), "conv1", "conv9"),
    ]
}

fn built(mut config: NetworkConfig, quantization: Quantization) -> Network {
    *config.quantization_mut() = quantization;
    config.init(&Device::flex().autodiff()).unwrap_or_else(|error| panic!("{error}: {config:?}"))
}

/// The quantizers of a layer.
fn of_layer(network: &Network, layer: &str) -> Vec<QuantizerConfig> {
    let found = network.layers().into_iter().find(|found| found.name == layer);
    let quantizers = found.unwrap_or_else(|| panic!("{layer}")).layer.quantizers().into_iter();
    quantizers.map(|(_, quantizer)| quantizer.config().clone()).collect()
}

#[test]
fn the_first_layer_quantizes_its_weight_and_the_last_weight_and_input() {
    for (config, first, last) in structures() {
        let network = built(config, two_bits(EIGHT));
        let [weight] = of_layer(&network, first).try_into().unwrap();
        let [input, last_weight] = of_layer(&network, last).try_into().unwrap();
        for weight in [&weight, &last_weight] {
            assert_eq!((weight.method, weight.role), (Method::Lsq, Role::Weight), "{first}");
            assert_eq!((weight.levels.bits(), weight.granularity), (8, Granularity::PerChannel));
        }
        assert_eq!((input.levels.bits(), input.granularity), (8, Granularity::PerTensor));
        assert_eq!(input.role, Role::Activation);
        let whole_steps = [weight, last_weight].map(|weight| weight.levels.count());
        assert_eq!(whole_steps, [255, 255]);
    }
}

#[test]
fn the_other_layers_are_as_without_it() {
    for (config, first, last) in structures() {
        let quantizers = |first_last| {
            let network = built(config.clone(), two_bits(first_last));
            let inner = network.quantizers().into_iter();
            let inner = inner.filter(|(layer, ..)| *layer != first && *layer != last);
            inner
                .map(|(layer, role, quantizer)| (layer, role, quantizer.config().clone()))
                .collect::<Vec<_>>()
        };
        let usual = quantizers(FirstLast::FullPrecision);
        assert_eq!(quantizers(EIGHT), usual);
        assert!(usual.iter().all(|(layer, ..)| !layer.contains("downsample")), "{usual:?}");
    }
}

#[test]
fn without_other_quantizers_only_the_first_and_the_last_layer_have_some() {
    for (config, first, last) in structures() {
        let quantization = Quantization { first_last: EIGHT, ..Quantization::default() };
        let network = built(config, quantization);
        let names: Vec<_> = network.quantizers().into_iter().map(|(layer, ..)| layer).collect();
        assert_eq!(names, [first, last, last]);
    }
}

/// Squares of images were never quantized like other layers, and are not now.
#[test]
fn like_others_means_what_it_did() {
    for (config, first, last) in structures() {
        let network = built(config, two_bits(FirstLast::LikeOthers));
        let inputs = of_layer(&network, first).len();
        assert_eq!(inputs, if first == "conv1.conv" { 0 } else { 2 }, "{first}");
        assert_eq!(of_layer(&network, last).len(), 2);
        assert!(of_layer(&network, last).iter().all(|quantizer| quantizer.levels.bits() == 2));
    }
}

#[test]
fn the_input_of_the_last_layer_is_signed_where_it_can_be_negative() {
    let range = |config: ResNetConfig| {
        let network = built(config.into(), two_bits(EIGHT));
        of_layer(&network, "fc")[0].range
    };
    let base = resnet(Depth::ResNet18, Stem::ImageNet);
    for kind in [ActivationKind::ReLU, ActivationKind::ReLU6] {
        assert_eq!(range(ResNetConfig { activation: kind, ..base.clone() }), Range::Unsigned);
    }
    for kind in [ActivationKind::LReLU, ActivationKind::PReLU, ActivationKind::RPReLU] {
        assert_eq!(range(ResNetConfig { activation: kind, ..base.clone() }), Range::Signed);
    }
    let bi_real = ResNetConfig {
        activation: ActivationKind::NReLU,
        skip: SkipSpan::Layer,
        fix: false,
        downsample: DownsampleKind::AveragePool,
        ..base.clone()
    };
    assert_eq!(range(bi_real), Range::Signed);
    // A learned number is added to the pooled values.
    let shifted = ResNetConfig { fixup: Some(Fixup { bias: true }), ..base };
    assert_eq!(range(shifted), Range::Signed);
}

#[test]
fn they_train_and_count_eight_bits() {
    let device = Device::flex().autodiff();
    for (config, first, last) in structures() {
        let network = built(config, two_bits(EIGHT));
        let state = StateDict::of(&network);
        let summary = summarize(&network, &state);
        for layer in summary.layers.iter().filter(|layer| [first, last].contains(&&*layer.name)) {
            assert_eq!((layer.activation_bits, layer.weight_bits), (Some(8), 8), "{}", layer.name);
            assert_eq!(layer.bit_operations, 64 * layer.macs);
            let biases = if layer.weight_shape.len() == 2 { 3 } else { 0 };
            let weights: usize = layer.weight_shape.iter().product();
            assert_eq!(layer.bytes, (weights + 4 * biases) as u64, "{}", layer.name);
        }
        let x = Tensor::random([2, 3, 32, 32], Distribution::Default, &device);
        let scores = network.forward(x);
        assert_eq!(scores.dims(), [2, 3]);
        let gradients = scores.powi_scalar(2).sum().backward();
        let quantizers = network.quantizers().into_iter();
        for (layer, role, quantizer) in
            quantizers.filter(|(layer, ..)| [first, last].contains(&&**layer))
        {
            let learned = quantizer.learned();
            assert_eq!(learned.len(), 1, "{layer}");
            let gradient = learned[0].value.val().grad(&gradients);
            assert!(gradient.is_some(), "{layer} {role}");
        }
    }
}

#[test]
fn calibration_and_states_cover_them() {
    let device = Device::flex().autodiff();
    let network = built(resnet(Depth::ResNet20, Stem::Cifar).into(), two_bits(EIGHT));
    let images = Tensor::random([4, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
    let run = |network: &Network| drop(network.forward(images));
    let (network, found) = calibrate_where(network, |_| true, Calibration::SquaredError, run);
    for name in ["conv1.quant_weight", "fc.quant_activation", "fc.quant_weight"] {
        let info = found.iter().find(|info| info.layer == name);
        assert!(info.is_some_and(|info| info.error_after < 1e-3), "{name}: {info:?}");
    }
    let state = StateDict::of(&network);
    let other =
        |first_last| built(resnet(Depth::ResNet20, Stem::Cifar).into(), two_bits(first_last));
    let (restored, report) = state.load_into(other(EIGHT));
    assert!(report.is_complete(), "{report}");
    assert_eq!(StateDict::of(&restored), state);
    let (_, report) = state.load_into(other(FirstLast::LikeOthers));
    assert!(!report.is_complete());
}
