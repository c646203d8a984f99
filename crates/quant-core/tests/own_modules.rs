//! Quantizers in Burn modules of other crates: they are found by path, put on weights, calibrated
//! and changed.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use burn::{
    module::{Module, ModuleVisitor, Param},
    nn::{
        Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
        conv::{
            Conv2d, Conv2dConfig, Conv3dConfig, ConvTranspose2d, ConvTranspose2dConfig,
            ConvTranspose3dConfig,
        },
    },
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Int, Tensor},
};
use quant_core::{
    Calibration, Granularity, Levels, Method, Normalization, Quantizer, QuantizerConfig,
    QuantizerError, Role, Site, WeightQuantization, calibrate, change_quantizers, quantize_weights,
    quantized_weights, quantizers, training_loss, weight_codes,
};

#[derive(Module, Debug)]
enum Branch {
    Conv(Conv2d),
    Fully(Linear),
}

#[derive(Module, Debug)]
struct Net {
    table: Embedding,
    norm: LayerNorm,
    depthwise: Conv2d,
    grouped: Conv2d,
    up: ConvTranspose2d,
    branches: Vec<Branch>,
    quant: Option<Quantizer>,
    pair: (Quantizer, Linear),
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn lsq(role: Role, bits: u32) -> QuantizerConfig {
    QuantizerConfig::new(Method::Lsq, role, Levels::from_bits(bits).unwrap())
}

fn per_channel(bits: u32) -> QuantizerConfig {
    QuantizerConfig { granularity: Granularity::PerChannel, ..lsq(Role::Weight, bits) }
}

fn net() -> Net {
    let device = &device();
    let activation =
        |channels| lsq(Role::Activation, 2).init(&Site::activation("a", channels), device).unwrap();
    Net {
        table: EmbeddingConfig::new(5, 6).init(device),
        norm: LayerNormConfig::new(6).init(device),
        depthwise: Conv2dConfig::new([6, 6], [3, 3]).with_groups(6).init(device),
        grouped: Conv2dConfig::new([6, 4], [3, 3]).with_groups(2).init(device),
        up: ConvTranspose2dConfig::new([4, 8], [2, 2]).init(device),
        branches: vec![
            Branch::Conv(Conv2dConfig::new([8, 2], [1, 1]).init(device)),
            Branch::Fully(LinearConfig::new(8, 3).init(device)),
        ],
        quant: Some(activation(6)),
        pair: (activation(8), LinearConfig::new(8, 3).init(device)),
    }
}

fn paths(net: &Net) -> Vec<String> {
    quantizers(net).into_iter().map(|found| found.path).collect()
}

const WEIGHTS: [&str; 6] = [
    "depthwise.weight",
    "grouped.weight",
    "up.weight",
    "branches.0.weight",
    "branches.1.weight",
    "pair.1.weight",
];

#[test]
fn quantizers_are_found_in_fields_options_lists_enums_and_on_weights() {
    assert_eq!(paths(&net()), ["quant", "pair.0"]);
    let (net, report) = WeightQuantization::new(per_channel(2)).apply(net()).unwrap();
    let reported: Vec<&str> = report.weights.iter().map(|weight| weight.path.as_str()).collect();
    assert_eq!(reported, WEIGHTS, "neither embeddings nor norms");
    let mut expected: Vec<String> = WEIGHTS.map(|path| format!("{path}.quant_weight")).to_vec();
    expected.insert(5, "quant".into());
    expected.insert(6, "pair.0".into());
    assert_eq!(paths(&net), expected);
    // There is one group for each output channel, which is dimension 1 of transposed and linear
    // weights.
    let groups: Vec<usize> = report.weights.iter().map(|weight| weight.groups).collect();
    assert_eq!(groups, [6, 4, 8, 2, 3, 3]);
}

#[test]
fn weights_take_as_many_values_as_their_bits_allow_in_each_output_channel() {
    let quantization = WeightQuantization::new(per_channel(2)).with("up.weight", per_channel(1));
    let (net, _) = quantization.apply(net()).unwrap();
    let up: Vec<f32> = net.up.weight.val().into_data().iter().collect();
    for channel in 0..8 {
        // The weight is `[in, out, 2, 2]`.
        let of_channel = up.chunks(4).skip(channel).step_by(8).flatten();
        let mut values: Vec<f32> = of_channel.copied().collect();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!(values.len() <= 2, "{values:?}");
    }
    let linear: Vec<f32> = net.pair.1.weight.val().into_data().iter().collect();
    for channel in 0..3 {
        let mut values: Vec<f32> = linear.iter().skip(channel).step_by(3).copied().collect();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!(values.len() <= 4, "{values:?}");
    }
}

#[test]
fn codes_of_weights_decode_to_the_quantized_weights() {
    let (net, _) = WeightQuantization::new(per_channel(3)).apply(net()).unwrap();
    let weights = quantized_weights(&net);
    assert_eq!(weights.len(), WEIGHTS.len());
    let grouped = weights.iter().find(|w| w.reached.layer() == "grouped").unwrap();
    let decoded = grouped.reached.quantizer.codes(grouped.weight.clone()).decode();
    let expected: Vec<f32> = net.grouped.weight.val().into_data().iter().collect();
    assert_eq!(decoded.into_data().iter::<f32>().collect::<Vec<_>>(), expected);
}

/// A transposed convolution and a linear layer have their output channels in the second dimension.
#[test]
fn weights_become_integers_that_decode_to_the_same_bits() {
    let restored = QuantizerConfig {
        normalization: Normalization::VarMean,
        restore_normalization: true,
        ..per_channel(3)
    };
    let apot = QuantizerConfig::new(Method::Apot, Role::Weight, Levels::from_bits(3).unwrap());
    for config in [per_channel(2), restored, apot] {
        let (net, _) = WeightQuantization::new(config).apply(net()).unwrap();
        let all = weight_codes(&net);
        let layers: Vec<&str> = all.iter().map(|weight| weight.layer.as_str()).collect();
        assert!(layers.contains(&"up") && layers.contains(&"depthwise"), "{layers:?}");
        for weight in &all {
            let expected: Vec<f32> = match weight.layer.as_str() {
                "up" => net.up.weight.val().into_data().iter().collect(),
                "depthwise" => net.depthwise.weight.val().into_data().iter().collect(),
                "grouped" => net.grouped.weight.val().into_data().iter().collect(),
                "pair.1" => net.pair.1.weight.val().into_data().iter().collect(),
                _ => continue,
            };
            assert_eq!(weight.decode(), expected, "{}", weight.layer);
            assert_eq!(weight.shape.iter().product::<usize>(), expected.len());
        }
    }
}

#[test]
fn a_second_call_changes_the_bits() {
    let net = quantize_weights(net(), &per_channel(2), |_| true).unwrap();
    let quantization = WeightQuantization::new(per_channel(4)).only(|path| path == "up.weight");
    let (net, report) = quantization.apply(net).unwrap();
    assert_eq!(report.weights.len(), 1);
    assert!(report.left.is_empty());
    let levels: Vec<usize> = quantized_weights(&net)
        .iter()
        .map(|weight| weight.reached.quantizer.config().levels.count())
        .collect();
    assert_eq!(levels, [4, 4, 16, 4, 4, 4]);
    assert!(report.weights[0].calibration.as_ref().unwrap().error_after < 0.05);
}

#[test]
fn what_selects_nothing_or_is_no_weight_quantizer_is_refused() {
    let error = quantize_weights(net(), &per_channel(2), |path| path == "conv").unwrap_err();
    assert!(matches!(error, QuantizerError::NoWeight { wanted: None, .. }));
    assert!(error.to_string().contains("depthwise.weight, grouped.weight"), "{error}");
    let quantization = WeightQuantization::new(per_channel(2)).with("conv9.weight", per_channel(2));
    let error = quantization.apply(net()).unwrap_err().to_string();
    assert!(error.starts_with("no weight conv9.weight"), "{error}");
    let error = quantize_weights(net(), &lsq(Role::Activation, 2), |_| true).unwrap_err();
    assert!(error.to_string().contains("role = activation"), "{error}");
}

#[test]
fn calibration_reaches_activations_and_weights_and_tells_their_paths() {
    let (net, _) = WeightQuantization::new(lsq(Role::Weight, 2)).apply(net()).unwrap();
    let batches = [1.0, 3.0, 2.0];
    let (net, infos) = calibrate(net, Calibration::MinMax, batches, |net, largest| {
        let ids = Tensor::<2, Int>::zeros([2, 4], &Device::flex());
        let _unused = net.norm.forward(net.table.forward(ids));
        let x = Tensor::<4>::full([2, 6, 5, 5], largest, &Device::flex());
        let x = net.quant.as_ref().unwrap().forward(x);
        net.up.forward(net.grouped.forward(net.depthwise.forward(x)))
    });
    let found: Vec<(&str, &[f32])> =
        infos.iter().map(|info| (info.layer.as_str(), &info.after[..])).collect();
    assert_eq!(found.len(), 4, "what nothing reached is left: {found:?}");
    assert_eq!(found[3], ("quant", &[3.0f32][..]));
    assert_eq!(found[0].0, "depthwise.weight.quant_weight");
    assert_eq!(net.quant.unwrap().name(), "quant");
}

#[test]
fn changes_reach_every_quantizer_and_may_walk_themselves() {
    let net = quantize_weights(net(), &per_channel(2), |_| true).unwrap();
    let mut seen = Vec::new();
    let net = change_quantizers(net, |path, quantizer| {
        seen.push(path.to_owned());
        // Making a record visits the quantizer's parameters during the change.
        let record = quantizer.clone().into_record();
        *quantizer = quantizer.clone().load_record(record);
        quantizer.set_enabled(false);
    });
    assert_eq!(seen, paths(&net));
    assert!(quantizers(&net).iter().all(|found| !found.quantizer.is_enabled()));
}

#[test]
fn a_walk_changes_nothing_for_records_devices_and_gradients() {
    let net = quantize_weights(net(), &per_channel(2), |_| true).unwrap();
    let parameters = net.num_params();
    assert_eq!(quantizers(&net).len(), 8);
    assert_eq!(net.num_params(), parameters);
    let restored = net.clone().load_record(net.clone().into_record());
    assert_eq!(paths(&restored), paths(&net));
    assert_eq!(paths(&net.clone().valid()), paths(&net));
    assert_eq!(paths(&net.clone().freeze()), paths(&net));
}

/// The weights of convolutions over volumes have five dimensions.
#[test]
fn weights_of_five_dimensions_have_levels_and_codes() {
    let device = device();
    let conv = Conv3dConfig::new([2, 3], [2, 2, 2]).init(&device);
    let up = ConvTranspose3dConfig::new([4, 2], [2, 2, 2]).init(&device);
    let (conv, _) = WeightQuantization::new(per_channel(2)).apply(conv).unwrap();
    let (up, report) = WeightQuantization::new(per_channel(2)).apply(up).unwrap();
    assert_eq!(report.weights[0].groups, 2);
    for weight in [&quantized_weights(&conv)[0], &quantized_weights(&up)[0]] {
        let levels = weight.reached.quantizer.level_values();
        assert_eq!(levels, weight.to_codes().values[0]);
    }
    let expected: Vec<f32> = up.weight.val().into_data().iter().collect();
    assert_eq!(weight_codes(&up)[0].decode(), expected);
}

#[test]
#[should_panic(expected = "conv2.quant: expected 8 channels in dimension 1, got 6")]
fn another_number_of_channels_is_refused() {
    let config =
        QuantizerConfig { granularity: Granularity::PerChannel, ..lsq(Role::Activation, 2) };
    let quantizer = config.init(&Site::activation("conv2.quant", 8), &Device::flex()).unwrap();
    quantizer.forward(Tensor::<4>::ones([2, 6, 4, 4], &Device::flex()));
}

/// 8 groups do not divide 6 channels or 3.
#[test]
fn groups_that_do_not_fit_a_tensor_are_refused_before_it_is_quantized() {
    let config =
        QuantizerConfig { granularity: Granularity::Groups(8), ..lsq(Role::Activation, 2) };
    for (channels, shape) in [(6, [2, 6, 4, 4]), (3, [2, 3, 3, 3])] {
        let error = config.init(&Site::activation("conv2.quant", channels), &device()).unwrap_err();
        assert!(matches!(error, QuantizerError::Groups { groups: 8, .. }), "{error}");
        let quantizer = config.init(&Site::activation("conv2.quant", 8), &device()).unwrap();
        let quantize = || quantizer.forward(Tensor::<4>::ones(shape, &device()));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(quantize)).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        let expected = format!("expected 8 channels in dimension 1, got {}", shape[1]);
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
#[should_panic(expected = "conv2.quant: expected 8 channels in dimension 1, got 5")]
fn codes_of_channels_at_the_end_are_refused() {
    let config =
        QuantizerConfig { granularity: Granularity::PerChannel, ..lsq(Role::Activation, 2) };
    let quantizer = config.init(&Site::activation("conv2.quant", 8), &Device::flex()).unwrap();
    quantizer.codes(Tensor::<3>::ones([2, 5, 8], &Device::flex()));
}

#[derive(Module, Debug)]
struct Trainable {
    table: Embedding,
    depthwise: Conv2d,
    quant: Quantizer,
    grouped: Conv2d,
    up: ConvTranspose2d,
    fc: Linear,
}

impl Trainable {
    fn new() -> Self {
        let device = &device();
        let quant = lsq(Role::Activation, 3).init(&Site::activation("quant", 6), device).unwrap();
        Self {
            table: EmbeddingConfig::new(5, 6).init(device),
            depthwise: Conv2dConfig::new([6, 6], [3, 3]).with_groups(6).init(device),
            quant,
            grouped: Conv2dConfig::new([6, 4], [1, 1]).with_groups(2).init(device),
            up: ConvTranspose2dConfig::new([4, 8], [2, 2])
                .with_stride([2, 2])
                .with_groups(2)
                .init(device),
            fc: LinearConfig::new(8, 2).init(device),
        }
    }

    /// Returns `[batch, 2]` for images whose 4 by 4 pixels are rows of the table, `[batch, 16]`.
    fn forward(&self, pixels: Tensor<2, Int>) -> Tensor<2> {
        let [batch, _] = pixels.dims();
        let x = self.table.forward(pixels).swap_dims(1, 2).reshape([batch, 6, 4, 4]);
        let x = self.quant.forward(self.depthwise.forward(x));
        let x = self.up.forward(self.grouped.forward(x));
        self.fc.forward(x.mean_dim(3).mean_dim(2).reshape([batch, 8]))
    }
}

/// Returns the values of all parameters of two or more dimensions, before they are quantized.
fn base_weights(net: &Trainable) -> Vec<Vec<f32>> {
    struct Weights(Vec<Vec<f32>>);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D >= 2 {
                self.0.push(param.base().into_data().iter().collect());
            }
        }
    }
    let mut weights = Weights(Vec::new());
    net.visit(&mut weights);
    weights.0
}

