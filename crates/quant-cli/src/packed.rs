//! The commands of the `quant` program for packed networks: packing, running and describing them.

use std::{
    error::Error,
    fmt::Write,
    io::ErrorKind,
    path::{Component, Path, PathBuf},
    thread::available_parallelism,
};

use quant_data::{Pipeline, RgbImage, Transform, Truncated, random::Random};
use quant_infer::{
    Image, Network, Session,
    inspect::Overview,
    model::{Input, Model},
};
use quant_onnx::{ImportOptions, Imported};
use quant_train::{
    Recipe, Run, RunOptions,
    data::{DataKind, DataRecipe},
    deploy,
    evaluate::Score,
    output,
};

use crate::{
    networks::{self, NetworkArguments, is_packed},
    recipes::library::find,
    runs::data_folder,
    score,
};

/// Reads a packed network.
fn read(path: &Path) -> Result<Network, Box<dyn Error>> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    if is_onnx(path) {
        return Err(to_pack(path).into());
    }
    let bytes = quant_train::files::read(path).map_err(|error| at(&error))?;
    Ok(Network::from_bytes(&bytes).map_err(|error| at(&error))?)
}

/// The error of a command that takes packed networks and got an ONNX file.
pub(crate) fn to_pack(path: &Path) -> String {
    let file = path.display();
    let packed = path.with_extension("qnet");
    format!(
        "{file}: an ONNX file; `quant pack {file} -o {}` makes a packed network of it",
        packed.display()
    )
}

/// Returns whether a path has the extension of ONNX files.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// What an ONNX file does not say about its images.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct OnnxImages {
    /// With an ONNX file whose input has floats: mean of each channel, separated by commas; a byte
    /// p of a picture becomes (p/255 - mean)/std [default: 0]
    #[arg(long, value_delimiter = ',', value_name = "M,...", allow_hyphen_values = true)]
    pub mean: Vec<f64>,
    /// With an ONNX file whose input has floats: standard deviation of each channel [default: 1]
    #[arg(long, value_delimiter = ',', value_name = "S,...")]
    pub std: Vec<f64>,
    /// With an ONNX file that leaves the size of images open: height and width in pixels
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "H,W")]
    pub size: Vec<usize>,
}

impl OnnxImages {
    pub(crate) fn options(&self) -> Result<ImportOptions, Box<dyn Error>> {
        let size = match self.size[..] {
            [] => None,
            [side] => Some([side; 2]),
            [height, width] => Some([height, width]),
            _ => return Err("--size takes a height and a width, such as --size 224,224".into()),
        };
        let (mean, std) = (self.mean.clone(), self.std.clone());
        if std.iter().any(|std| *std <= 0.0) {
            return Err("--std takes numbers above 0".into());
        }
        Ok(ImportOptions { size, mean, std, ..ImportOptions::default() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mean.is_empty() && self.std.is_empty() && self.size.is_empty()
    }
}

/// Reads an ONNX file, writes it to the packed file `to`, and returns a text: what was left out or
/// may be rounded otherwise, one line for each layer if `explain` is set, and the size of the file.
fn pack_onnx(
    path: &Path,
    images: &OnnxImages,
    to: &Path,
    explain: bool,
) -> Result<String, Box<dyn Error>> {
    let mut options = images.options()?;
    options.name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let imported = read_onnx(path, options)?;
    let packed = imported.model.to_bytes();
    quant_train::files::write(to, &packed)?;
    let mut text = String::new();
    if explain {
        writeln!(text, "{}\n", Overview::of_file(&packed)?)?;
    }
    writeln!(text, "{imported}")?;
    write!(text, "written: {}, {} bytes", to.display(), packed.len())?;
    Ok(text)
}

/// Reads an ONNX file, with the files beside it in which it keeps constants.
pub(crate) fn read_onnx(path: &Path, mut options: ImportOptions) -> Result<Imported, String> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let bytes = quant_train::files::read(path).map_err(|error| at(&error))?;
    for name in quant_onnx::external_files(&bytes).map_err(|error| at(&error))? {
        // Only files in the folder of the ONNX file and below it are read.
        if !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!(
                "{}: it keeps constants in {name:?}, which is not in its own folder; copy that \
                 file there, and save the model anew",
                path.display()
            ));
        }
        let beside = path.with_file_name(&name);
        let long = std::fs::metadata(&beside).is_ok_and(|found| found.len() > MAX_CONSTANTS);
        if long {
            return Err(format!("{}: more than {MAX_CONSTANTS} bytes", beside.display()));
        }
        match quant_train::files::read(&beside) {
            Ok(contents) => drop(options.external.insert(name, contents)),
            // The error of the constant says what is missing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", beside.display())),
        }
    }
    quant_onnx::import(&bytes, &options).map_err(|error| at(&error))
}

