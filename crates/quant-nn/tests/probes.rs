//! Probes of a network, as a safetensors file.

use burn::tensor::{Device, Distribution, Tensor};
use quant_core::{Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    Quantization, QuantizedModule, ResNetConfig, StateDict,
    resnet::{Depth, Stem},
};

#[test]
fn chosen_quantizers_leave_inputs_outputs_and_parameters() {
    let bits = Levels::from_bits(2).unwrap();
    let config = ResNetConfig {
        quantization: Quantization {
            activation: Some(QuantizerConfig::new(Method::Lsq, Role::Activation, bits)),
            weight: Some(QuantizerConfig::new(Method::LQ_NETS, Role::Weight, bits)),
            ..Quantization::default()
        },
        width_alpha: 0.1,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
    };
    let device = Device::flex();
    let network = config.init(&device).unwrap();
    let images = Tensor::random([2, 3, 32, 32], Distribution::Default, &device);
    let probed = network.probe(
        |layer, role| layer == "layer1.0.conv1" || role == Role::Weight,
        |network| drop(network.forward(images)),
    );

    let probes = StateDict::from_bytes(&probed.to_bytes().unwrap()).unwrap();
    let shape = |name: &str| probes.get(name).map(|entry| entry.shape.clone());
    let input = shape("layer1.0.conv1.quant_activation/before-quant").unwrap();
    assert_eq!((input[0], input[2], input[3]), (2, 32, 32));
    assert_eq!(shape("layer1.0.conv1.quant_activation/after-quant"), Some(input));
    assert_eq!(shape("layer1.0.conv1.quant_activation/clip_val"), Some(vec![1]));
    assert_eq!(shape("layer2.0.conv1.quant_weight/basis"), Some(vec![2]));
    assert_eq!(shape("layer2.0.conv1.quant_activation/before-quant"), None, "not chosen");
}
