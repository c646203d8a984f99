//! The command `quant import`: ONNX files and packed networks become networks that can be trained.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fmt::Write,
    path::{Path, PathBuf},
};

use quant_core::QuantizerConfig;
use quant_export::{RaiseOptions, Raised, Statistics, describe, raise};
use quant_infer::model::{Input, Model};
use quant_nn::StateDict;
use quant_train::{
    Recipe,
    data::{DataKind, DataRecipe},
    files,
    quantization::{QuantizationRecipe, QuantizerRecipe},
    recipe::{ModelRecipe, Structure},
};

use crate::{
    networks::is_packed,
    packed::{OnnxImages, eval_steps, read_onnx},
};

/// What `quant import` is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArguments {
    /// An ONNX file (.onnx) or a packed network (.qnet)
    pub network: PathBuf,
    /// What an ONNX file does not say of its images.
    #[command(flatten)]
    pub images: OnnxImages,
    /// Leave out quantizers whose values are read by anything but convolutions, such as a sum:
    /// trainable networks have none there
    #[arg(long)]
    pub leave_out_quantizers: bool,
    /// The file of weights to write
    #[arg(long, short, value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// Also write a recipe that evaluates the network and trains it further, on a folder of images
    #[arg(long, value_name = "FILE.toml")]
    pub recipe: Option<PathBuf>,
}

/// Makes a trainable network of a file, and writes its weights, with a description of the network,
/// to a safetensors file. Returns a text: what differs from the file, how the images are
/// normalised, and the size of the result.
///
/// # Errors
/// If the file cannot be read or the result cannot be written, and if the structure is that of no
/// trainable network.
pub fn import(asked: &ImportArguments) -> Result<String, Box<dyn Error>> {
    let ImportArguments { network: path, images, leave_out_quantizers, output, recipe } = asked;
    if output.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("safetensors")) {
        return Err(format!(
            "{}: only safetensors files can be written; choose a name that ends in .safetensors",
            output.display()
        )
        .into());
    }
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let mut options =
        RaiseOptions { leave_out_quantizers: *leave_out_quantizers, ..RaiseOptions::default() };
    let mut text = String::new();
    let model = if is_packed(path) {
        if !images.is_empty() {
            return Err("--mean, --std and --size are for ONNX files".into());
        }
        Model::load(path)?
    } else {
        let imported = read_onnx(path, images.options()?)?;
        for note in &imported.notes {
            writeln!(text, "{note}")?;
        }
        let model = imported.model;
        let norm = |(node, norm): (usize, quant_onnx::BatchNorm)| {
            let quant_onnx::BatchNorm { weight, bias, mean, variance } = norm;
            let statistics = Statistics { weight, bias, mean, variance };
            (model.nodes[node].name.clone(), statistics)
        };
        options.statistics = imported.norms.into_iter().map(norm).collect::<BTreeMap<_, _>>();
        options.input = imported.pixels.map(|pixels| Input {
            scale: pixels.scale,
            shift: pixels.shift,
            ..model.input.clone()
        });
        model
    };
    let raised = raise(&model, &options).map_err(|error| {
        let advice = if is_packed(path) {
            ""
        } else {
            "; `quant pack` makes a packed network of an ONNX file of any structure"
        };
        format!("{}{advice}", at(&error))
    })?;
    for note in &raised.notes {
        writeln!(text, "{note}")?;
    }
    let state = StateDict::of(&raised.network);
    files::write(output, &state.to_bytes()?)?;
    let (mean, std) = normalisation(&raised.input);
    writeln!(text, "{}", description(&raised)?)?;
    writeln!(text, "images: mean = {mean:?}, std = {std:?}")?;
    writeln!(text, "{}", raised.verified)?;
    if let Some(to) = recipe {
        let name = output.file_stem().map_or("imported".into(), |name| name.to_string_lossy());
        let recipe = recipe_of(&raised, &name, &from_recipe(output, to)?)?;
        files::write(to, recipe.to_toml()?.as_bytes())?;
        writeln!(text, "written: {}", to.display())?;
    }
    write!(text, "written: {}, {} entries", output.display(), state.entries().count())?;
    Ok(text)
}