/// The largest file of constants that is read, in bytes.
const MAX_CONSTANTS: u64 = 1 << 30;

/// A format of [`export`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// QONNX, with the quantizers as nodes: for FINN, hls4ml and the Python package qonnx
    Qonnx,
    /// ONNX with 8-bit integers, which ONNX Runtime and OpenVINO fuse
    OnnxInt8,
    /// ONNX with weights of 2 and 4 bits in the file
    OnnxCompact,
}

impl From<ExportFormat> for quant_onnx::Format {
    fn from(format: ExportFormat) -> Self {
        match format {
            ExportFormat::Qonnx => Self::Qonnx,
            ExportFormat::OnnxInt8 => Self::Int8,
            ExportFormat::OnnxCompact => Self::Compact,
        }
    }
}

/// Writes a packed network, or the network of a run folder or of a file of weights, as an ONNX
/// file. Returns a text: the layers that compute in floats with the reasons, how exact the
/// quantizers are, and the size of the file.
///
/// # Errors
/// As [`pack`], and if the file cannot be written.
pub fn export(
    of: &NetworkArguments,
    best: bool,
    format: ExportFormat,
    to: &Path,
) -> Result<String, Box<dyn Error>> {
    let packed = of.description.keywords.as_deref().map(Path::new).filter(|path| is_packed(path));
    let model = match packed {
        Some(_) if best || !of.is_named_alone() => {
            return Err("a packed network takes no option but --format and --output".into());
        }
        Some(path) => Model::load(path)?,
        None => {
            let (network, recipe, classes) = networks::trained(of, best)?;
            deploy::lower(&network, &recipe.data, &recipe.name, &classes)?.model
        }
    };
    let exported = quant_onnx::export(&model, format.into())?;
    quant_train::files::write(to, &exported.bytes)?;
    let advice = match format {
        ExportFormat::OnnxInt8 => {
            "\nONNX Runtime rounds biases when it optimises this file, which can change codes: for \
             the scores of the packed network, turn that off (ORT_DISABLE_ALL), or export \
             onnx-compact"
        }
        ExportFormat::Qonnx | ExportFormat::OnnxCompact => "",
    };
    let bytes = exported.bytes.len();
    Ok(format!("{exported}{advice}\nwritten: {}, {bytes} bytes", to.display()))
}

/// Lowers the network of a run folder or of a file of weights, or reads an ONNX file, writes it to
/// the packed file `to`, and returns a text: one line for each layer if `explain` is set, and the
/// size of the file.
///
/// # Errors
/// If the network cannot be read or packed, if the file cannot be written, and for keywords and
/// recipes, which have no trained weights.
pub fn pack(
    of: &NetworkArguments,
    images: &OnnxImages,
    best: bool,
    to: &Path,
    explain: bool,
) -> Result<String, Box<dyn Error>> {
    match of.description.keywords.as_deref().map(Path::new).filter(|path| is_onnx(path)) {
        Some(_) if best || !of.is_named_alone() => {
            return Err("an ONNX file takes no option but --mean, --std, --size, --explain and \
                        --output"
                .into());
        }
        Some(path) => return pack_onnx(path, images, to, explain),
        None if !images.is_empty() => {
            return Err("--mean, --std and --size are for ONNX files".into());
        }
        None => {}
    }
    let (network, recipe, classes) = networks::trained(of, best)?;
    let lowered = deploy::lower(&network, &recipe.data, &recipe.name, &classes)?;
    let bytes = lowered.model.to_bytes();
    quant_train::files::write(to, &bytes)?;
    let mut text = String::new();
    if explain {
        writeln!(text, "{lowered}\n")?;
    }
    write!(text, "written: {}, {} bytes", to.display(), bytes.len())?;
    Ok(text)
}

