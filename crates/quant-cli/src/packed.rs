//! The commands of the `quant` program for packed networks: packing, running and describing them.

use std::{
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use quant_data::{Pipeline, RgbImage, Transform, Truncated, random::Random};
use quant_infer::{Image, Network, inspect::Overview};
use quant_train::{
    Recipe, Run, RunOptions,
    data::{DataKind, DataRecipe},
    deploy,
    evaluate::Score,
    output,
};

use crate::{
    evaluation::{EvalChoice, data_folder},
    networks::{self, Summarized},
    recipes,
};

/// The extension of packed networks.
const EXTENSION: &str = "qnet";

/// Returns whether a path has the extension of packed networks.
pub fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// Reads a packed network.
fn read(path: &Path) -> Result<Network, Box<dyn Error>> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| at(&error))?;
    Ok(Network::from_bytes(&bytes).map_err(|error| at(&error))?)
}

/// Lowers the network of a run folder or of a file of weights, writes it to the packed file `to`,
/// and returns a text: one line for each layer if `explain` is set, and the size of the file.
///
/// # Errors
/// If the network cannot be read or packed, if the file cannot be written, and for keywords and
/// recipes, which have no trained weights.
pub fn pack(
    of: &Summarized,
    best: bool,
    to: &Path,
    explain: bool,
) -> Result<String, Box<dyn Error>> {
    let (network, recipe, classes) = networks::trained(of, best)?;
    let lowered = deploy::lower(&network, &recipe.data, &recipe.name, &classes)?;
    let bytes = lowered.model.to_bytes();
    quant_train::files::write_output(to, &bytes)?;
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
pub fn inspect(path: &Path) -> Result<String, Box<dyn Error>> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| at(&error))?;
    Ok(Overview::of_file(&bytes).map_err(|error| at(&error))?.to_string())
}

/// Prints the best classes of each picture, one line for each picture. A picture that cannot be
/// read is named on standard error, with the reason, and the next picture follows.
///
/// # Errors
/// If the network cannot be read. After the last picture: if some of them could not be read.
pub fn run(path: &Path, pictures: &[PathBuf], top: usize) -> Result<(), Box<dyn Error>> {
    let network = read(path)?;
    let steps = preparation(&network);
    let mut session = network.session();
    let mut unreadable = 0;
    for picture in pictures {
        let image = match RgbImage::read(picture, Truncated::Refuse) {
            Ok(image) => steps.apply(image, &mut Random::new(&[])),
            // The error of a single picture says everything already.
            Err(error) if pictures.len() == 1 => return Err(error.into()),
            Err(error) => {
                output::tell(&error.to_string());
                unreadable += 1;
                continue;
            }
        };
        let scores =
            session.run(&Image::interleaved(&image.pixels, [image.height, image.width]))?;
        let best = network.top_k(scores, top).into_iter();
        let best: Vec<String> = best.map(|(class, score)| format!("{class} {score:.3}")).collect();
        output::print(&format!("{}: {}", picture.display(), best.join(", ")))?;
    }
    match unreadable {
        0 => Ok(()),
        count => Err(format!("{count} of {} pictures could not be read", pictures.len()).into()),
    }
}

/// Returns the steps that bring a picture to the network's size, as in the evaluation during
/// training.
fn preparation(network: &Network) -> Pipeline {
    let input = network.input();
    let resize = input.shorter_side.map(|size| Transform::Resize { size });
    let crop = Transform::CenterCrop { size: input.size[0] };
    Pipeline(resize.into_iter().chain([crop]).collect())
}

/// Returns a recipe for the validation of a packed network: that of this name, or one for a folder
/// with a folder of pictures for each class, which are prepared as the network says.
fn recipe_of(network: &Network, name: Option<&str>) -> Result<Recipe, Box<dyn Error>> {
    if let Some(name) = name {
        let (text, path) = recipes::find(name)?;
        return Ok(Recipe::parse(&text, &path)?);
    }
    let mut data = DataRecipe::new(DataKind::ImageFolder, network.input().size[0]);
    data.eval = Some(preparation(network));
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

/// Evaluates a packed network on validation data. Returns its score, and the images that could not
/// be used, each with the reason.
pub(crate) fn evaluate(
    path: &Path,
    choice: &EvalChoice,
    options: &RunOptions,
) -> Result<(Score, Vec<String>), Box<dyn Error>> {
    let network = read(path)?;
    let recipe = recipe_of(&network, choice.recipe.as_deref())?;
    let data = match (&choice.data, &choice.recipe) {
        (None, None) => {
            return Err(
                "--data <folder> is needed: a folder val inside has one folder of pictures \
                        for each class (--recipe describes other data)"
                    .into(),
            );
        }
        (data, _) => data_folder(data.as_deref(), &recipe.data)?,
    };
    let threads = match choice.threads.unwrap_or_default() {
        0 => available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let mut skipped = Vec::new();
    let tell = |reason| skipped.push(reason);
    let score = Run::evaluate_packed(path, &network, &recipe, &data, threads, options, tell)?;
    Ok((score, skipped))
}