/// The model learns two numbers for each row of its table.
#[test]
fn a_quantized_model_of_stock_layers_is_trained() {
    let quantization = WeightQuantization::new(per_channel(3));
    let (net, report) = quantization.apply(Trainable::new()).unwrap();
    // The transposed convolution has two groups, whose channels share parameters in pairs.
    let groups: Vec<usize> = report.weights.iter().map(|weight| weight.groups).collect();
    assert_eq!(groups, [6, 4, 4, 2]);
    let pixels = || {
        let ids = Tensor::<1, Int>::arange(0..5, &device()).reshape([5, 1]);
        ids.repeat_dim(1, 16)
    };
    let targets = || {
        let rows = [[1.0, -2.0], [2.0, -1.0], [3.0, -3.0], [2.0, -2.0], [4.0, -1.0]];
        Tensor::<2>::from_floats(rows, &device())
    };
    let (mut net, found) =
        calibrate(net, Calibration::default(), [pixels().inner()], Trainable::forward);
    assert_eq!(found.len(), 5);
    let learned = |net: &Trainable| -> Vec<Vec<f32>> {
        let all = quantizers(net).into_iter();
        all.map(|found| found.quantizer.learned_values("clip_val").unwrap()).collect()
    };
    let (clips, weights) = (learned(&net), base_weights(&net));
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..120 {
        let (after, loss) =
            training_loss(net, |net| (net.forward(pixels()) - targets()).square().mean());
        losses.push(loss.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(loss.backward(), &after);
        net = optimizer.step(0.02, after, grads);
    }
    let (first, last) = (losses[0], losses[119]);
    assert!(last < 0.25 * first, "from {first} to {last}");
    // The table, the weights and the clipping values have moved.
    assert_eq!(weights.len(), 5);
    assert!(weights.iter().zip(base_weights(&net)).all(|(old, new)| *old != new));
    assert!(clips.iter().zip(learned(&net)).all(|(old, new)| *old != new));
    for weight in weight_codes(&net) {
        assert!(weight.codes.iter().all(|code| *code < 8), "{}", weight.layer);
    }
}
