//! What single layers become, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use burn::{
    module::{Module, Param},
    nn::{
        BatchNormConfig, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Distribution, Tensor, TensorData},
};
use quant_core::{
    Capability, Granularity, Levels, Method, OwnMethod, Quantizer, QuantizerConfig, Range, Role,
    Site, Staircase, quantize_weights, register,
};
use quant_export::{Became, Lowering, Options, Served, compare, input};
use quant_infer::model::{Input, Model, Op, Quantizer as Thresholds, Weight};
use quant_nn::{
    Classifier, QuantizedModule,
    layers::{
        LayerQuantizers,
        conv::{QuantConv2d, QuantConv2dConfig},
        eltwise::QuantAdd,
        linear::QuantLinearConfig,
    },
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

/// Values that neither rise nor fall.
#[derive(Debug)]
struct Unordered;

impl OwnMethod for Unordered {
    fn name(&self) -> &'static str {
        "unordered-of-the-test"
    }

    fn capability(&self, role: Role, _range: Range) -> Option<Capability> {
        Some(Capability::base(role))
    }

    fn forward(&self, x: Tensor<3>, _: &[Tensor<3>], _: &QuantizerConfig) -> Tensor<3> {
        x
    }

    fn staircase(&self, _: &[f32], _: &QuantizerConfig) -> Staircase {
        Staircase::new(vec![0.5, 2.0, -1.0], vec![0.0, 1.0])
    }
}

#[test]
fn values_without_an_order_are_refused() {
    let method = register(Unordered).unwrap();
    let quantizer = init(&quantizer(method, Role::Activation, 3));
    let mut lowering = Lowering::new(options(1, [1, 1]), &Device::flex());
    let error = lowering.quantize("layer1.conv", &quantizer, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer1.conv: its quantizer has the values [0.5, 2.0, -1.0]; only finite values in \
         ascending or descending order can be packed"
    );
}

/// An own network: two layers whose input one quantizer quantizes, each its own value, and two that
/// read one value; an addition; and a quantizer of an output.
#[derive(Module, Debug)]
struct Shared {
    before: Quantizer,
    first: QuantConv2d,
    second: QuantConv2d,
    third: QuantConv2d,
    add: QuantAdd,
}

impl QuantizedModule for Shared {}

impl Classifier for Shared {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.first.forward(self.before.forward(images));
        let quantized = self.before.forward(x);
        let sum = self.second.forward(quantized.clone()) + self.third.forward(quantized);
        let y = self.add.forward(sum.clone(), sum.clamp_min(0.0));
        y.mean_dim(3).mean_dim(2).flatten(1, 3)
    }
}

