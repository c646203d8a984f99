//! What single layers become, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use burn::{
    module::Param,
    tensor::{Device, Tensor, TensorData},
};
use quant_core::{
    Capability, Levels, Method, OwnMethod, Quantizer, QuantizerConfig, Range, Role, Site,
    Staircase, register,
};
use quant_export::{Became, Lowering, Options, Served, input};
use quant_infer::model::{Input, Model, Op, Quantizer as Thresholds};
use quant_nn::layers::{
    LayerQuantizers,
    conv::{QuantConv2d, QuantConv2dConfig},
    eltwise::QuantAdd,
    linear::QuantLinearConfig,
};

fn options(channels: usize, size: [usize; 2]) -> Options {
    let input =
        Input { size, shorter_side: None, scale: vec![1.0; channels], shift: vec![0.0; channels] };
    Options::new("test", input)
}

fn quantizer(method: Method, role: Role, levels: usize) -> QuantizerConfig {
    QuantizerConfig::new(method, role, Levels::new(levels).unwrap())
}

/// The thresholds and values that a quantizer of one channel becomes.
fn thresholds(quantizer: &Quantizer) -> Thresholds {
    let mut lowering = Lowering::new(options(1, [1, 1]), &Device::flex());
    lowering.quantize("test", quantizer, 0).unwrap();
    let lowered = lowering.finish().unwrap();
    match &lowered.model.nodes[1].op {
        Op::Quantize(quantizer) => (**quantizer).clone(),
        op => panic!("{op:?}"),
    }
}

fn init(config: &QuantizerConfig) -> Quantizer {
    config.init(&Site::activation("test", 1), &Device::flex()).unwrap()
}

#[test]
fn a_threshold_is_the_smallest_number_of_the_next_code() {
    let mut quantizer = init(&quantizer(Method::Lsq, Role::Activation, 4));
    for clip in [0.7, -0.7, 1e-30, 3.3e5, 0.0] {
        assert!(quantizer.set_learned("clip_val", &[clip]));
        let lowered = thresholds(&quantizer);
        for (index, threshold) in lowered.thresholds.iter().enumerate() {
            let codes =
                quantizer.codes_by_group(&[threshold.next_down(), *threshold], &Device::flex());
            assert_eq!(codes, [index as u8, index as u8 + 1], "{clip}: {threshold}");
        }
        let ends = [f32::NEG_INFINITY, -0.0, 0.0, f32::INFINITY];
        let codes = quantizer.codes_by_group(&ends, &Device::flex());
        assert_eq!(ends.map(|x| lowered.code_of(0, x)).to_vec(), codes);
    }
}

#[test]
fn a_sign_changes_at_minus_zero() {
    let lowered = thresholds(&init(&quantizer(Method::XNOR, Role::Activation, 2)));
    assert_eq!(lowered.thresholds, [0.0]);
    assert_eq!([-0.0, 0.0, -f32::from_bits(1)].map(|x| lowered.code_of(0, x)), [1, 1, 0]);
}

#[test]
fn values_that_descend_are_negated_twice() {
    let mut n2uq = init(&quantizer(Method::N2uq, Role::Activation, 4));
    assert!(n2uq.set_learned("scale", &[-0.5]));
    let mut lowering = Lowering::new(options(1, [1, 3]), &Device::flex());
    let x = lowering.quantize("test", &n2uq, 0).unwrap();
    lowering.push("scores", Op::Flatten, [x]);
    let lowered = lowering.finish().unwrap();
    let x = Tensor::<4>::from_data([[[[0.0f32, 0.4, 9.0]]]], &Device::flex());
    let served = Served::new(&lowered.model, &Device::flex()).unwrap().forward(x.clone());
    let usual = n2uq.forward(x).into_data().iter::<f32>().collect::<Vec<_>>();
    assert_eq!(served.into_data().iter::<f32>().collect::<Vec<_>>(), usual);
    assert_eq!(usual, [0.0, -0.5, -1.5]);
}

/// Two levels below and two above a learned number.
#[derive(Debug)]
struct Uneven;

impl OwnMethod for Uneven {
    fn name(&self) -> &'static str {
        "uneven-of-the-test"
    }

    fn capability(&self, role: Role, _range: Range) -> Option<Capability> {
        Some(Capability::base(role))
    }

    fn forward(&self, x: Tensor<3>, _: &[Tensor<3>], _: &QuantizerConfig) -> Tensor<3> {
        x
    }

    fn staircase(&self, _: &[f32], _: &QuantizerConfig) -> Staircase {
        Staircase::new(vec![-1.7, -0.3, 0.4, 2.9], vec![-0.9, 0.1, 1.25])
    }
}

#[test]
fn a_method_of_the_program_itself_is_lowered() {
    let method = register(Uneven).unwrap();
    let lowered = thresholds(&init(&quantizer(method, Role::Activation, 4)));
    assert_eq!(lowered.values, [-1.7, -0.3, 0.4, 2.9]);
    // An element on a threshold takes the value below it.
    assert_eq!(lowered.thresholds, [-0.9f32, 0.1, 1.25].map(f32::next_up));
}

fn conv(quantizers: LayerQuantizers) -> QuantConv2d {
    let config = QuantConv2dConfig { quantizers, ..QuantConv2dConfig::new([3, 2], 1, 1) };
    config.init("conv", &Device::flex()).unwrap()
}

fn lowered(conv: &QuantConv2d, options: Options) -> (Model, quant_export::Explained) {
    let mut lowering = Lowering::new(options, &Device::flex());
    let x = lowering.conv("conv", conv, 0).unwrap();
    lowering.push("scores", Op::GlobalPool, [x]);
    let lowered = lowering.finish().unwrap();
    (lowered.model, lowered.explanation[0].clone())
}

