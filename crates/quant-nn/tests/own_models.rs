//! Models of a user's own, made of Burn's layers: what is trained in them, and what they cost.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::HashSet;

use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig,
        conv::{
            Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d,
            ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d,
            ConvTranspose3dConfig,
        },
    },
    tensor::{Device, Tensor},
};
use quant_core::{Levels, Method, Quantizer, QuantizerConfig, Role, Site, WeightQuantization};
use quant_nn::{
    Classifier, QuantizedModule, StateDict, summarize,
    visit::{LayerShape, stock_layers},
};

#[derive(Module, Debug)]
struct Named {
    basis_weight: Param<Tensor<2>>,
    running_scale: Param<Tensor<1>>,
    frozen: Param<Tensor<1>>,
    norm: BatchNorm,
    quant: Quantizer,
    fc: Linear,
}

impl QuantizedModule for Named {}

impl Classifier for Named {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.norm.forward(images).flatten::<2>(1, 3);
        let x = self.quant.forward(x.matmul(self.basis_weight.val()));
        self.fc.forward(x * self.running_scale.val().unsqueeze()) + self.frozen.val().unsqueeze()
    }
}

/// The parameters of LQ-Nets' quantizers are running states named `basis` and `iteration`.
fn named(device: &Device) -> Named {
    let lq_nets = |role| QuantizerConfig::new(Method::LQ_NETS, role, Levels::from_bits(2).unwrap());
    let ones = |size: usize| Param::from_tensor(Tensor::ones([size], device));
    let model = Named {
        basis_weight: Param::from_tensor(Tensor::ones([12, 4], device)),
        running_scale: ones(4),
        frozen: ones(2).set_require_grad(false),
        norm: BatchNormConfig::new(3).init(device),
        quant: lq_nets(Role::Activation).init(&Site::activation("quant", 4), device).unwrap(),
        fc: LinearConfig::new(4, 2).init(device),
    };
    let quantization = WeightQuantization::new(lq_nets(Role::Weight));
    quantization.only(|path| path == "fc.weight").apply(model).unwrap().0
}

const TRAINED: [&str; 6] =
    ["basis_weight", "fc.bias", "fc.weight", "norm.beta", "norm.gamma", "running_scale"];

#[test]
fn what_takes_a_gradient_is_trained_whatever_its_name() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let model = named(&device);
        assert_eq!(model.trained(), TRAINED.map(String::from).into(), "{device:?}");
        let summary = summarize(&model, &StateDict::of(&model));
        assert_eq!(summary.parameters, 48 + 4 + (8 + 2) + (3 + 3));
    }
}

#[test]
fn running_statistics_are_those_of_norms() {
    let mut model = named(&Device::flex().autodiff());
    assert_eq!(model.running_statistics(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    model.set_running_statistics(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(model.running_statistics(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let kept: Vec<f32> = model.basis_weight.val().into_data().iter().collect();
    assert_eq!(kept, [1.0; 48]);
}

/// A device without autodiff does not say which parameters are trained later.
#[test]
fn parameters_that_were_set_without_autodiff_are_trained_later() {
    let lsq = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2).unwrap());
    let mut quantizer = lsq.init(&Site::activation("a", 4), &Device::flex()).unwrap();
    quantizer.set_learned(quantizer.learned()[0].name, &[2.0]);
    quantizer.reset_optimizer_state(quantizer.learned()[0].name);
    let learned = quantizer.train();
    assert!(learned.learned()[0].value.is_require_grad());
    let names: HashSet<&str> = learned.learned().iter().map(|found| found.name).collect();
    assert_eq!(names.len(), 1);
}

#[derive(Module, Debug)]
struct Stock {
    depthwise: Conv2d,
    line: Conv1d,
    volume: Conv3d,
    up: ConvTranspose2d,
    up_line: ConvTranspose1d,
    up_volume: ConvTranspose3d,
    up_without_bias: ConvTranspose2d,
}

impl QuantizedModule for Stock {
    /// The inputs of the convolutions have sides of 8, as have those of the transposed ones.
    fn layer_shapes(&self) -> Vec<LayerShape> {
        let layers = stock_layers(self).into_iter();
        let sized = layers.map(|layer| LayerShape {
            input_size: Some(8),
            output_size: Some(if layer.transposed { 16 } else { 6 }),
            ..layer
        });
        sized.collect()
    }
}

fn stock(device: &Device) -> Stock {
    Stock {
        depthwise: Conv2dConfig::new([4, 4], [3, 3]).with_groups(4).init(device),
        line: Conv1dConfig::new(4, 6, 3).init(device),
        volume: Conv3dConfig::new([4, 6], [3, 3, 3]).init(device),
        // The weight is [8, 6/2, 2, 2].
        up: ConvTranspose2dConfig::new([8, 6], [2, 2])
            .with_stride([2, 2])
            .with_groups(2)
            .init(device),
        up_line: ConvTranspose1dConfig::new([4, 6], 2).with_stride(2).init(device),
        up_volume: ConvTranspose3dConfig::new([4, 6], [2; 3]).with_stride([2; 3]).init(device),
        up_without_bias: ConvTranspose2dConfig::new([8, 6], [2, 2])
            .with_stride([2, 2])
            .with_bias(false)
            .init(device),
    }
}

/// A weight of a convolution is used once for each position of the output, and a weight of a
/// transposed convolution once for each position of the input.
#[test]
fn multiply_accumulates_of_stock_layers_are_counted() {
    let model = stock(&Device::flex());
    let summary = summarize(&model, &StateDict::of(&model));
    let macs: Vec<(&str, u64)> =
        summary.layers.iter().map(|layer| (layer.name.as_str(), layer.macs)).collect();
    let expected = [
        ("depthwise", 4 * 9 * 6 * 6),
        ("line", 6 * 4 * 3 * 6),
        ("volume", 6 * 4 * 27 * 6 * 6 * 6),
        ("up", 8 * 3 * 4 * 8 * 8),
        ("up_line", 4 * 6 * 2 * 8),
        ("up_volume", 4 * 6 * 8 * 8 * 8 * 8),
        ("up_without_bias", 8 * 6 * 4 * 8 * 8),
    ];
    assert_eq!(macs, expected);
    assert_eq!(summary.macs, expected.iter().map(|(_, macs)| macs).sum::<u64>());
    let text = summary.to_string();
    for (layer, output) in [
        ("depthwise", "4x6x6"),
        ("line", "6x6"),
        ("volume", "6x6x6x6"),
        ("up", "6x16x16"),
        ("up_line", "6x16"),
        ("up_volume", "6x16x16x16"),
        ("up_without_bias", "?x16x16"),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{layer} "))).unwrap();
        assert!(line.split_whitespace().any(|word| word == output), "{output}: {line}");
    }
}

/// The side of the output alone does not tell the positions of a transposed convolution's input.
#[test]
fn multiply_accumulates_are_not_guessed() {
    #[derive(Module, Debug)]
    struct Up {
        up: ConvTranspose2d,
    }
    impl QuantizedModule for Up {
        fn layer_shapes(&self) -> Vec<LayerShape> {
            let layers = stock_layers(self).into_iter();
            layers.map(|layer| LayerShape { output_size: Some(16), ..layer }).collect()
        }
    }
    let model = Up { up: ConvTranspose2dConfig::new([8, 6], [2, 2]).init(&Device::flex()) };
    let text = summarize(&model, &StateDict::of(&model)).to_string();
    assert!(text.contains("6x16x16") && text.contains(", ? MACs, "), "{text}");
}
