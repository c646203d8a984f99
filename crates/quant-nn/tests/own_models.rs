//! Models of a user's own, made of Burn's layers: what is trained in them, and what they cost.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::HashSet;

use burn::{
    module::{Module, Param},
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use quant_core::{Levels, Method, Quantizer, QuantizerConfig, Role, Site, WeightQuantization};
use quant_nn::{Classifier, QuantizedModule, StateDict, summarize};

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
    quantizer.renew(quantizer.learned()[0].name);
    let learned = quantizer.train();
    assert!(learned.learned()[0].value.is_require_grad());
    let names: HashSet<&str> = learned.learned().iter().map(|found| found.name).collect();
    assert_eq!(names.len(), 1);
}