#[test]
fn a_first_layer_reads_the_bytes_of_the_image() {
    let weight = Some(quantizer(Method::Lsq, Role::Weight, 256));
    let conv = conv(LayerQuantizers { weight, ..LayerQuantizers::default() });
    for (mean, terms) in [([0.5; 3], 1), ([0.485, 0.456, 0.406], 2)] {
        let options = Options::new("test", input(4, mean, [0.25, 0.24, 0.23]));
        let (model, explained) = lowered(&conv, options);
        assert_eq!(explained.became, Became::Integers { sums: 3 * terms });
        assert_eq!((explained.activation_bits, explained.weight_bits), (8, 8));
        let Op::Conv(conv) = &model.nodes[1].op else { panic!("a convolution") };
        let quantizer = conv.quantizer.as_ref().unwrap();
        assert_eq!((quantizer.groups, quantizer.terms.as_ref().unwrap().0.len()), (3, terms));
    }
}

#[test]
fn quantizers_that_are_not_enabled_are_left_out() {
    let quantizers = LayerQuantizers {
        activation: Some(quantizer(Method::Lsq, Role::Activation, 4)),
        weight: Some(quantizer(Method::Lsq, Role::Weight, 4)),
        output: Some(quantizer(Method::Lsq, Role::Output, 4)),
    };
    let mut conv = conv(quantizers);
    let images = || options(3, [2, 2]);
    let (model, explained) = lowered(&conv, images());
    assert_eq!(explained.became, Became::Integers { sums: 1 });
    assert_eq!(model.nodes.len(), 4);
    conv.quant_activation.iter_mut().for_each(|quantizer| quantizer.set_enabled(false));
    let (_, explained) = lowered(&conv, images());
    // The weight alone: the layer reads the image, whose bytes are its codes.
    assert_eq!((explained.activation_bits, explained.weight_bits), (8, 2));
    let weight = conv.quant_weight.iter_mut().chain(&mut conv.quant_output);
    weight.for_each(|quantizer| quantizer.set_enabled(false));
    let (model, explained) = lowered(&conv, images());
    assert_eq!(explained.reason.as_deref(), Some("neither its input nor its weight is quantized"));
    assert_eq!(model.nodes.len(), 3);
}

#[test]
fn both_summands_of_a_quantized_addition_are_quantized() {
    let config = quantizer(Method::Lsq, Role::Output, 4);
    let add = QuantAdd::new(Some(&config), "add", 1, &Device::flex()).unwrap();
    let mut lowering = Lowering::new(options(1, [1, 2]), &Device::flex());
    let relu = lowering.push("relu", Op::Relu, [0]);
    let x = lowering.quant_add("add", &add, [0, relu]).unwrap();
    lowering.push("scores", Op::Flatten, [x]);
    let lowered = lowering.finish().unwrap();
    let x = Tensor::<4>::from_data([[[[-0.4f32, 0.6]]]], &Device::flex());
    let served = Served::new(&lowered.model, &Device::flex()).unwrap().forward(x.clone());
    let usual = add.forward(x.clone(), x.clamp_min(0.0));
    assert_eq!(
        served.into_data().iter::<f32>().collect::<Vec<_>>(),
        usual.into_data().iter::<f32>().collect::<Vec<_>>()
    );
}

#[test]
fn a_layer_whose_sums_may_exceed_32_bits_is_refused_by_name() {
    let inputs = 40_000;
    let config = QuantLinearConfig {
        quantizers: LayerQuantizers {
            activation: Some(quantizer(Method::Lsq, Role::Activation, 256)),
            weight: Some(quantizer(Method::Lsq, Role::Weight, 256)),
            output: None,
        },
        ..QuantLinearConfig::new([inputs, 2])
    };
    let device = Device::flex();
    let mut linear = config.init("fc", &device).unwrap();
    linear.weight = Param::from_tensor(Tensor::full([2, inputs], 1.0, &device));
    let mut lowering = Lowering::new(options(inputs, [1, 1]), &device);
    lowering.linear("fc", &linear, 0).unwrap();
    let text = lowering.finish().unwrap_err().to_string();
    assert!(text.contains("(fc)") && text.contains("exceeds 32 bits"), "{text}");
}

#[test]
fn sums_beyond_24_bits_are_exact() {
    let (inputs, device) = (5_000, Device::flex());
    let config = QuantLinearConfig {
        quantizers: LayerQuantizers {
            activation: Some(quantizer(Method::Lsq, Role::Activation, 256)),
            weight: Some(quantizer(Method::Lsq, Role::Weight, 256)),
            output: None,
        },
        ..QuantLinearConfig::new([inputs, 2])
    };
    let linear = config.init("fc", &device).unwrap();
    let mut lowering = Lowering::new(options(inputs, [1, 1]), &device);
    lowering.linear("fc", &linear, 0).unwrap();
    let model = lowering.finish().unwrap().model;
    let image: Vec<f32> = (0..inputs).map(|index| (index % 256) as f32 / 255.0).collect();
    let x = TensorData::new(image.clone(), [1, inputs, 1, 1]);
    let served = Served::new(&model, &device).unwrap().forward(Tensor::from_data(x, &device));
    let engine = quant_infer::Network::new(&model).unwrap();
    let engine = engine.run(&quant_infer::Image::floats(&image, [1, 1])).unwrap();
    assert_eq!(served.into_data().iter::<f32>().collect::<Vec<_>>(), engine);
}
