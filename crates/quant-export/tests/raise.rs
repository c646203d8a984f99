//! Networks that are lowered and raised again have the same codes and scores.

mod common;

use burn::tensor::Device;
use common::{lowered, randomized};
use quant_core::{Granularity, Levels, Method, QuantizerConfig, Range, Role};
use quant_export::{RaiseError, RaiseOptions, Raised, raise};
use quant_golden::Folder;
use quant_infer::model::{Model, Op};
use quant_nn::{
    FirstLast, FirstLastQuantizers, NetworkConfig, Quantization, ResNetConfig,
    keywords::network,
    mobilenet::{MobileNetV1Config, MobileNetV2Config},
    nin::NinConfig,
    resnet::{Depth, Order, SkipSpan, Stem},
    vgg_small::VggSmallConfig,
};

fn quantizer(method: Method, role: Role, levels: usize) -> QuantizerConfig {
    QuantizerConfig::new(method, role, Levels::new(levels).unwrap())
}

fn lsq(levels: usize) -> Quantization {
    Quantization {
        activation: Some(quantizer(Method::Lsq, Role::Activation, levels)),
        weight: Some(quantizer(Method::Lsq, Role::Weight, levels)),
        ..Quantization::default()
    }
}

fn narrow(quantization: Quantization) -> ResNetConfig {
    ResNetConfig {
        width_alpha: 0.125,
        quantization,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
    }
}

fn model_of(config: &NetworkConfig, name: &str) -> Model {
    let network = config.init_seeded(3, &Device::flex()).unwrap();
    lowered(&randomized(network, name), name).model
}

/// Lowers and raises a network, and requires that nothing differs.
fn same(config: impl Into<NetworkConfig>, name: &str) -> Raised {
    let config = config.into();
    let model = model_of(&config, name);
    let raised =
        raise(&model, &RaiseOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(raised.verified.differing, 0, "{name}: {} {:?}", raised.verified, raised.notes);
    assert_eq!(raised.verified.apart, 0.0, "{name}: {}", raised.verified);
    raised
}

#[test]
fn networks_of_every_family_come_back() {
    let residual = |order, skip| ResNetConfig { order, skip, ..narrow(lsq(4)) };
    same(narrow(Quantization::default()), "full precision");
    same(narrow(lsq(2)), "1 bit");
    same(narrow(lsq(256)), "8 bits");
    let found = same(residual(Order::Bacs, SkipSpan::Layer), "bacs");
    assert!(matches!(found.network.config(), NetworkConfig::ResNet(config)
        if config.order == Order::Bacs && config.skip == SkipSpan::Layer));
    let deep = ResNetConfig { depth: Depth::ResNet18, stem: Stem::ImageNet, ..narrow(lsq(4)) };
    same(ResNetConfig { input_size: 64, ..deep }, "18");
    let quantization = lsq(4);
    let v1 = MobileNetV1Config {
        width_alpha: 0.3,
        quantization: quantization.clone(),
        ..MobileNetV1Config::new(7, 64)
    };
    let found = same(NetworkConfig::MobilenetV1(v1), "mobilenet v1");
    assert_eq!((found.network.config().classes(), found.network.config().input_size()), (7, 64));
    let v2 = MobileNetV2Config {
        width_alpha: 0.3,
        quantization: quantization.clone(),
        ..MobileNetV2Config::new(7, 64)
    };
    same(NetworkConfig::MobilenetV2(v2), "mobilenet v2");
    let vgg = VggSmallConfig { quantization: quantization.clone(), ..VggSmallConfig::new(10, 32) };
    same(NetworkConfig::VggSmall(vgg), "vgg");
    let nin = NinConfig { quantization, ..NinConfig::new(10, 32) };
    same(NetworkConfig::Nin(nin), "nin");
}

#[test]
fn methods_come_back_with_the_same_codes() {
    for method in Method::ALL {
        for levels in [2, 3, 4, 8, 16] {
            let activation = quantizer(*method, Role::Activation, levels);
            let weight = quantizer(*method, Role::Weight, levels);
            let valid = |config: &QuantizerConfig| config.validate("test").is_ok();
            let name = format!("{} {levels}", method.name());
            for signed in [false, true] {
                let range = if signed { Range::Signed } else { Range::Unsigned };
                let activation = QuantizerConfig { range, ..activation.clone() };
                for (a, w) in [(true, false), (false, true)] {
                    let quantization = Quantization {
                        activation: Some(match a {
                            true => activation.clone(),
                            false => quantizer(Method::Lsq, Role::Activation, 4),
                        }),
                        weight: Some(match w {
                            true => weight.clone(),
                            false => quantizer(Method::Lsq, Role::Weight, 4),
                        }),
                        ..Quantization::default()
                    };
                    if !(quantization.activation.iter().all(valid)
                        && quantization.weight.iter().all(valid))
                    {
                        continue;
                    }
                    let config = NetworkConfig::from(narrow(quantization));
                    let model = model_of(&config, &name);
                    match raise(&model, &RaiseOptions::default()) {
                        Ok(raised) => {
                            println!("{name} {signed} {a}: {} {:?}", raised.verified, raised.notes)
                        }
                        Err(error) => println!("{name} {signed} {a}: ERROR {error}"),
                    }
                }
            }
        }
    }
}
