//! Every method, range, granularity and number of levels, with random parameters: quantizers alone,
//! and convolutions with them.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "common/engine.rs"]
mod engine;

use burn::tensor::{Device, Tensor, TensorData, ops::PadMode};
use engine::check_engine;
use proptest::prelude::*;
use quant_core::{
    GradientScale, GradientScaleRule, Granularity, Levels, Method, Normalization, OptionValue,
    Quantizer, QuantizerConfig, Range, Role, Site,
};
use quant_export::{LowerError, Lowered, Lowering, Options, Served};
use quant_infer::{
    Image,
    model::{Dynamic, Input, Op},
    reference,
};
use quant_kernels::simd::InstructionSet;
use quant_nn::layers::{
    LayerQuantizers,
    conv::{QuantConv2d, QuantConv2dConfig},
};

const CHANNELS: usize = 4;
const SIZE: [usize; 2] = [5, 4];

fn options() -> Options {
    let input = Input {
        size: SIZE,
        shorter_side: None,
        scale: vec![0.01; CHANNELS],
        shift: vec![-1.2; CHANNELS],
    };
    Options::new("test", input)
}

/// A valid configuration for a role: any configuration, replaced by the nearest valid one.
fn configs(role: Role) -> impl Strategy<Value = QuantizerConfig> {
    let names: Vec<&'static str> = Method::ALL.iter().map(Method::name).collect();
    let choices = (
        prop::sample::select(names),
        prop_oneof![2usize..=9, Just(16), Just(64), 10usize..=256],
        any::<bool>(),
        prop::sample::select(vec![
            Granularity::PerTensor,
            Granularity::PerChannel,
            Granularity::Groups(2),
            Granularity::GroupsOf(2),
            Granularity::GroupsOf(4),
        ]),
        prop::sample::select(vec![
            Normalization::None,
            Normalization::VarMean,
            Normalization::Mean,
            Normalization::Var,
            Normalization::MeanVar,
        ]),
        prop::sample::select(vec!["none", "over-channels", "over-resolution"]),
        prop::array::uniform4(any::<bool>()),
        prop_oneof![Just(1.0), 0.3..2.0],
    );
    choices.prop_map(move |choices| {
        let (name, levels, signed, granularity, normalization, sign_scale, flags, boundary) =
            choices;
        let [gamma, shift, closed_form, restore_normalization] = flags;
        let mut method = Method::named(name).unwrap();
        for (option, value) in [
            ("sign_scale", OptionValue::Text(sign_scale.into())),
            ("shift", OptionValue::Flag(shift)),
            ("closed_form", OptionValue::Flag(closed_form)),
        ] {
            // A method has some of these options, or none.
            method.set_option(option, &value);
        }
        QuantizerConfig {
            range: if signed { Range::Signed } else { Range::Unsigned },
            granularity,
            normalization,
            gamma,
            restore_normalization,
            boundary,
            gradient_scale: GradientScale {
                rule: GradientScaleRule::None,
                ..GradientScale::default()
            },
            ..QuantizerConfig::new(method, role, Levels::new(levels).unwrap())
        }
        .nearest()
    })
}

fn numbers(count: usize) -> impl Strategy<Value = Vec<f32>> {
    let number = prop_oneof![
        8 => -2.0f32..2.0,
        1 => prop::sample::select(vec![0.0f32, -0.0, 1.0, 1e-30, -1e-3, 1e6, f32::MIN]),
    ];
    prop::collection::vec(number, count)
}

/// Random learned parameters and running values: of both signs, and zeros.
fn randomize(quantizer: &mut Quantizer, seeds: &[f32]) {
    let mut seeds = seeds.iter().cycle();
    let mut some = |count: usize| -> Vec<f32> {
        seeds.by_ref().take(count).map(|seed| if seed.abs() < 0.05 { 0.0 } else { *seed }).collect()
    };
    let learned: Vec<(&'static str, usize)> = (quantizer.learned().iter())
        .map(|learned| (learned.name, learned.value.lazy_shape().num_elements()))
        .collect();
    for (name, count) in learned {
        assert!(quantizer.set_learned(name, &some(count)));
    }
    for (name, value) in quantizer.running() {
        let count = value.shape().num_elements();
        assert!(quantizer.set_running(name, &some(count)));
    }
}

fn seeds() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.5f32..1.5, 13)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    // -0 and 0 are one value of a code.
    numbers.iter().map(|x| (x + 0.0).to_bits()).collect()
}

