//! Networks that are lowered and raised again have the same codes and scores.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use burn::tensor::Device;
use common::{lowered, randomized};
use quant_core::{
    Granularity, Levels, LqNetsOptions, Method, QuantizerConfig, Range, Role, TtqOptions,
    change_quantizers,
};
use quant_export::{RaiseError, RaiseOptions, Raised, Statistics, raise};
use quant_infer::model::{Model, Op};
use quant_nn::{
    FirstLast, FirstLastQuantizers, NetworkConfig, Quantization, ResNetConfig,
    layers::norm::NormKind,
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
    let raised = same_codes(config, name);
    assert_eq!(raised.verified.apart, 0.0, "{name}: {}", raised.verified);
    raised
}

/// Lowers and raises a network, and requires that no code differs.
fn same_codes(config: impl Into<NetworkConfig>, name: &str) -> Raised {
    let config = config.into();
    let model = model_of(&config, name);
    let raised =
        raise(&model, &RaiseOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(raised.verified.differing, 0, "{name}: {} {:?}", raised.verified, raised.notes);
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
    let mut raised = 0;
    let ranges = [Range::Unsigned, Range::Signed];
    for (method, levels) in Method::ALL.iter().flat_map(|m| [2, 3, 4, 8, 16].map(|l| (*m, l))) {
        let usual = |role| quantizer(Method::Lsq, role, 4);
        let mut pairs = vec![(usual(Role::Activation), quantizer(method, Role::Weight, levels))];
        pairs.extend(ranges.map(|range| {
            let config = quantizer(method, Role::Activation, levels);
            (QuantizerConfig { range, ..config }, usual(Role::Weight))
        }));
        for (activation, weight) in pairs {
            if activation.validate("test").is_err() || weight.validate("test").is_err() {
                continue;
            }
            let name = format!("{} {levels} {:?}", method.name(), activation.range);
            if name == "lq-nets 2 Signed" {
                // A scale of LSQ's weights would have to lie between two numbers of 32 bits, and
                // with fresh weights many sums are 0, where signs change.
                continue;
            }
            let quantization = Quantization {
                activation: Some(activation),
                weight: Some(weight),
                ..Quantization::default()
            };
            let config = NetworkConfig::from(narrow(quantization));
            let network = config.init_seeded(3, &Device::flex()).unwrap();
            let model = lowered(&network, &name).model;
            let found = raise(&model, &RaiseOptions::default())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let method = |role| {
                let quantizers = found.network.layers()[1].layer.quantizers();
                quantizers
                    .into_iter()
                    .find(|(own, _)| *own == role)
                    .map(|(_, q)| q.config().clone())
            };
            let methods = [Role::Activation, Role::Weight].map(method);
            let found = found.verified;
            assert_eq!((found.codes, found.differing), (417_792, 0), "{name}: {methods:?}");
            assert_eq!(found.same_best, found.images, "{name}: {found}");
            assert!(found.apart < 1e-5, "{name}: {found}");
            raised += 1;
        }
    }
    assert!(raised > 70, "{raised}");
}

#[test]
fn quantized_first_and_last_layers_come_back() {
    for bits in [4, 8] {
        let first_last = FirstLast::Own(FirstLastQuantizers::new(bits));
        let quantization = Quantization { first_last, ..lsq(4) };
        let found = same(narrow(quantization), "first and last");
        let found = found.network.config().quantization().first_last;
        assert_eq!(found, first_last);
    }
    let per_channel = |config: Option<QuantizerConfig>| {
        let granularity = Granularity::PerChannel;
        config.map(|config| QuantizerConfig { granularity, ..config })
    };
    let quantization = lsq(4);
    let weight = per_channel(quantization.weight.clone());
    same(narrow(Quantization { weight, ..quantization.clone() }), "weights per channel");
    let activation = per_channel(quantization.activation.clone());
    same_codes(narrow(Quantization { activation, ..quantization.clone() }), "inputs per channel");
    // Rows of few weights have few of the 256 values of 8 bits.
    let weight = per_channel(quantization.weight.clone());
    let first_last = FirstLast::Own(FirstLastQuantizers::new(8));
    let eight = Quantization { weight, first_last, ..quantization.clone() };
    let deep = ResNetConfig { depth: Depth::ResNet18, stem: Stem::ImageNet, ..narrow(eight) };
    same(ResNetConfig { input_size: 64, ..deep }, "8 bits in a large first kernel");
    let weight =
        per_channel(Some(quantizer(Method::LqNets(LqNetsOptions::default()), Role::Weight, 4)));
    same_codes(narrow(Quantization { weight, ..quantization.clone() }), "LQ-Nets per channel");
    let output = Some(quantizer(Method::Lsq, Role::Output, 16));
    same(narrow(Quantization { output, ..quantization }), "outputs");
}

/// Training can move the two values of TTQ to one side of 0, and far apart.
#[test]
fn values_of_ttq_come_back_wherever_training_put_them() {
    let ttq = quantizer(Method::Ttq(TtqOptions::default()), Role::Weight, 3);
    let quantization = Quantization { weight: Some(ttq), ..lsq(4) };
    let config = NetworkConfig::from(narrow(quantization));
    for (positive, negative) in [(0.02, 3.0), (0.5, -0.7), (-0.4, -0.1), (-0.3, 0.2)] {
        let network = config.init_seeded(3, &Device::flex()).unwrap();
        let network = change_quantizers(network, |_, quantizer| {
            if quantizer.config().role == Role::Weight {
                assert!(quantizer.set_learned("positive", &[positive]));
                assert!(quantizer.set_learned("negative", &[negative]));
            }
        });
        let name = format!("ttq {positive} {negative}");
        let model = lowered(&network, &name).model;
        let raised = raise(&model, &RaiseOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(raised.verified.differing, 0, "{name}: {}", raised.verified);
    }
}

#[test]
fn quantizers_that_no_convolution_reads_can_be_left_out() {
    let mut model = model_of(&narrow(lsq(4)).into(), "quantized sums");
    let quantizer = model.nodes.iter().find_map(|node| match &node.op {
        Op::Conv(conv) => conv.quantizer.clone(),
        _ => None,
    });
    // The first sum reads a norm through a quantizer.
    let at = model.nodes.iter().position(|node| node.op == Op::Add).unwrap();
    let reads = model.nodes[at].inputs[0];
    let op = Op::Quantize(Box::new(quantizer.unwrap()));
    let node = quant_infer::model::Node { name: "between".into(), op, inputs: vec![reads] };
    model.nodes[at].inputs[0] = at;
    for node in &mut model.nodes[at + 1..] {
        node.inputs.iter_mut().filter(|input| **input >= at).for_each(|input| *input += 1);
    }
    model.nodes.insert(at, node);
    let error = raise(&model, &RaiseOptions::default()).unwrap_err();
    let RaiseError::Structure { node, is, .. } = &error else { panic!("{error}") };
    assert_eq!((&**node, &**is), ("between", "a quantizer that no convolution reads"));
    let options = RaiseOptions { leave_out_quantizers: true, ..RaiseOptions::default() };
    let raised = raise(&model, &options).unwrap();
    assert!(raised.notes[0].starts_with("between: its quantizer was left out"));
    assert!(raised.verified.codes > 0);
}

#[test]
fn statistics_of_norms_are_kept_where_they_give_the_same_numbers() {
    let config = NetworkConfig::from(narrow(lsq(4)));
    let network = randomized(config.init_seeded(3, &Device::flex()).unwrap(), "statistics");
    let state = quant_nn::StateDict::of(&network);
    let numbers =
        |name: &str, part: &str| state.get(&format!("{name}.{part}")).unwrap().values.clone();
    let model = lowered(&network, "statistics").model;
    let statistics = (model.nodes.iter())
        .filter(|node| matches!(node.op, Op::Affine { .. }))
        .map(|node| {
            let part = |part: &str| numbers(&node.name, part);
            let statistics = Statistics {
                weight: part("weight"),
                bias: part("bias"),
                mean: part("running_mean"),
                variance: part("running_var"),
            };
            (node.name.clone(), statistics)
        })
        .collect();
    let options = RaiseOptions { statistics, ..RaiseOptions::default() };
    let raised = raise(&model, &options).unwrap();
    assert_eq!(raised.verified.apart, 0.0);
    let again = quant_nn::StateDict::of(&raised.network);
    for (name, entry) in state.entries().filter(|(name, _)| name.contains("bn")) {
        assert_eq!(again.get(name), Some(entry), "{name}");
    }
    let NetworkConfig::ResNet(config) = raised.network.config() else { panic!("a ResNet") };
    assert_eq!(config.norm, NormKind::Batch);
    // Without them, norms compute in training what they compute in evaluation.
    let raised = raise(&model, &RaiseOptions::default()).unwrap();
    let NetworkConfig::ResNet(config) = raised.network.config() else { panic!("a ResNet") };
    assert_eq!(config.norm, NormKind::Static);
}

#[test]
fn images_of_one_channel_are_refused() {
    let mut model = model_of(&narrow(lsq(4)).into(), "grey");
    model.input.size = [32, 16];
    let text = raise(&model, &RaiseOptions::default()).unwrap_err().to_string();
    assert!(text.contains("3 channels and 32x16 pixels"), "{text}");
}
