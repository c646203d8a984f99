//! Compiles the Rust code of the pages. Each block stands here as it stands on its page, and a test
//! finds the blocks of the pages in this file. `own_page.rs` of `quant-nn` has the other blocks of
//! docs/own-models.md.

#![expect(clippy::print_stdout, reason = "the pages show what a program would print")]
#![expect(clippy::redundant_closure, reason = "a page shows what the closure is given")]
#![expect(dead_code, reason = "some code needs files that are not here, and is only compiled")]

type Failure = Box<dyn std::error::Error>;

#[rustfmt::skip]
mod quantizers_in_a_model {
use burn::{nn::conv::{Conv2d, Conv2dConfig}, tensor::{Device, Tensor}};
use quant_core::{
    Calibration, Levels, Method, Quantizer, QuantizerConfig, Role, Site, WeightQuantization,
    calibrate, quantizers,
};

#[derive(burn::module::Module, Debug)]
struct Model {
    conv: Conv2d,
    quantizer: Quantizer,
}

impl Model {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.quantizer.forward(self.conv.forward(x))
    }
}

#[test]
fn the_code_of_the_page_runs() -> Result<(), super::Failure> {
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::ones([1, 64, 2, 2], &device);
    let batches = (0..2).map(|_| Tensor::<4>::ones([1, 3, 4, 4], &Device::flex()));
    let weight_config = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?);
    let conv = Conv2dConfig::new([3, 64], [3, 3]).init(&device);
    let input = Site::activation("quantizer", 64);
    let pact = QuantizerConfig::new(Method::Pact, Role::Activation, Levels::from_bits(2)?);
    let quantizer = pact.init(&input, &device)?;
    let model = Model { conv, quantizer };
let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
let quantizer = config.init(&Site::activation("conv2", 64), &device)?;   // a Burn module
let y = quantizer.forward(x);                                           // 4 levels, differentiable
let (model, report) = WeightQuantization::new(weight_config).apply(model)?; // of stock layers
let (model, found) = calibrate(model, Calibration::default(), batches, |model, x| model.forward(x));
for found in quantizers(&model) { println!("{}", found.path); }         // all quantizers, by path
    assert_eq!(y.dims(), [1, 64, 2, 2]);
    println!("{report}\n{found:?}");
    Ok(())
}
}

#[rustfmt::skip]
mod a_packed_network {
use quant_infer::Image;

fn page(rgb: Vec<u8>) -> Result<(), super::Failure> {
let network = quant_infer::Network::load("packed.qnet")?;
let image = Image::interleaved(&rgb, [224, 224]);       // bytes, as image decoders give them
for (class, score) in network.top_k(&network.run(&image)?, 5) {
    println!("{class} {score:.3}");
}
    Ok(())
}
}

#[rustfmt::skip]
mod weights_of_pytorch {
use burn::tensor::Device;
use quant_core::QuantizerConfig;
use quant_nn::{StateDict, resnet::{Depth, Quantization, ResNetConfig, Stem}, summarize};
use quant_train::WeightsFile;

fn page(
    activation: QuantizerConfig, weight: QuantizerConfig, device: Device,
) -> Result<(), super::Failure> {
let config = ResNetConfig {
    quantization: Quantization {
        activation: Some(activation),
        weight: Some(weight),
        ..Default::default()
    },
    ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 1000, 224)
};
let (network, report) = WeightsFile::new("resnet18.pth").read()?.load_into(config.init(&device)?);
println!("{report}\n{}", summarize(&network, &StateDict::of(&network)));
    Ok(())
}
}

#[rustfmt::skip]
mod loader {
use std::sync::Arc;
use quant_data::{ImageFolder, LastBatch, Loader, LoaderConfig, Pipeline, Share};

#[expect(unused_variables, reason = "a program would train with the batch")]
fn page() -> Result<(), super::Failure> {
let folder = Arc::new(ImageFolder::open("imagenet/train".as_ref())?);
let config = LoaderConfig {
    batch_size: 256,
    training: true,
    last_batch: LastBatch::Drop,
    seed: 1,
    workers: 16,
    prefetch: 8,
    max_broken: LoaderConfig::MAX_BROKEN,
    share: Share::ALL,
};
for batch in Loader::new(folder, Pipeline::imagenet_train(224), config)?.epoch(0, 0) {
    let batch = batch?; // images as bytes, of shape [256, 3, 224, 224]
}
    Ok(())
}
}