/// Describes the network in a line.
fn description(raised: &Raised) -> Result<String, Box<dyn Error>> {
    let config = raised.network.config();
    let (classes, size) = (config.classes(), config.input_size());
    let quantizers = raised.network.layers();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (role, quantizer) in quantizers.iter().flat_map(|layer| layer.layer.quantizers()) {
        if quantizer.is_enabled() {
            let QuantizerConfig { method, levels, .. } = quantizer.config();
            let kind = format!("{role}: {} with {} levels", method.name(), levels.count());
            *counts.entry(kind).or_default() += 1;
        }
    }
    let mut kinds: Vec<String> =
        counts.into_iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
    kinds.sort_unstable();
    let name = describe(config);
    let kinds = if kinds.is_empty() { "full precision".to_owned() } else { kinds.join(", ") };
    Ok(format!("{name}, {classes} classes, images of {size} pixels; {kinds}"))
}

/// Returns the mean and the deviation of each channel: a byte p becomes (p/255 - mean)/std.
fn normalisation(input: &Input) -> ([f64; 3], [f64; 3]) {
    let of = |channel: usize| {
        let (scale, shift) = (f64::from(input.scale[channel]), f64::from(input.shift[channel]));
        // Without the digits that 32 bits do not have.
        let rounded = |number: f64| (number * 1e6).round() / 1e6;
        (rounded(-shift / scale / 255.0), rounded(1.0 / scale / 255.0))
    };
    let channels = [0, 1, 2].map(of);
    (channels.map(|(mean, _)| mean), channels.map(|(_, std)| std))
}

/// Returns the path of the weights as a recipe names it, relative to the folder of the recipe if
/// they are in the same folder.
fn from_recipe(weights: &Path, recipe: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let (weights, recipe) = (std::path::absolute(weights)?, std::path::absolute(recipe)?);
    Ok(match weights.file_name() {
        Some(name) if weights.parent() == recipe.parent() => name.into(),
        _ => weights,
    })
}

/// Returns a recipe that trains the network further.
fn recipe_of(raised: &Raised, name: &str, weights: &Path) -> Result<Recipe, Box<dyn Error>> {
    let config = raised.network.config();
    let (mean, std) = normalisation(&raised.input);
    let mut data = DataRecipe::new(DataKind::ImageFolder, config.input_size());
    (data.mean, data.std) = (Some(mean), Some(std));
    data.eval = Some(eval_steps(&raised.input));
    let mut recipe = Recipe::parse(TEMPLATE, Path::new("import"))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    recipe.name = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    recipe.data = data;
    recipe.model = ModelRecipe::Typed(Structure::from(config.clone()));
    let quantization = config.quantization();
    let of = |config: &Option<QuantizerConfig>| config.as_ref().map(QuantizerRecipe::from_config);
    for phase in &mut recipe.phases {
        phase.init = Some(weights.to_string_lossy().into_owned());
        let described = QuantizationRecipe {
            first_last: quantization.first_last,
            real_downsample: quantization.real_downsample,
            padding_after_quant: quantization.padding_after_quant,
            ..QuantizationRecipe::new(
                of(&quantization.activation),
                of(&quantization.weight),
                of(&quantization.output),
            )
        };
        let any = [&quantization.activation, &quantization.weight, &quantization.output];
        let quantizes = any.iter().any(|config| config.is_some())
            || !quantization.first_last.is_full_precision();
        phase.quantization = quantizes.then_some(described);
    }
    Ok(recipe)
}

/// A recipe whose data, network and quantizers are replaced.
const TEMPLATE: &str = "
name = 'imported'
model = { depth = 'resnet18', stem = 'imagenet' }
data.kind = 'image-folder'
data.input_size = 32
[[phase]]
name = 'quantized'
epochs = 10
batch_size = 32
last_batch = 'keep'
learning_rate = 0.001
schedule = { policy = 'sgdr' }
optimizer = { kind = 'sgd', momentum = 0.9, nesterov = true }
groups = { weight_decay = 1e-4 }
";