/// The scores by the served evaluation, which are those of the plain executor and of the engine to
/// the bit.
fn scores(lowered: &Lowered, image: &[f32]) -> Vec<f32> {
    let device = Device::flex();
    let shape = [1, CHANNELS, SIZE[0], SIZE[1]];
    let x = Tensor::from_data(TensorData::new(image.to_vec(), shape), &device);
    let (scores, codes) = Served::new(&lowered.model, &device).unwrap().forward_codes(x);
    let image = Image::floats(image, SIZE);
    let trace = reference::run(&lowered.model, &image).unwrap();
    let traced = trace.codes.iter().enumerate().filter(|(_, codes)| codes.is_some());
    assert_eq!(traced.clone().count(), codes.len());
    for ((node, plain), own) in traced.zip(&codes) {
        assert_eq!((node, plain.as_ref()), (own.node, Some(&own.codes)));
    }
    let scores = host(scores);
    let exact = |scores: &[f32]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(exact(&scores), exact(trace.scores()), "{scores:?} {:?}", trace.scores());
    let sets = InstructionSet::available();
    check_engine(&lowered.model, (&image, 0), (&scores, &codes), sets)
        .unwrap_or_else(|error| panic!("{error}\n{:?}", lowered.model));
    scores
}

/// Whether a number that depends on the whole image decides on the codes.
fn divides_by_image(lowered: &Lowered) -> bool {
    lowered.model.nodes.iter().any(|node| {
        let dynamic = match &node.op {
            Op::Conv(conv) => conv.quantizer.as_ref().map(|quantizer| quantizer.dynamic),
            Op::Quantize(quantizer) => Some(quantizer.dynamic),
            _ => None,
        };
        matches!(dynamic, Some(Dynamic::Mean | Dynamic::Deviation))
    })
}

fn check_quantizer(
    config: &QuantizerConfig,
    seeds: &[f32],
    image: &[f32],
) -> Result<(), TestCaseError> {
    let device = Device::flex();
    let mut quantizer = config.init(&Site::activation("test", CHANNELS), &device).unwrap();
    randomize(&mut quantizer, seeds);
    let mut lowering = Lowering::new(options(), &device);
    let x = match lowering.quantize("test", &quantizer, 0) {
        Ok(x) => x,
        // A value that overflows.
        Err(LowerError::Values { .. }) => return Err(TestCaseError::reject("not finite")),
        Err(error) => panic!("{error}: {config:?}"),
    };
    lowering.push("scores", Op::Flatten, [x]);
    let lowered = lowering.finish().unwrap();
    let served = scores(&lowered, image);
    let shape = [1, CHANNELS, SIZE[0], SIZE[1]];
    let x: Tensor<4> = Tensor::from_data(TensorData::new(image.to_vec(), shape), &device);
    let usual = host(quantizer.forward(x));
    let (_, image_scale) = quantizer.without_image_scale();
    if image_scale.is_none() {
        prop_assert_eq!(bits(&served), bits(&usual), "{:?}", lowered.model.nodes);
    } else {
        let largest = usual.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let far = |(a, b): &(&f32, &f32)| (*a - *b).abs() > 1e-4 * largest + 1e-30;
        let far = served.iter().zip(&usual).filter(far).count();
        prop_assert!(far <= 2, "{served:?} are not {usual:?}: {config:?}");
    }
    Ok(())
}

/// A convolution of `[out, dilation, groups, stride, padding]`.
fn conv(shape: [usize; 5], after: bool, quantizers: LayerQuantizers) -> QuantConv2d {
    let [outputs, dilation, groups, stride, padding] = shape;
    let config = QuantConv2dConfig {
        stride,
        padding,
        dilation,
        groups,
        bias: true,
        padding_after_quant: after,
        quantizers,
        ..QuantConv2dConfig::new([CHANNELS, outputs], 2, 1)
    };
    config.init("conv", &Device::flex()).unwrap()
}