#[rustfmt::skip]
mod run {
use quant_train::{Recipe, Run, RunOptions};

fn page(options: RunOptions) -> Result<(), super::Failure> {
let recipe = Recipe::read("recipe.toml".as_ref())?;
let run = Run::create("runs".as_ref(), recipe, ".".as_ref(), "imagenet".as_ref(), options)?;
let summary = run.execute()?;
    println!("{summary:?}");
    Ok(())
}
}

#[rustfmt::skip]
mod program {
use std::process::ExitCode;
use quant_cli::train::{self, TrainProgram};

fn main() -> ExitCode {
    let recipe = ("mine.toml", include_str!("mine.toml"));
    train::main(&TrainProgram::new("mine", "Trains mine", recipe))
}
}

#[rustfmt::skip]
mod program_with_its_own_network {
use burn::module::Module;
use burn::tensor::Tensor;
use quant_nn::{Classifier, QuantizedModule};
use quant_train::{Build, BuildError};

#[derive(Module, Debug)]
struct Net {
    fc: burn::nn::Linear,
}

impl Net {
    fn new(build: &Build<'_>) -> Result<Self, BuildError> {
        let inputs = 3 * build.input_size * build.input_size;
        Ok(Self { fc: burn::nn::LinearConfig::new(inputs, build.classes).init(build.device) })
    }
}

impl QuantizedModule for Net {}

impl Classifier for Net {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.fc.forward(images.flatten(1, 3))
    }
}

use std::process::ExitCode;

use quant_cli::train::{self, TrainProgram};

fn main() -> ExitCode {
    let program = TrainProgram::new(
        "mine",
        "Trains a network of its own",
        ("mine.toml", include_str!("mine.toml")),
    );
    train::main_own(&program, |build| Net::new(build))
}
}

#[rustfmt::skip]
mod program_that_packs_its_own_network {
use burn::module::Module;
use burn::nn::{BatchNorm, Linear, conv::Conv2d};
use burn::tensor::{Tensor, activation::relu};
use quant_core::Quantizer;
use quant_nn::{Classifier, QuantizedModule};
use quant_train::{Build, BuildError};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    quant: Quantizer,
    fc: Linear,
}

impl Net {
    fn new(_build: &Build<'_>) -> Result<Self, BuildError> {
        Err("this code is only compiled".into())
    }
}

impl QuantizedModule for Net {}

impl Classifier for Net {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.quant.forward(relu(self.norm.forward(self.conv.forward(images))));
        self.fc.forward(x.flatten(1, 3))
    }
}

use quant_infer::model::Op;
use quant_train::deploy::{LowerError, Lowering};

impl Net {
    fn lower(&self, lowering: &mut Lowering) -> Result<(), LowerError> {
        let x = lowering.burn_conv("conv", &self.conv, None, 0)?; // node 0 is the image
        let x = lowering.burn_norm("norm", &self.norm, x);
        let x = lowering.push("relu", Op::Relu, [x]);
        lowering.burn_linear("fc", &self.fc, Some(&self.quant), x)?; // the last node has the scores
        Ok(())
    }
}

use std::process::ExitCode;

use quant_cli::train::{self, TrainProgram};

fn main() -> ExitCode {
    let program = TrainProgram::new(
        "mine",
        "Trains a network of its own, and packs it",
        ("mine.toml", include_str!("mine.toml")),
    );
    train::main_own_packed(&program, |build| Net::new(build), Net::lower)
}
}

#[rustfmt::skip]
mod packing_of_a_run {
fn page() -> Result<(), super::Failure> {
use burn::tensor::Device;
use quant_train::{Run, RunOptions, deploy, weights};

let device = Device::flex();
let run = Run::resume("runs/mine-001".as_ref(), None, RunOptions::new(device.clone()))?;
let recipe = run.recipe();
let phase = recipe.phases.last().ok_or("the recipe has no phase")?;
let file = run.trained_file(&phase.name, false)?;     // with true: the best, not the last
let candidates = recipe.candidates(Some(&phase.name), run.classes().len())?;
let network = weights::read_network(&file, &candidates, &device)?.network;
let lowered = deploy::lower(&network, &recipe.data, &recipe.name, run.classes())?;
std::fs::write("mine.qnet", lowered.model.to_bytes())?;
    Ok(())
}
}

