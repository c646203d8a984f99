//! Networks from files: those of runs, of PyTorch, and of other programs. Evaluation, summaries,
//! reports, teachers and the start of a phase all read them here.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use quant_nn::{Classifier, LoadReport, Network, NetworkConfig, NetworkError, Renaming, StateDict};

use super::pytorch;
use crate::{error::TrainError, files};

/// A file of weights, and how it is read.
///
/// ```
/// use burn::tensor::Device;
/// use quant_nn::{
///     NetworkConfig, ResNetConfig, StateDict,
///     resnet::{Depth, Stem},
/// };
/// use quant_train::WeightsFile;
///
/// let config = ResNetConfig {
///     width_alpha: 0.25,
///     ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
/// };
/// let config = NetworkConfig::from(config);
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("net.safetensors");
/// std::fs::write(&path, StateDict::of(&config.init(&Device::flex())?).to_bytes()?)?;
///
/// let state = WeightsFile::new(path).read()?; // a checkpoint of PyTorch is read in the same way
/// let (network, report) = state.load_into(config.init(&Device::flex())?);
/// report.require(false)?;
/// # let _ = network;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// A safetensors file or a PyTorch checkpoint.
    pub path: PathBuf,
    /// The key under which the weights are stored, such as `state_dict_ema`. By default they are
    /// taken from the place where they fit ([`StateDict::load_into`]).
    pub key: Option<String>,
    /// A file of renaming rules ([`Renaming::parse`]). They apply to the names that
    /// [`StateDict::main`] gives.
    pub map: Option<PathBuf>,
}

impl WeightsFile {
    /// Returns the file at `path`, without a key and without renaming rules.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key: None, map: None }
    }

    /// Reads the entries of the file. The first bytes say whether it is a safetensors file or a
    /// PyTorch checkpoint. Entries have the names that they have in the file; the names of nested
    /// dictionaries are joined by dots. Floats of 16, 32 and 64 bits, integers and truth values
    /// become 32-bit floats. Nothing in the file is executed.
    ///
    /// With a key, the result is the entries below it. With renaming rules, they have the names
    /// that the rules give them.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the file cannot be read or is damaged, and with the errors of
    /// [`StateDict::under`], [`Renaming::parse`] and [`StateDict::renamed`];
    /// [`TrainError::Io`] if the file of the rules cannot be read.
    pub fn read(&self) -> Result<StateDict, TrainError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source: NetworkError| TrainError::Weights { path, reason: source.to_string() }
        };
        if self.path.is_dir() {
            let reason =
                "it is a folder; the networks of a run are in the files <phase>/last.safetensors";
            return Err(TrainError::Weights { path: self.path.clone(), reason: reason.into() });
        }
        files::check_regular(&self.path).map_err(|error| TrainError::Weights {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        let mut state = read_state(&self.path)?;
        if let Some(key) = &self.key {
            state = state.under(key).map_err(at(&self.path))?;
        }
        if let Some(map) = &self.map {
            let text = files::check_regular(map).and_then(|()| fs::read_to_string(map));
            let text = text.map_err(TrainError::io(map))?;
            let rules = Renaming::parse(&text).map_err(at(map))?;
            state = state.main().renamed(&rules).map_err(at(&self.path))?;
        }
        Ok(state)
    }
}

/// Reads a safetensors file or a PyTorch checkpoint.
fn read_state(path: &Path) -> Result<StateDict, TrainError> {
    let fail = |reason: String| TrainError::Weights { path: path.to_owned(), reason };
    let io = |error: std::io::Error| fail(error.to_string());
    let mut start = Vec::new();
    fs::File::open(path).and_then(|file| file.take(9).read_to_end(&mut start)).map_err(io)?;
    // A safetensors file begins with the length of a JSON header, in eight bytes, and its brace.
    if start.get(8) == Some(&b'{') || start.is_empty() {
        let bytes = fs::read(path).map_err(io)?;
        StateDict::from_bytes(&bytes).map_err(|error| fail(error.to_string()))
    } else {
        pytorch::read(path)
    }
}

/// Sets the parameters of `network` from a state that was read from `file`.
pub(crate) fn load<M: Classifier>(
    file: &WeightsFile,
    state: &StateDict,
    network: M,
) -> (M, LoadReport) {
    let (network, mut report) = state.load_into(network);
    if let Some(key) = &file.key {
        report.prefix = format!("{key}.{}", report.prefix);
    }
    (network, report)
}

/// Returns a message about the first entry of a network's state that has a number that is not
/// finite.
pub(crate) fn not_finite<M: Classifier>(network: &M) -> Option<String> {
    let state = StateDict::of(network);
    state.entries().find_map(|(name, entry)| {
        let value = entry.values.iter().find(|value| !value.is_finite())?;
        Some(format!("{name} holds {value}"))
    })
}

/// Checks that all numbers of the network of a file are finite.
///
/// # Errors
/// [`TrainError::Weights`] with the first that is not.
pub(crate) fn check_finite<M: Classifier>(
    file: &WeightsFile,
    network: &M,
) -> Result<(), TrainError> {
    match not_finite(network) {
        None => Ok(()),
        Some(found) => {
            let reason = format!("{found}: its scores would not be numbers");
            Err(TrainError::Weights { path: file.path.clone(), reason })
        }
    }
}

/// A network that was read, and how it was read.
#[derive(Debug)]
pub struct Loaded {
    /// The network that has the weights.
    pub network: Network,
    /// What was done with the entries of the file.
    pub report: LoadReport,
    /// The name of the candidate that fits the file. It is `None` where the file itself describes
    /// its network.
    pub candidate: Option<String>,
    /// The names of the classes that the network was trained on, in the order of its scores. They
    /// are empty where the file does not know them.
    pub classes: Vec<String>,
}

