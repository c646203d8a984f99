//! Networks from files: those that runs have written, PyTorch's, anybody's. Evaluation, summaries,
//! reports, teachers and the start of a phase all read them here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use quant_nn::{Classifier, LoadReport, Network, NetworkConfig, NetworkError, Renaming, StateDict};

use crate::error::TrainError;

/// A file of weights, and how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// A safetensors file or a PyTorch checkpoint.
    pub path: PathBuf,
    /// The key that the weights are filed under, such as `state_dict_ema`; by default they are
    /// taken from wherever they fit ([`StateDict::load_into`]).
    pub key: Option<String>,
    /// A file of renaming rules ([`Renaming::parse`]) for names as [`StateDict::main`] gives them.
    pub map: Option<PathBuf>,
}

impl WeightsFile {
    /// The file at `path`, read as is usual.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key: None, map: None }
    }

    /// Its entries: those below the key, where there is one, with the names that the rules give
    /// them.
    ///
    /// # Errors
    /// Those of [`StateDict::read`], [`StateDict::under`], [`Renaming::parse`] and
    /// [`StateDict::renamed`], with the path.
    pub fn read(&self) -> Result<StateDict, TrainError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source: NetworkError| TrainError::Weights { path, reason: source.to_string() }
        };
        if self.path.is_dir() {
            let reason = "it is a folder; the networks of a run are its <phase>/last.safetensors";
            return Err(TrainError::Weights { path: self.path.clone(), reason: reason.into() });
        }
        let mut state = StateDict::read(&self.path)?;
        if let Some(key) = &self.key {
            state = state.under(key).map_err(at(&self.path))?;
        }
        if let Some(map) = &self.map {
            let text = fs::read_to_string(map).map_err(TrainError::io(map))?;
            let rules = Renaming::parse(&text).map_err(at(map))?;
            state = state.main().renamed(&rules).map_err(at(&self.path))?;
        }
        Ok(state)
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

/// A network that was read, and how.
#[derive(Debug)]
pub struct Loaded {
    /// The network.
    pub network: Network,
    /// What became of the file's entries.
    pub report: LoadReport,
    /// Which of the candidates it is, by name; none where the file says itself what it is of.
    pub candidate: Option<String>,
}

/// The network that a file holds: what it says itself, or else the first of `candidates`, with
/// their names, that it fits whole. Of a file that fits none, the nearest says what is wrong.
///
/// # Errors
/// Those of reading; [`TrainError::Weights`] where nothing says what network it is, and where its
/// entries are not that network's.
pub fn read_network(
    file: &WeightsFile,
    candidates: &[(String, NetworkConfig)],
    device: &Device,
) -> Result<Loaded, TrainError> {
    let state = file.read()?;
    let fail = |reason: String| TrainError::Weights { path: file.path.clone(), reason };
    if let Some(network) = state.network(device)? {
        let (network, report) = load(file, &state, network);
        report.require(false).map_err(|error| fail(error.to_string()))?;
        return Ok(Loaded { network, report, candidate: None });
    }
    let mut refusals = Vec::new();
    for (name, config) in candidates {
        let (network, report) = load(file, &state, config.init(device)?);
        match report.require(false) {
            Ok(()) => return Ok(Loaded { network, report, candidate: Some(name.clone()) }),
            Err(error) => {
                let faults = report.missing.len() + report.unused.len() + report.mismatched.len();
                let advice = advice(&network, &report);
                refusals.push((faults, format!("as network {name:?}: {error}{advice}")));
            }
        }
    }
    // The nearest one says the most.
    let nearest = refusals.into_iter().min_by_key(|(faults, _)| *faults);
    Err(fail(nearest.map(|(_, refusal)| refusal).unwrap_or_else(|| {
        "it does not say what network it is of; a recipe does (--recipe)".into()
    })))
}

/// The parameters of the classifier, where its classes are others in the weights: those of the last
/// layer, whose first size is the number of classes.
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

/// The candidates with as many classes as the classifier of the file has, where that can be told.
/// For files that are looked at without data.
///
/// # Errors
/// Those of reading and of networks that cannot be built.
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

/// What would make a state fit that does not.
fn advice(network: &Network, report: &LoadReport) -> String {
    if report.loaded.is_empty() {
        return "; `quant inspect` lists its names, --key chooses where they lie, and --map renames \
                them"
            .into();
    }
    if report.missing.iter().any(|name| report.is_quantizers(name)) {
        return "; it was trained without these quantizers: --phase chooses a phase without them"
            .into();
    }
    if report.mismatched.len() == other_classifier(network, report).len()
        && !report.mismatched.is_empty()
    {
        let classes = network.config().classes();
        return format!(
            "; it was trained on other classes than the {classes} of the data: evaluate it on its own, \
             or fine-tune it to these (`init` and `fresh_classifier = true` in a phase)"
        );
    }
    match report.mismatched.is_empty() {
        true => "; --map renames entries or drops them",
        false => "; it is of another network than [model] describes",
    }
    .into()
}

/// The state of a network with its configuration, as the bytes of a safetensors file.
///
/// # Errors
/// Those of the format.
pub fn state_bytes<M: Classifier>(network: &M) -> Result<Vec<u8>, TrainError> {
    Ok(StateDict::of(network).to_bytes()?)
}