/// Returns a description of a packed file: one line for each node.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn describe(path: &Path) -> Result<String, Box<dyn Error>> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let bytes = quant_train::files::read(path).map_err(|error| at(&error))?;
    Ok(Overview::of_file(&bytes).map_err(|error| at(&error))?.to_string())
}

/// Prints the best classes of each picture, one line for each picture: text, or with `json` an
/// object with the name of the picture, the best classes, and the scores of all classes by their
/// indices. A picture that cannot be read, or that the network cannot take, is named on standard
/// error, with the reason, and the next picture follows.
///
/// # Errors
/// If the network cannot be read. After the last picture: if some of them could not be classified.
pub fn run(
    path: &Path,
    pictures: &[PathBuf],
    top: usize,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let network = read(path)?;
    let mut session = network.session();
    let mut failed = 0;
    for picture in pictures {
        match classify(&network, &mut session, picture) {
            Ok(scores) => {
                let line = if json { score::picture_json } else { score::picture_line };
                output::print(&line(&network, picture, scores, top))?;
            }
            // The error of a single picture says everything already.
            Err(error) if pictures.len() == 1 => return Err(error),
            Err(error) => {
                output::tell(&error.to_string());
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        count => {
            Err(format!("{count} of {} pictures could not be classified", pictures.len()).into())
        }
    }
}

/// Returns the scores of a picture.
fn classify<'s>(
    network: &Network,
    session: &'s mut Session<'_>,
    picture: &Path,
) -> Result<&'s [f32], Box<dyn Error>> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", picture.display());
    let image = prepared(network, RgbImage::read(picture, Truncated::Refuse)?);
    let size = [image.height, image.width];
    let pixels = with_channels(image.pixels, network.input().scale.len());
    let pixels = pixels.map_err(|error| at(&error))?;
    let scores = session.run(&Image::interleaved(&pixels, size));
    Ok(scores.map_err(|error| at(&error))?)
}

/// Returns the bytes of a picture's pixels, red, green and blue, as a network of this many channels
/// takes them: a network of one channel takes the grey values of a picture that is grey.
fn with_channels(pixels: Vec<u8>, channels: usize) -> Result<Vec<u8>, String> {
    match channels {
        3 => Ok(pixels),
        1 => {
            let is_grey = |pixel: &[u8]| pixel.iter().all(|value| *value == pixel[0]);
            if pixels.chunks_exact(3).all(is_grey) {
                return Ok(pixels.into_iter().step_by(3).collect());
            }
            Err("the picture has colours, and the network takes one channel; a picture whose \
                 pixels are all grey works"
                .to_owned())
        }
        _ => Err(format!(
            "a picture has 3 channels, and the network takes {channels}; a program that gives \
             quant_infer::Image all channels can run it"
        )),
    }
}

/// Returns the step that resizes a picture for the network, if there is one.
fn resize(input: &Input) -> Option<Transform> {
    input.shorter_side.map(|size| Transform::Resize { size })
}

/// Returns the steps of the evaluation during training, for a network of square images.
pub(crate) fn eval_steps(input: &Input) -> Pipeline {
    let crop = Transform::CenterCrop { size: input.size[0] };
    Pipeline(resize(input).into_iter().chain([crop]).collect())
}

/// Brings a picture to the network's size, as in the evaluation during training.
fn prepared(network: &Network, image: RgbImage) -> RgbImage {
    let steps = Pipeline(resize(network.input()).into_iter().collect());
    centre(&steps.apply(image, &mut Random::new(&[])), network.input().size)
}

