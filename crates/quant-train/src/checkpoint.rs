//! Checkpoints: everything a phase is, so that it can go on from any step as if it had never
//! stopped.
//!
//! A checkpoint is a folder `step-<n>` with the network under PyTorch's names (`model.safetensors`),
//! the same with parameter identities (`network.bpk`), the moving average where there is one
//! (`average.bpk`), the optimizer's state, and `progress.json`.
//! It appears complete or not at all; the two newest are kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::{module::Module, store::ModuleRecord, tensor::Bytes};
use quant_nn::{Network, NetworkConfig};
use serde::{Deserialize, Serialize};

use crate::{
    average::Average, error::TrainError, evaluate::Score, files, optimizer::Optimizers,
    phase::Phase, precision::LossScale, trainer::TrainState, weights::state_bytes,
};

/// Where a phase stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Name of the phase.
    pub phase: String,
    /// The current epoch.
    pub epoch: usize,
    /// Batches of it that are done.
    pub batch: usize,
    /// Optimizer steps of the phase.
    pub step: usize,
    /// Batches of the phase that were trained on.
    pub calls: usize,
    /// Policies that were applied, in that order, by their index in the recipe.
    pub policies: Vec<usize>,
    /// The loss scale of mixed precision.
    pub loss_scale: Option<LossScale>,
    /// Sums over the epoch so far.
    pub sums: EpochSums,
    /// The best score so far, and its epoch.
    pub best: Option<(usize, Score)>,
}

/// Sums over the training images of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Of losses.
    pub loss: f64,
    /// Of right answers.
    pub right: f64,
    /// Of images.
    pub images: usize,
}

/// What `progress.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    progress: Progress,
    recipe: Phase,
    network: NetworkConfig,
    optimizer_groups: usize,
}

const VERSION: u32 = 2;

/// The newest and the one before.
const KEPT: usize = 2;

/// Saves the state of a phase below `folder`.
///
/// # Errors
/// [`TrainError::Io`]; earlier checkpoints are then untouched.
pub fn save(folder: &Path, recipe: &Phase, state: &TrainState) -> Result<(), TrainError> {
    let TrainState { network, optimizers, progress, average } = state;
    let path = folder.join(format!("step-{:09}", progress.step));
    let fail = |reason: String| TrainError::Checkpoint { path: path.clone(), reason };
    // A snapshot: it brings running statistics up to date.
    let snapshot = network.valid();
    let record = |network: &Network| {
        let bytes = network.clone().into_record().into_bytes();
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| fail(error.to_string()))
    };
    let groups = optimizers.to_bytes().map_err(fail)?;
    let header = Header {
        version: VERSION,
        progress: progress.clone(),
        recipe: recipe.clone(),
        network: network.config().clone(),
        optimizer_groups: groups.len(),
    };
    let header = serde_json::to_vec_pretty(&header).map_err(|error| fail(error.to_string()))?;
    let names: Vec<String> = (0..groups.len()).map(optimizer_file).collect();
    let mut contents = vec![
        ("model.safetensors", state_bytes(&snapshot)?),
        ("network.bpk", record(&snapshot)?),
        ("progress.json", header),
    ];
    if let Some(average) = average {
        contents.push(("average.bpk", record(&average.network)?));
    }
    contents.extend(names.iter().map(String::as_str).zip(groups));
    files::write_folder(&path, &contents)?;
    for (_, old) in list(folder)?.into_iter().rev().skip(KEPT) {
        fs::remove_dir_all(&old).map_err(TrainError::io(&old))?;
    }
    Ok(())
}

fn optimizer_file(group: usize) -> String {
    format!("optimizer-{group}.bpk")
}

/// Restores the newest usable checkpoint below `folder` into `network`. `None` where there is none;
/// a damaged one is named to `damaged` and passed over.
///
/// # Errors
/// [`TrainError::Foreign`] for a checkpoint of another recipe or network, and
/// [`TrainError::Checkpoint`] where every one is damaged.
pub fn load(
    folder: &Path,
    recipe: &Phase,
    network: &Network,
    mut damaged: impl FnMut(&TrainError),
) -> Result<Option<TrainState>, TrainError> {
    let mut last = None;
    for (_, path) in list(folder)?.into_iter().rev() {
        match load_one(&path, recipe, network) {
            Ok(state) => return Ok(Some(state)),
            Err(error @ TrainError::Foreign { .. }) => return Err(error),
            Err(error) => {
                damaged(&error);
                last = Some(error);
            }
        }
    }
    last.map_or(Ok(None), Err)
}

fn load_one(path: &Path, recipe: &Phase, network: &Network) -> Result<TrainState, TrainError> {
    let fail = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
    let read = |name: &str| fs::read(path.join(name)).map_err(TrainError::io(path.join(name)));
    let header: Header = serde_json::from_slice(&read("progress.json")?)
        .map_err(|error| fail(format!("progress.json: {error}")))?;
    if header.version != VERSION {
        return Err(fail(format!("version {}, expected {VERSION}", header.version)));
    }
    same(path, "network", &header.network, network.config())?;
    same(path, "phase", &header.recipe, recipe)?;
    let progress = header.progress;
    let mut network = network.clone();
    for policy in &progress.policies {
        let policy = recipe.policies.get(*policy);
        let policy = policy.ok_or_else(|| fail("a policy that the recipe has not".into()))?;
        policy.apply(&mut network).map_err(quant_nn::NetworkError::from)?;
    }
    let restore = |name: &str, network: Network| {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(read(name)?))
            .map_err(|error| fail(format!("{name}: {error}")))?;
        network.try_load_record(record).map_err(|error| fail(format!("{name}: {error}")))
    };
    let average = match recipe.average {
        Some(decay) => Some(Average::resume(restore("average.bpk", network.valid())?, decay)),
        None => None,
    };
    let network = restore("network.bpk", network)?;
    let states: Result<Vec<_>, _> =
        (0..header.optimizer_groups).map(|group| read(&optimizer_file(group))).collect();
    let optimizers = Optimizers::new(recipe.optimizer, &recipe.groups, &network)
        .load(states?)
        .map_err(|error| fail(format!("optimizer: {error}")))?;
    Ok(TrainState { network, optimizers, progress, average })
}

fn same<T: PartialEq + Serialize>(
    path: &Path,
    field: &'static str,
    theirs: &T,
    ours: &T,
) -> Result<(), TrainError> {
    if theirs == ours {
        return Ok(());
    }
    let text = |value: &T| serde_json::to_string(value).unwrap_or_default();
    let (theirs, ours) = (text(theirs), text(ours));
    Err(TrainError::Foreign { path: path.to_owned(), field, theirs, ours })
}

/// The checkpoints below `folder` with their steps, oldest first.
fn list(folder: &Path) -> Result<Vec<(usize, PathBuf)>, TrainError> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(TrainError::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("step-").and_then(|step| step.parse().ok()) {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