#[test]
fn codes_of_outputs_additions_and_shared_quantizers_are_compared() {
    let device = Device::flex();
    let init_conv = |name: &str, output: Option<QuantizerConfig>| {
        let quantizers = LayerQuantizers { output, ..LayerQuantizers::default() };
        let config = QuantConv2dConfig { quantizers, ..QuantConv2dConfig::new([3, 3], 1, 1) };
        config.init(name, &device).unwrap()
    };
    let output = quantizer(Method::Lsq, Role::Output, 4);
    let network = Shared {
        before: quantizer(Method::Lsq, Role::Activation, 4)
            .init(&Site::activation("before", 3), &device)
            .unwrap(),
        first: init_conv("first", Some(output.clone())),
        second: init_conv("second", None),
        third: init_conv("third", None),
        add: QuantAdd::new(Some(&output), "add", 3, &device).unwrap(),
    };
    let mut lowering = Lowering::new(options(3, [4, 4]), &device);
    let x = lowering.quantize("first.input", &network.before, 0).unwrap();
    let x = lowering.conv("first", &network.first, x).unwrap();
    let x = lowering.quantize("input", &network.before, x).unwrap();
    let second = lowering.conv("second", &network.second, x).unwrap();
    let third = lowering.conv("third", &network.third, x).unwrap();
    let sum = lowering.push("sum", Op::Add, [second, third]);
    let relu = lowering.push("relu", Op::Relu, [sum]);
    let y = lowering.quant_add("add", &network.add, [sum, relu]).unwrap();
    lowering.push("scores", Op::GlobalPool, [y]);
    let lowered = lowering.finish().unwrap();
    let served = Served::new(&lowered.model, &device).unwrap();
    let images = Tensor::<4>::random([2, 3, 4, 4], Distribution::Uniform(-1.0, 1.0), &device);
    let compared = compare(&network, &lowered, &served, images).comparison;
    let names: Vec<&str> = compared.layers.iter().map(|layer| &layer.layer[..]).collect();
    assert_eq!(names, ["first.quant_output", "input", "add.quant_output"]);
    assert!(compared.layers.iter().all(|layer| layer.codes == 2 * 3 * 16), "{compared}");
    // What one quantizer quantized before its last use is named.
    assert_eq!(compared.not_compared, ["first.input", "add.quant_output"]);
    let text = compared.to_string();
    assert!(text.contains("not compared: first.input, add.quant_output"), "{text}");
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

/// A weight quantizer with a group for each output channel, or for each of this many parts.
fn weights(granularity: Granularity, levels: usize) -> QuantizerConfig {
    QuantizerConfig { granularity, ..quantizer(Method::Lsq, Role::Weight, levels) }
}

/// The weight of the only convolution of a model, decoded.
fn decoded(model: &Model) -> Vec<f32> {
    let found = model.nodes.iter().find_map(|node| match &node.op {
        Op::Conv(conv) => Some(conv.weight.clone()),
        _ => None,
    });
    match found.unwrap() {
        Weight::Float(values) => values,
        Weight::Codes(codes) => {
            let group = |index: usize| index / codes.run % codes.groups;
            let of = |(index, code): (usize, &u8)| {
                codes.values[group(index) * codes.levels + usize::from(*code)]
            };
            codes.codes.iter().enumerate().map(of).collect()
        }
    }
}

#[test]
fn a_linear_layer_of_burn_has_the_weights_that_burn_multiplies_with() {
    let device = Device::flex();
    let plain = LinearConfig::new(6, 4).init(&device);
    let of =
        |granularity| quantize_weights(plain.clone(), &weights(granularity, 4), |_| true).unwrap();
    let layers = [
        plain.clone(),
        of(Granularity::PerTensor),
        of(Granularity::PerChannel),
        of(Granularity::Groups(2)),
    ];
    for linear in layers {
        let mut lowering = Lowering::new(options(6, [1, 1]), &device);
        lowering.burn_linear("fc", &linear, None, 0).unwrap();
        let model = lowering.finish().unwrap().model;
        let expected: Vec<f32> = linear.weight.val().transpose().into_data().iter().collect();
        assert_eq!(decoded(&model), expected);
        let x = Tensor::<2>::random([3, 6], Distribution::Normal(0.0, 1.0), &device);
        let served = Served::new(&model, &device).unwrap().forward(x.clone().reshape([3, 6, 1, 1]));
        let usual = linear.forward(x);
        assert!((served - usual).abs().max().into_scalar::<f32>() < 1e-5);
    }
}

#[test]
fn convolutions_and_batch_norms_of_burn_compute_as_in_burn() {
    let device = Device::flex();
    let config = Conv2dConfig::new([4, 6], [3, 3]).with_groups(2).with_bias(true);
    let conv = config.with_padding(PaddingConfig2d::Same).init(&device);
    let conv = quantize_weights(conv, &weights(Granularity::PerChannel, 4), |_| true).unwrap();
    let mut norm = BatchNormConfig::new(6).with_epsilon(0.1).init(&device);
    let random = |low, high| Tensor::<1>::random([6], Distribution::Uniform(low, high), &device);
    norm.gamma = Param::from_tensor(random(0.5, 2.0));
    norm.beta = Param::from_tensor(random(-1.0, 1.0));
    norm.running_mean.update(random(-1.0, 1.0));
    norm.running_var.update(random(0.1, 2.0));
    let config = quantizer(Method::Lsq, Role::Activation, 16);
    let before = config.init(&Site::activation("before", 4), &device).unwrap();

    let mut lowering = Lowering::new(options(4, [5, 5]), &device);
    let x = lowering.burn_conv("conv", &conv, Some(&before), 0).unwrap();
    let x = lowering.burn_norm("norm", &norm, x);
    lowering.push("scores", Op::GlobalPool, [x]);
    let lowered = lowering.finish().unwrap();
    assert_eq!(lowered.explanation[0].became, Became::Integers { sums: 1 });
    assert_eq!(lowered.quantizers, [(1, "before".to_owned())]);
    let x = Tensor::<4>::random([2, 4, 5, 5], Distribution::Uniform(0.0, 1.0), &device);
    let served = Served::new(&lowered.model, &device).unwrap().forward(x.clone());
    let usual = norm.forward(conv.forward(before.forward(x)));
    let usual = usual.mean_dim(3).mean_dim(2).reshape([2, 6]);
    assert!((served - usual).abs().max().into_scalar::<f32>() < 1e-5);
}

#[test]
fn a_padding_that_differs_between_opposite_sides_is_refused() {
    let device = Device::flex();
    let refused = |conv: Conv2d| {
        let mut lowering = Lowering::new(options(3, [4, 4]), &device);
        lowering.burn_conv("conv", &conv, None, 0).unwrap_err().to_string()
    };
    let config = |kernel| Conv2dConfig::new([3, 2], [kernel; 2]);
    let text = refused(config(3).with_padding(PaddingConfig2d::Explicit(0, 1, 1, 1)).init(&device));
    assert!(text.starts_with("conv: its padding is 0 at the top"), "{text}");
    let same = |kernel| config(kernel).with_padding(PaddingConfig2d::Same);
    let text = refused(same(2).init(&device));
    assert!(text.contains("its kernel 2x2 and its stride 1x1"), "{text}");
    let text = refused(same(3).with_stride([2, 2]).init(&device));
    assert!(text.contains("its kernel 3x3 and its stride 2x2"), "{text}");
}

#[test]
fn a_node_that_reads_one_that_does_not_come_before_it_is_refused() {
    for input in [1, 9] {
        let mut lowering = Lowering::new(options(3, [4, 4]), &Device::flex());
        lowering.conv("conv", &conv(LayerQuantizers::default()), input).unwrap();
        let text = lowering.finish().unwrap_err().to_string();
        assert!(text.starts_with("conv: it is node 1 and reads node"), "{text}");
    }
}
