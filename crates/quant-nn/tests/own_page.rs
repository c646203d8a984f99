//! The code of docs/own-models.md, as it stands there: the page's blocks follow each other here.

#![expect(clippy::print_stdout, reason = "the page shows what a program would print")]

#[rustfmt::skip]
mod page {
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, conv::{Conv2d, Conv2dConfig}};
use burn::tensor::{Device, Tensor, activation::relu};
use quant_core::{
    Calibration, Granularity, Levels, Method, Quantizer, QuantizerConfig, Role, Site,
    WeightQuantization, calibrate, quantizers, weight_codes,
};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    quant: Quantizer,
    fc: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.quant.forward(relu(self.norm.forward(self.conv.forward(x))));
        self.fc.forward(x.flatten(1, 3))
    }
}

fn quantized() -> Result<Net, quant_core::QuantizerError> {
    let device = Device::flex().autodiff();
    let lsq = |role, bits| Ok(QuantizerConfig::new(Method::Lsq, role, Levels::from_bits(bits)?));
    let net = Net {
        conv: Conv2dConfig::new([3, 8], [3, 3]).init(&device),
        norm: BatchNormConfig::new(8).init(&device),
        quant: lsq(Role::Activation, 2)?.init(&Site::activation("quant", 8), &device)?,
        fc: LinearConfig::new(8 * 6 * 6, 10).init(&device),
    };
    let weight = QuantizerConfig { granularity: Granularity::PerChannel, ..lsq(Role::Weight, 2)? };
    let (net, report) = WeightQuantization::new(weight)
        .with("fc.weight", lsq(Role::Weight, 8)?)     // one weight, another way
        .apply(net)?;
    println!("{report}");                             // what was quantized how, and what was left

    let batches = (0..4).map(|_| Tensor::<4>::ones([16, 3, 8, 8], &Device::flex()));
    let (net, _found) = calibrate(net, Calibration::default(), batches, |net, x| net.forward(x));
    for found in quantizers(&net) {
        println!("{}: {:?}", found.path, found.quantizer.config().levels);
    }
    // What deployment starts from: the weights as integers, and what each integer stands for.
    for weight in weight_codes(&net) {
        println!("{}: {:?}, {} levels", weight.layer, weight.shape, weight.values[0].len());
    }
    Ok(net)
}

use burn::optim::{GradientsParams, SgdConfig};
use quant_core::{change_quantizers, training_loss};

fn train(net: Net, batches: impl Iterator<Item = (Tensor<4>, Tensor<2>)>) -> Net {
    // For ten calls activations are not quantized, and their clipping values follow their size.
    let mut net = change_quantizers(net, |_, quantizer| {
        if quantizer.config().role == Role::Activation {
            quantizer.set_warm_up(10, 1.0, 0);
        }
    });
    let mut optimizer = SgdConfig::new().init();
    for (images, targets) in batches {
        let (after, loss) =
            training_loss(net, |net| (net.forward(images) - targets).square().mean());
        let grads = GradientsParams::from_grads(loss.backward(), &after);
        net = optimizer.step(0.01, after, grads);
    }
    net
}

use quant_nn::{Classifier, QuantizedModule};

impl QuantizedModule for Net {}

impl Classifier for Net {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        Net::forward(self, images)
    }
}

#[test]
fn the_code_of_the_page_runs() {
    let scores = quantized().unwrap_or_else(|error| panic!("{error}"));
    let images = Tensor::<4>::ones([2, 3, 8, 8], &Device::flex());
    assert_eq!(Classifier::forward(&scores.valid(), images).dims(), [2, 10]);
    let device = Device::flex().autodiff();
    let batch = (Tensor::ones([4, 3, 8, 8], &device), Tensor::zeros([4, 10], &device));
    let trained = train(scores, std::iter::repeat_n(batch, 11));
    for found in quantizers(&trained) {
        assert_eq!(found.quantizer.warm_up_left(), 0, "{}", found.path);
    }
}
}

/// A quantizer of any name is told from the network's own parameters.
#[test]
fn a_state_in_full_precision_loads_and_leaves_the_quantizers() {
    use burn::{
        module::Module,
        nn::{Linear, LinearConfig},
        tensor::Device,
    };
    use quant_core::{Levels, Method, Quantizer, QuantizerConfig, Role, Site};
    use quant_nn::{QuantizedModule, StateDict, summarize};

    #[derive(Module, Debug)]
    struct Small {
        sharp: Option<Quantizer>,
        fc: Linear,
    }

    impl QuantizedModule for Small {}

    let device = Device::flex();
    let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::BINARY);
    let site = Site::activation("sharp", 4);
    let sharp = config.init(&site, &device).unwrap_or_else(|error| panic!("{error}"));
    let fc = || LinearConfig::new(4, 2).init(&device);
    let real = StateDict::of(&Small { sharp: None, fc: fc() });
    let quantized = Small { sharp: Some(sharp), fc: fc() };
    let state = StateDict::of(&quantized);
    let summary = summarize(&quantized, &state);
    assert_eq!(summary.size_bytes_float, 4 * (4 * 2 + 2), "without the quantizer's parameter");
    let (_, report) = real.load_into(quantized);
    assert_eq!(report.missing, ["sharp.clip_val"]);
    assert!(report.require(true).is_ok() && report.require(false).is_err(), "{report}");
    let (_, report) = state.load_into(Small { sharp: None, fc: fc() });
    assert_eq!(report.unused, ["sharp.clip_val"]);
    assert!(report.require(true).is_ok() && report.require(false).is_err(), "{report}");
}

/// A parameter of a user's own whose name begins like those of quantizers is missed like any other.
#[test]
fn a_parameter_is_not_a_quantizers_because_of_the_beginning_of_its_name() {
    use burn::{
        module::{Module, Param},
        tensor::{Device, Tensor},
    };
    use quant_nn::{QuantizedModule, StateDict};

    #[derive(Module, Debug)]
    struct Scaled {
        quant_scale: Param<Tensor<1>>,
    }

    impl QuantizedModule for Scaled {}

    let scaled = Scaled { quant_scale: Param::from_tensor(Tensor::ones([2], &Device::flex())) };
    let (_, report) = StateDict::default().load_into(scaled);
    assert_eq!(report.missing, ["quant_scale"]);
    assert!(report.require(true).is_err(), "{report}");
}

#[test]
fn the_page_has_this_code() {
    let page = include_str!("../../../docs/own-models.md");
    let own = include_str!("own_page.rs");
    let blocks = page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for block in blocks {
        assert!(own.contains(block), "not in tests/own_page.rs:\n{block}");
        count += 1;
    }
    assert_eq!(count, 5);
}