fn check_conv(
    mut conv: QuantConv2d,
    seeds: &[f32],
    weights: &[f32],
    image: &[f32],
) -> Result<Option<Lowered>, TestCaseError> {
    let device = Device::flex();
    let shape = conv.weight.lazy_shape();
    let count = shape.num_elements();
    let values: Vec<f32> = weights.iter().copied().cycle().take(count).collect();
    conv.weight = burn::module::Param::from_tensor(
        Tensor::<1>::from_floats(values.as_slice(), &device).reshape(shape),
    );
    let quantizers = [&mut conv.quant_activation, &mut conv.quant_weight, &mut conv.quant_output];
    quantizers.into_iter().flatten().for_each(|quantizer| randomize(quantizer, seeds));
    let mut lowering = Lowering::new(options(), &device);
    let x = match lowering.conv("conv", &conv, 0) {
        Ok(x) => x,
        Err(LowerError::Values { .. }) => return Ok(None),
        Err(error) => panic!("{error}"),
    };
    lowering.push("scores", Op::Flatten, [x]);
    let lowered = lowering.finish().unwrap();
    let served = scores(&lowered, image);
    let shape = [1, CHANNELS, SIZE[0], SIZE[1]];
    let x: Tensor<4> = Tensor::from_data(TensorData::new(image.to_vec(), shape), &device);
    let padded = x.clone().pad((1, 1, 1, 1), PadMode::Constant(0.0));
    let usual = host(conv.forward(x));
    prop_assert_eq!(served.len(), usual.len());
    if !divides_by_image(&lowered) && conv.quant_output.is_none() {
        // Sums may cancel, so the error is compared with the products that are added up.
        let largest = |x: Tensor<4>| host(x).iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let input = match &conv.quant_activation {
            Some(quantizer) => quantizer.forward(padded.clone()),
            None => padded.clone(),
        };
        let products = largest(input) * largest(conv.quantized_weight()) * 16.0;
        let bias = conv
            .bias
            .as_ref()
            .map_or(0.0, |bias| host(bias.val()).iter().fold(0.0f32, |most, x| most.max(x.abs())));
        for (a, b) in served.iter().zip(&usual) {
            // Products of two scales of 0, which count as the smallest number, underflow.
            let is_close = (a - b).abs() <= 2e-6 * (products + bias) + 1e-30;
            prop_assert!(is_close, "{served:?} are not {usual:?}");
        }
    }
    Ok(Some(lowered))
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn a_lowered_quantizer_has_the_values_of_the_quantizer(
        config in prop_oneof![configs(Role::Activation), configs(Role::Output)],
        seeds in seeds(),
        image in numbers(CHANNELS * SIZE[0] * SIZE[1]),
    ) {
        check_quantizer(&config, &seeds, &image)?;
    }
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn a_lowered_convolution_has_the_sums_of_the_convolution(
        activation in configs(Role::Activation),
        weight in configs(Role::Weight),
        output in prop::option::weighted(0.2, configs(Role::Output)),
        seeds in seeds(),
        weights in prop::collection::vec(-1.0f32..1.0, 37),
        bytes in prop::collection::vec(any::<u8>(), CHANNELS * SIZE[0] * SIZE[1]),
        shape in (
            1usize..=2,
            1usize..=2,
            prop::sample::select(vec![1usize, 2, 4]),
            1usize..=2,
            0usize..=1,
        ),
        after in any::<bool>(),
        kept in (prop::bool::weighted(0.9), prop::bool::weighted(0.9)),
    ) {
        let (times, dilation, groups, stride, padding) = shape;
        let quantizers = LayerQuantizers {
            activation: kept.0.then_some(activation),
            weight: kept.1.then_some(weight),
            output,
        };
        let conv = conv([4 * times, dilation, groups, stride, padding], after, quantizers);
        // A layer without a quantizer of its input reads the bytes of the image.
        let image: Vec<f32> = bytes.iter().map(|byte| options().input.number(0, *byte)).collect();
        check_conv(conv, &seeds, &weights, &image)?;
    }
}

/// What every method with its usual options becomes, at 2 bits or what is nearest.
#[test]
fn usual_methods_compute_in_integers() {
    for method in Method::ALL {
        let of = |role| QuantizerConfig::new(*method, role, Levels::new(4).unwrap()).nearest();
        let quantizers = LayerQuantizers {
            activation: Some(of(Role::Activation)),
            weight: Some(of(Role::Weight)),
            output: None,
        };
        let conv = conv([4, 1, 1, 1, 1], false, quantizers);
        let weights: Vec<f32> = (0..37).map(|index| (index as f32 * 1.7).sin()).collect();
        let image: Vec<f32> = (0..80).map(|index| (index as f32 * 0.9).cos()).collect();
        let lowered = check_conv(conv, &[0.7, 0.9, 1.2], &weights, &image).unwrap().unwrap();
        assert_eq!(lowered.explanation[0].reason, None, "{method}");
    }
}