/// Returns the centre of a picture, of this height and width, as [`Transform::CenterCrop`] does for
/// squares: what lies beyond the edges is black.
fn centre(image: &RgbImage, [height, width]: [usize; 2]) -> RgbImage {
    let offset = |from: usize, to: usize| ((from as f64 - to as f64) / 2.0).round_ties_even();
    let (left, top) = (offset(image.width, width) as isize, offset(image.height, height) as isize);
    let mut to = RgbImage::new(width, height);
    for (index, pixel) in to.pixels.chunks_exact_mut(3).enumerate() {
        let x = left.checked_add_unsigned(index % width).and_then(|x| usize::try_from(x).ok());
        let y = top.checked_add_unsigned(index / width).and_then(|y| usize::try_from(y).ok());
        if let (Some(x), Some(y)) = (x, y)
            && x < image.width
            && y < image.height
        {
            pixel.copy_from_slice(&image.pixels[3 * (y * image.width + x)..][..3]);
        }
    }
    to
}

/// Returns a recipe for the validation of a packed network: that of this name, or one for a folder
/// with a folder of pictures for each class, which are prepared as the network says.
fn recipe_of(network: &Network, name: Option<&str>) -> Result<Recipe, Box<dyn Error>> {
    if let Some(name) = name {
        let (text, path) = find(name)?;
        return Ok(Recipe::parse(&text, &path)?);
    }
    let size @ [height, width] = network.input().size;
    if height != width || network.input().scale.len() != 3 {
        let channels = network.input().scale.len();
        return Err(format!(
            "the network takes images of {height} x {width} pixels with {channels} channels, and \
             quant eval prepares squares with 3 channels; quant run classifies single pictures"
        )
        .into());
    }
    let mut data = DataRecipe::new(DataKind::ImageFolder, size[0]);
    data.eval = Some(eval_steps(network.input()));
    Ok(Recipe { data, ..Recipe::parse(EVALUATION, Path::new("evaluation"))? })
}

/// A recipe whose data are replaced.
const EVALUATION: &str = "
name = 'evaluation'
model = { depth = 'resnet18', stem = 'imagenet' }
data.kind = 'fake'
data.input_size = 32
[[phase]]
name = 'evaluation'
epochs = 1
batch_size = 1
learning_rate = 0.1
";

/// Evaluates a packed network on validation data, with `threads` threads or, by default, with one
/// for each core. `recipe` names a recipe that describes the data. Returns the score, and the
/// images that could not be used, each with the reason.
pub(crate) fn evaluate(
    path: &Path,
    recipe: Option<&str>,
    data: Option<&Path>,
    threads: Option<usize>,
    options: &RunOptions,
) -> Result<(Score, Vec<String>), Box<dyn Error>> {
    let network = read(path)?;
    let described = recipe_of(&network, recipe)?;
    let data = match (data, recipe) {
        (None, None) => {
            return Err(
                "--data <folder> is needed: a folder val inside has one folder of pictures \
                        for each class (--recipe describes other data)"
                    .into(),
            );
        }
        (data, _) => data_folder(data, &described.data)?,
    };
    let threads = match threads.unwrap_or_default() {
        0 => available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let mut skipped = Vec::new();
    let tell = |reason| skipped.push(reason);
    let score = Run::evaluate_packed(path, &network, &described, &data, threads, options, tell)?;
    Ok((score, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_centre_is_that_of_the_evaluation() {
        for (width, height, size) in [(7, 4, 4), (9, 12, 5), (3, 8, 6), (2, 3, 7)] {
            let mut image = RgbImage::new(width, height);
            let bytes = image.pixels.iter_mut().enumerate();
            bytes.for_each(|(index, byte)| *byte = (index % 251) as u8 + 1);
            let step = Pipeline(vec![Transform::CenterCrop { size }]);
            let expected = step.apply(image.clone(), &mut Random::new(&[]));
            assert_eq!(centre(&image, [size; 2]).pixels, expected.pixels, "{width} {height}");
        }
    }
}