/// Reads the network of a file. If the file does not describe its network, it is the first of
/// `candidates`, each with its name, that the file fits completely. If it fits none of them, the
/// error describes how it differs from the candidate that fits best.
///
/// # Errors
/// The errors of reading; [`TrainError::Weights`] where nothing describes the network, and where
/// the entries of the file do not fit it.
pub fn read_network(
    file: &WeightsFile,
    candidates: &[(String, NetworkConfig)],
    device: &Device,
) -> Result<Loaded, TrainError> {
    let state = file.read()?;
    let fail = |reason: String| TrainError::Weights { path: file.path.clone(), reason };
    let classes = classes_of(&state);
    if let Some(network) = state.network(device)? {
        let (network, report) = load(file, &state, network);
        report.require(false).map_err(|error| fail(error.to_string()))?;
        return Ok(Loaded { network, report, candidate: None, classes });
    }
    let mut refusals = Vec::new();
    for (name, config) in candidates {
        let (network, report) = load(file, &state, config.init(device)?);
        match report.require(false) {
            Ok(()) => {
                return Ok(Loaded { network, report, candidate: Some(name.clone()), classes });
            }
            Err(error) => {
                let faults = report.missing.len() + report.unused.len() + report.mismatched.len();
                let advice = advice(&network, &report);
                refusals.push((faults, format!("as network {name:?}: {error}{advice}")));
            }
        }
    }
    // The error is the one for the candidate that fits best.
    let nearest = refusals.into_iter().min_by_key(|(faults, _)| *faults);
    Err(fail(nearest.map(|(_, refusal)| refusal).unwrap_or_else(|| {
        "it does not describe its network; give the recipe of the network (--recipe)".into()
    })))
}

/// Returns the names of the classifier's parameters, if the weights have another number of classes
/// than the network. The classifier is the last layer, and the first size of its weight is the
/// number of classes.
pub(crate) fn other_classifier<M: Classifier>(network: &M, report: &LoadReport) -> Vec<String> {
    let Some(last) = network.layer_shapes().pop() else {
        return Vec::new();
    };
    let (last, classes) = (last.name, last.weight[0]);
    let other = report.mismatched.iter().filter(|(name, theirs, ours)| {
        name.strip_prefix(&last).is_some_and(|rest| rest.starts_with('.'))
            && !report.is_quantizers(name)
            && ours.first() == Some(&classes)
            && theirs.len() == ours.len()
            && theirs.get(1..) == ours.get(1..)
    });
    other.map(|(name, ..)| name.clone()).collect()
}

/// Returns the candidates with the number of classes that the classifier in the file has, where
/// that is known. It is for files that are inspected without data.
///
/// # Errors
/// The errors of reading, and of networks that cannot be built.
#[doc(hidden)]
pub fn with_classes_of(
    file: &WeightsFile,
    mut candidates: Vec<(String, NetworkConfig)>,
    device: &Device,
) -> Result<Vec<(String, NetworkConfig)>, TrainError> {
    let state = file.read()?;
    for (_, config) in &mut candidates {
        let (network, report) = state.load_into(config.init(device)?);
        let classifier = other_classifier(&network, &report);
        let other = report.mismatched.iter().find(|(name, ..)| classifier.contains(name));
        if let Some(classes) = other.and_then(|(_, theirs, _)| theirs.first()) {
            config.set_data(*classes, config.input_size());
        }
    }
    Ok(candidates)
}

/// Returns advice for loading a state that does not fit.
fn advice(network: &Network, report: &LoadReport) -> String {
    if report.loaded.is_empty() {
        return "; `quant inspect` lists its names, --key selects the key that they are under, and \
                --map renames them"
            .into();
    }
    if report.missing.iter().any(|name| report.is_quantizers(name)) {
        return "; it was trained without these quantizers: choose a phase without them by --phase"
            .into();
    }
    if report.mismatched.len() == other_classifier(network, report).len()
        && !report.mismatched.is_empty()
    {
        let classes = network.config().classes();
        return format!(
            "; it was trained on other classes than the {classes} classes of the data: evaluate it \
             on its own data, or fine-tune it to these classes (`init` and \
             `fresh_classifier = true` in a phase)"
        );
    }
    let advice = if report.mismatched.is_empty() {
        "; --map renames entries or drops them"
    } else {
        "; it is of another network than [model] describes"
    };
    advice.to_owned()
}

/// Returns the state of a network with its configuration, as the bytes of a safetensors file.
///
/// # Errors
/// The errors of the format.
#[doc(hidden)]
pub fn state_bytes<M: Classifier>(network: &M) -> Result<Vec<u8>, TrainError> {
    Ok(StateDict::of(network).to_bytes()?)
}

/// The name of the classes in the metadata of a file of weights.
const CLASSES: &str = "classes";

/// Returns the state of a network as [`state_bytes`] does, with the names of the classes that it
/// was trained on.
pub(crate) fn trained_bytes<M: Classifier>(
    network: &M,
    classes: &[String],
) -> Result<Vec<u8>, TrainError> {
    let names = serde_json::to_string(classes).unwrap_or_default();
    Ok(StateDict::of(network).with_metadata(CLASSES, names).to_bytes()?)
}

/// Returns the names of the classes that the network of a file was trained on. They are empty where
/// the file does not know them.
pub(crate) fn classes_of(state: &StateDict) -> Vec<String> {
    let names = state.metadata().get(CLASSES);
    names.and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default()
}
