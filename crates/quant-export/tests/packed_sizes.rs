//! The files of lowered networks: at most 1.05 times their true content, whatever the granularity.
//!
//! The content is what [`summarize`] counts: weights at their true widths, and 32 bits for every
//! other number of the network, including the parameters of its quantizers.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[expect(dead_code, reason = "other test programs use the rest of it")]
mod common;

use burn::tensor::Device;
use common::{lowered, randomized};
use quant_core::{Granularity, Levels, Method, QuantizerConfig, Range, Role};
use quant_infer::model::Model;
use quant_nn::{
    Quantization, ResNetConfig, StateDict,
    resnet::{Depth, Stem},
    summarize,
};

/// The bytes of the file of a ResNet-20 of width 0.25, in parts of its content.
fn ratio(name: &str, quantization: Quantization) -> f64 {
    let config = ResNetConfig {
        width_alpha: 0.25,
        quantization,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
    };
    let network = randomized(config.init(&Device::flex()).unwrap(), name);
    let content = summarize(&network, &StateDict::of(&network)).size_bytes_packed;
    let model = lowered(&network, name).model;
    let bytes = model.to_bytes();
    let read = Model::from_bytes(&bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{model:?}"), "{name}");
    bytes.len() as f64 / content as f64
}

fn quantizer(
    method: Method,
    role: Role,
    levels: usize,
    granularity: Granularity,
) -> QuantizerConfig {
    let config = QuantizerConfig::new(method, role, Levels::new(levels).unwrap());
    QuantizerConfig { granularity, ..config }.nearest()
}

fn of(method: Method, levels: usize, granularities: [Granularity; 2]) -> Quantization {
    let [activation, weight] = granularities;
    Quantization {
        activation: Some(quantizer(method, Role::Activation, levels, activation)),
        weight: Some(quantizer(method, Role::Weight, levels, weight)),
        ..Quantization::default()
    }
}

#[test]
fn a_file_takes_at_most_a_twentieth_more_than_its_network() {
    use Granularity::{Groups, GroupsOf, PerChannel, PerTensor};
    let methods = ["lsq", "lsq-step", "lsq-plus", "pact", "dorefa", "apot", "lq-nets"];
    let mut failed = Vec::new();
    let mut check = |name: String, quantization| {
        let ratio = ratio(&name, quantization);
        if ratio > 1.05 {
            failed.push(format!("{name}: {ratio:.3}"));
        }
    };
    for method in methods.map(|name| Method::named(name).unwrap()) {
        for levels in [4, 16, 256] {
            let granularities = [
                [PerTensor, PerTensor],
                [PerTensor, PerChannel],
                [PerChannel, PerTensor],
                [PerChannel, PerChannel],
                [Groups(4), GroupsOf(4)],
            ];
            for granularities in granularities {
                let name = format!("{} {levels} {granularities:?}", method.name());
                check(name, of(method, levels, granularities));
            }
        }
    }
    // Each group of a weight of N2UQ has a mean and a deviation, which no parameter counts.
    for levels in [4, 16, 256] {
        let method = Method::named("n2uq").unwrap();
        check(format!("n2uq {levels}"), of(method, levels, [PerTensor, PerTensor]));
    }
    for output in [PerTensor, PerChannel] {
        for range in [Range::Signed, Range::Unsigned] {
            for levels in [16, 256] {
                let config = quantizer(Method::Lsq, Role::Output, levels, output);
                let output = Some(QuantizerConfig { range, ..config }.nearest());
                let name = format!("output {levels} {range:?} {:?}", config.granularity);
                check(name, Quantization { output, ..of(Method::Lsq, 4, [PerTensor, PerTensor]) });
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