#[rustfmt::skip]
mod keyword {
use quant_core::qtool::QtoolOptions;
use quant_nn::{NetworkConfig, keywords::Registry};

#[test]
fn the_code_of_the_page_runs() -> Result<(), super::Failure> {
let registry = Registry::default().with("half", "half the width", |network| {
    if let NetworkConfig::ResNet(config) = network {
        config.width_alpha /= 2.0;
    }
});
let explained = registry.read("resnet20", &QtoolOptions::parse("cifar10,cbas,half", "")?)?;
    let NetworkConfig::ResNet(config) = &explained.config else { panic!("{explained:?}") };
    assert_eq!(config.width_alpha, 0.5);
    Ok(())
}
}

#[rustfmt::skip]
mod data_of_its_own {
use std::sync::Arc;

use quant_data::{
    DataError, Dataset, LastBatch, Loader, LoaderConfig, Pipeline, RgbImage, Share,
};

const SIDE: usize = 16;
const RECORD: usize = 1 + SIDE * SIDE;

/// Grey images of 16 by 16 bytes, one after another, each behind a byte with its label.
struct Squares {
    bytes: Vec<u8>,
    classes: Vec<String>,
}

impl Dataset for Squares {
    fn len(&self) -> usize {
        self.bytes.len() / RECORD
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.bytes[index * RECORD].into()
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        let grey = &self.bytes[index * RECORD + 1..][..SIDE * SIDE];
        let pixels = grey.iter().flat_map(|value| [*value; 3]).collect();
        Ok(RgbImage { width: SIDE, height: SIDE, pixels })
    }
}

fn loader(squares: Squares) -> Result<Loader, DataError> {
    let config = LoaderConfig {
        batch_size: 32,
        training: true, // in random order, which depends on the seed and the epoch
        last_batch: LastBatch::Keep,
        seed: 1,
        workers: 2,
        prefetch: 4,
        max_broken: LoaderConfig::MAX_BROKEN,
        share: Share::ALL,
    };
    Loader::new(Arc::new(squares), Pipeline::cifar_train(SIDE), config)
}

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use quant_cli::train::{self, TrainProgram};
use quant_train::{BuildError, data::DataPair};

/// Opens the training data and the validation data, which have the same classes.
fn open(folder: &Path) -> Result<DataPair, BuildError> {
    let part = |name: &str| -> Result<Arc<Squares>, BuildError> {
        let classes = ["circle", "square"].map(String::from).to_vec();
        Ok(Arc::new(Squares { bytes: fs::read(folder.join(name))?, classes }))
    };
    Ok((part("train.squares")?, part("val.squares")?))
}

fn main() -> ExitCode {
    let recipe = ("mine.toml", include_str!("mine.toml"));
    let program = TrainProgram::new("mine", "Trains on data of its own", recipe);
    train::main(&TrainProgram { open_data: Some(open), ..program })
}

#[test]
fn the_code_of_the_page_runs() -> Result<(), super::Failure> {
    let image = |label: u8| std::iter::once(label).chain([7; SIDE * SIDE]);
    let bytes = (0..40).flat_map(|index| image(index % 2)).collect();
    let squares = Squares { bytes, classes: vec!["even".into(), "odd".into()] };
    let batches: Vec<_> = loader(squares)?.epoch(0, 0).collect::<Result<_, _>>()?;
    let counts: Vec<usize> = batches.iter().map(|batch| batch.labels.len()).collect();
    assert_eq!(counts, [32, 8]);
    assert_eq!(batches[0].pixels.len(), 32 * 3 * SIDE * SIDE);
    let odd: usize = batches.iter().flat_map(|batch| &batch.labels).sum();
    assert_eq!(odd, 20);
    Ok(())
}
}

/// The blocks of `page` in the language `language`, such as `rust`.
fn blocks<'a>(page: &'a str, language: &'static str) -> impl Iterator<Item = &'a str> {
    let blocks = page.split("\n```").skip(1).step_by(2).filter_map(|rest| rest.split_once('\n'));
    blocks.filter(move |block| block.0 == language).map(|block| block.1)
}

#[test]
fn the_pages_have_this_code() {
    let own = include_str!("main.rs");
    let pages = [
        ("README.md", include_str!("../../../../README.md"), "rust", 6),
        ("docs/networks.md", include_str!("../../../../docs/networks.md"), "rust", 1),
        ("docs/own-models.md", include_str!("../../../../docs/own-models.md"), "rust,no_run", 5),
        ("docs/deployment.md", include_str!("../../../../docs/deployment.md"), "rust,no_run", 1),
    ];
    for (name, page, language, expected) in pages {
        let mut count = 0;
        for block in blocks(page, language) {
            assert!(own.contains(block), "{name} has code that is not in this file:\n{block}");
            count += 1;
        }
        assert_eq!(count, expected, "blocks of {name} in the language {language}");
    }
}
