//! The commands of the `quant` program for networks and their weights. They return the text that
//! the program prints.

mod choice;
mod description;
mod guide;

use std::{error::Error, fmt::Write, path::Path};

use burn::tensor::Device;
use quant_core::WeightCodes;
use quant_nn::{
    Network, NetworkConfig, QuantizedModule, Renaming, StateDict, codes_file, keywords::Explained,
    summarize,
};
use quant_train::{Recipe, Run, RunOptions, WeightsFile, output::plural, weights};

use self::choice::{Subject, refuse_packed};
pub(crate) use self::choice::{is_packed, no_effect};
pub use self::{
    choice::{NetworkArguments, WeightsArguments},
    description::Description,
    guide::guide,
};
use crate::recipes::library::find;

/// Returns a text with one line per keyword and a drawing of a block: the first block that changes
/// the resolution, or the first block of a network without such a block.
///
/// # Errors
/// As [`quant_nn::keywords::network`], and if the network cannot be built.
pub fn explain(description: &Description) -> Result<String, Box<dyn Error>> {
    let Explained { config, lines, warnings } = description.read()?;
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}")?;
    }
    for warning in warnings {
        writeln!(text, "warning: {warning}")?;
    }
    let network = config.init(&Device::default())?;
    let blocks = network.blocks();
    let size = |block: &str| {
        let mut nodes = network.graph().nodes.iter().filter(|node| node.block == block);
        nodes.next_back().map(|node| node.size)
    };
    let shrinks = |pair: &[&str]| size(pair[0]) != size(pair[1]);
    let shown = blocks.windows(2).find(|pair| shrinks(pair)).map(|pair| pair[1]);
    if let Some(block) = shown.or(blocks.first().copied()) {
        write!(text, "\n{block}\n{}", network.draw(block))?;
    }
    Ok(text)
}

/// Returns a table of the shapes, bits, parameters and multiply-accumulate operations of each
/// layer, and their totals. The network is described by keywords or by a phase of a recipe, or read
/// from a run or a file.
///
/// # Errors
/// If the network is not described correctly or cannot be built, if a file cannot be read, and for
/// options that have no effect.
pub fn summary(of: &NetworkArguments) -> Result<String, Box<dyn Error>> {
    let subject = Subject::find(of.description.keywords.as_deref())?;
    subject.refuse_idle(of)?;
    refuse_packed(&subject, "`quant inspect` describes it")?;
    match subject {
        Subject::Keywords => Ok(table(&of.description.network()?)),
        Subject::Recipe(name) => {
            let recipe = recipe_of(&name)?;
            let candidates = recipe.candidates(of.phase.as_deref(), recipe.data.usual_classes())?;
            let (phase, config) = candidates.into_iter().next().ok_or("the recipe has no phase")?;
            Ok(format!("phase {phase}\n{}", table(&config.init(&Device::default())?)))
        }
        Subject::Run(folder) => summary_of(of_run(&open(&folder)?, of.phase.as_deref(), false)?),
        Subject::File(path) => summary_of(of_file(&path, of)?),
    }
}

/// A file of weights, and the networks that the weights may be for, with their names.
type FileAndCandidates = (WeightsFile, Vec<(String, NetworkConfig)>);

/// Returns the file with the last network of a run's phase, or with `best` its best network.
fn of_run(run: &Run, phase: Option<&str>, best: bool) -> Result<FileAndCandidates, Box<dyn Error>> {
    let recipe = run.recipe();
    let last = recipe.phases.last().map(|phase| phase.name.as_str());
    let phase = phase.or(last).unwrap_or_default();
    let file = run.trained_file(phase, best)?;
    Ok((file, recipe.candidates(Some(phase), run.classes().len())?))
}

/// Returns the network of a run's phase, by default of the last phase.
///
/// # Errors
/// If the network cannot be read.
pub(crate) fn network_of_run(run: &Run, phase: Option<&str>) -> Result<Network, Box<dyn Error>> {
    Ok(load(of_run(run, phase, false)?)?.network)
}

/// Opens the run in a folder.
fn open(folder: &Path) -> Result<Run, Box<dyn Error>> {
    Ok(Run::resume(folder, None, RunOptions::new(Device::default()))?)
}

/// Returns a file of weights, with the networks that the recipe or the keywords describe.
fn of_file(path: &Path, of: &NetworkArguments) -> Result<FileAndCandidates, Box<dyn Error>> {
    let candidates = match &of.recipe {
        Some(name) => {
            let recipe = recipe_of(name)?;
            recipe.candidates(of.phase.as_deref(), recipe.data.usual_classes())?
        }
        None if of.description.is_empty() => Vec::new(),
        None => {
            let described = Description { keywords: None, ..of.description.clone() };
            vec![(described.model().to_owned(), described.read()?.config)]
        }
    };
    Ok((of.reading.file(path), candidates))
}

/// Writes the quantized weights of a run or a file as integers to the safetensors file `to`, with
/// the value that each integer stands for. Returns a text with the number of weights.
///
/// # Errors
/// If the network cannot be read or the file cannot be written; if the network has no quantized
/// weights; and for keywords and recipes, which have no trained weights.
pub fn codes(of: &NetworkArguments, to: &Path) -> Result<String, Box<dyn Error>> {
    let named = of.description.keywords.as_deref();
    let subject = Subject::find(named)?;
    subject.refuse_idle(of)?;
    let elsewhere = "its weights are codes already, which `quant inspect` describes; `quant codes` \
                     takes the run or the file of weights that it was packed from";
    refuse_packed(&subject, elsewhere)?;
    let read = match subject {
        Subject::Run(folder) => of_run(&open(&folder)?, of.phase.as_deref(), false)?,
        Subject::File(path) => of_file(&path, of)?,
        Subject::Keywords | Subject::Recipe(_) => {
            let named = named.unwrap_or("no file");
            let what = "expected a run folder, a safetensors file or a PyTorch checkpoint";
            return Err(format!("{named}: {what}").into());
        }
    };
    write_codes(&load(read)?.network.weight_codes(), to)
}

/// Writes weights as integers to the safetensors file `to`. Returns a text with their number.
///
/// # Errors
/// If there are no weights, or the file cannot be written.
pub(crate) fn write_codes(weights: &[WeightCodes], to: &Path) -> Result<String, Box<dyn Error>> {
    if weights.is_empty() {
        return Err("the network has no quantized weights; --phase chooses another phase".into());
    }
    let file = codes_file(weights)?;
    quant_train::files::write(to, &file)?;
    let elements: usize = weights.iter().map(|weight| weight.codes.len()).sum();
    let (weights, to) = (plural(weights.len(), "weight", "weights"), to.display());
    Ok(format!("{weights}, {elements} integers in {to}"))
}

/// Returns the trained network of a run folder or of a file of weights, the recipe with the images
/// that it was trained with, and the names of the classes if they are known. With `best` it is the
/// best network of a run's phase, instead of the last.
///
/// # Errors
/// If the network or the recipe cannot be read; for a file without `--recipe`, because a file of
/// weights does not say how images are normalised; and for keywords and recipes, which have no
/// trained weights.
pub fn trained(
    of: &NetworkArguments,
    best: bool,
) -> Result<(Network, Recipe, Vec<String>), Box<dyn Error>> {
    let named = of.description.keywords.as_deref();
    let subject = Subject::find(named)?;
    subject.refuse_idle(of)?;
    refuse_packed(&subject, "it is packed already")?;
    match subject {
        Subject::Run(folder) => {
            let run = open(&folder)?;
            let network = load(of_run(&run, of.phase.as_deref(), best)?)?.network;
            Ok((network, run.recipe().clone(), run.classes().to_vec()))
        }
        Subject::File(_) if best => Err("--best is for run folders: a file has one network".into()),
        Subject::File(path) => {
            let name = of.recipe.as_deref().ok_or(
                "--recipe is needed with a file: it says how images are resized and normalised",
            )?;
            let weights::Loaded { network, classes, .. } = load(of_file(&path, of)?)?;
            Ok((network, recipe_of(name)?, classes))
        }
        Subject::Keywords | Subject::Recipe(_) => {
            let named = named.unwrap_or("no file");
            let what = "expected a run folder, a safetensors file or a PyTorch checkpoint";
            Err(format!("{named}: {what}").into())
        }
    }
}

fn table(network: &Network) -> String {
    let table = summarize(network, &StateDict::of(network)).to_string();
    match remark(network.config()) {
        Some(remark) => format!("{}\nnote: {remark}\n", table.trim_end()),
        None => table,
    }
}

/// Returns a remark on a network that may not be the one its description was meant to be.
pub(crate) fn remark(config: &NetworkConfig) -> Option<String> {
    match config {
        NetworkConfig::ResNet(config) => config.remark(),
        _ => None,
    }
}

/// Reads the network in a file. It is one of the candidates, unless the file itself describes its
/// network.
fn load((file, candidates): FileAndCandidates) -> Result<weights::Loaded, Box<dyn Error>> {
    let device = Device::default();
    let candidates = weights::with_classes_of(&file, candidates, &device)?;
    Ok(weights::read_network(&file, &candidates, &device)?)
}

fn summary_of(read: FileAndCandidates) -> Result<String, Box<dyn Error>> {
    let loaded = load(read)?;
    let of = loaded.candidate.map_or(String::new(), |name| format!("{name}: "));
    Ok(format!("{of}{}\n{}", loaded.report, table(&loaded.network)))
}

fn recipe_of(name: &str) -> Result<Recipe, Box<dyn Error>> {
    let (text, path) = find(name)?;
    Ok(Recipe::parse(&text, &path)?)
}

/// Reads a PyTorch checkpoint or safetensors file, and writes its entries to the safetensors file
/// `to`. Returns a text with the number of entries.
///
/// # Errors
/// If the extension of `to` is that of another format, or if a file cannot be read or written.
/// Nothing is written to `to` after an error.
pub fn convert(
    from: &Path,
    to: &Path,
    reading: &WeightsArguments,
    from_torchvision: bool,
) -> Result<String, Box<dyn Error>> {
    if to.extension().is_some_and(|extension| !extension.eq_ignore_ascii_case("safetensors")) {
        return Err(format!(
            "{}: only safetensors files can be written; choose a name that ends in .safetensors \
             (in Python, safetensors.torch.load_file reads the file)",
            to.display()
        )
        .into());
    }
    let read = reading.file(from).read()?;
    let all = read.entries().count();
    let mut state = read.main();
    if from_torchvision {
        state = state.renamed(&Renaming::torchvision_to_keywords())?;
    }
    quant_train::files::write(to, &state.to_bytes()?)?;
    let count = state.entries().count();
    let rest = match all - count {
        0 => String::new(),
        rest => format!("; {rest} entries under other keys were left out (--key chooses the key)"),
    };
    Ok(format!("{count} entries in {}{rest}", to.display()))
}
