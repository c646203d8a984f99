//! Checkpoints: everything that a phase needs to continue from a step with the same result as
//! without the interruption.
//!
//! A checkpoint is a folder `step-<n>`. It contains the network under PyTorch's names
//! (`model.safetensors`), the network with the identities of its parameters (`network.bpk`), the
//! moving average if there is one (`average.bpk`), the state of the optimizers, and
//! `progress.json`, which has the checksums of the other files and its own. It appears complete or
//! not at all. The two newest checkpoints are kept. All checksums are verified before anything in a
//! checkpoint is used.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use burn::{store::ModuleRecord, tensor::Bytes};
use quant_nn::{Classifier, ops::channels_last};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::training::state::{EpochSums, Progress};
use crate::{
    error::TrainError,
    files,
    networks::weights::state_bytes,
    optimize::{average::Average, optimizer::Optimizers},
    recipe::phase::Phase,
    training::state::TrainState,
};

/// The content of `progress.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    progress: Progress,
    #[serde(rename = "recipe")]
    phase: Phase,
    /// A description of the network's structure that differs from that of any other structure.
    network: serde_json::Value,
    optimizer_groups: usize,
    /// The other files: the name of each, and its checksum as [`files::checksum`] writes it.
    files: BTreeMap<String, String>,
}

const VERSION: u32 = 3;

const PROGRESS: &str = "progress.json";

/// The number of checkpoints that are kept: the newest and the one before it.
const KEPT: usize = 2;

/// Saves the state of a phase below `folder`.
///
/// # Errors
/// [`TrainError::Diverged`] for a state that is not finite, and [`TrainError::Io`]. Earlier
/// checkpoints are then unchanged.
pub fn save<M: Classifier>(
    folder: &Path,
    phase: &Phase,
    state: &TrainState<M>,
) -> Result<(), TrainError> {
    let TrainState { network, optimizers, progress, average } = state;
    state.check(phase)?;
    let path = folder.join(format!("step-{:09}", progress.step));
    let fail = |reason: String| TrainError::Checkpoint { path: path.clone(), reason };
    // `valid` returns a copy in which the running statistics are up to date.
    let snapshot = network.valid();
    let record = |network: &M| {
        let bytes = network.clone().into_record().into_bytes();
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| fail(error.to_string()))
    };
    let groups = optimizers.to_bytes().map_err(fail)?;
    let optimizer_groups = groups.len();
    let names: Vec<String> = (0..groups.len()).map(optimizer_file).collect();
    let mut contents =
        vec![("model.safetensors", state_bytes(&snapshot)?), ("network.bpk", record(&snapshot)?)];
    if let Some(average) = average {
        contents.push(("average.bpk", record(&average.network)?));
    }
    contents.extend(names.iter().map(String::as_str).zip(groups));
    let sums = contents.iter().map(|(name, bytes)| ((*name).to_owned(), files::checksum(bytes)));
    let header = Header {
        version: VERSION,
        progress: progress.clone(),
        phase: phase.clone(),
        network: network.structure(),
        optimizer_groups,
        files: sums.collect(),
    };
    contents.push((PROGRESS, files::sealed(&header).map_err(|error| fail(error.to_string()))?));
    files::write_folder(&path, &contents)?;
    prune(folder, progress.step)
}

/// Removes the checkpoints below `folder` that are not needed at this step: all but the newest, and
/// those with later steps, which were damaged and passed over when the phase was resumed.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn prune(folder: &Path, step: usize) -> Result<(), TrainError> {
    let (past, future): (Vec<_>, Vec<_>) =
        list(folder)?.into_iter().partition(|(other, _)| *other <= step);
    let mut unneeded = past.into_iter().rev().skip(KEPT).chain(future);
    unneeded.try_for_each(|(_, old)| files::remove(&old))
}

fn optimizer_file(group: usize) -> String {
    format!("optimizer-{group}.bpk")
}

/// Restores the newest usable checkpoint below `folder` into `network`. Returns `None` if there is
/// no checkpoint. Calls `damaged` with the error of every damaged checkpoint that it passes over.
///
/// # Errors
/// [`TrainError::Foreign`] for a checkpoint of another recipe or network, and
/// [`TrainError::Checkpoint`] if all checkpoints are damaged.
pub fn load<M: Classifier>(
    folder: &Path,
    phase: &Phase,
    network: &M,
    mut damaged: impl FnMut(&TrainError),
) -> Result<Option<TrainState<M>>, TrainError> {
    let mut last = None;
    for (_, path) in list(folder)?.into_iter().rev() {
        match load_one(&path, phase, network) {
            Ok(state) => return Ok(Some(state)),
            Err(error @ (TrainError::Foreign { .. } | TrainError::Network(_))) => {
                return Err(error);
            }
            Err(error) => {
                damaged(&error);
                last = Some(error);
            }
        }
    }
    match last {
        None => Ok(None),
        Some(TrainError::Checkpoint { path, reason }) => {
            let advice = "no other checkpoint of this phase is usable; remove its folder \
                          `checkpoints` to train the phase from its start";
            Err(TrainError::Checkpoint { path, reason: format!("{reason}; {advice}") })
        }
        Some(error) => Err(error),
    }
}

fn load_one<M: Classifier>(
    path: &Path,
    phase: &Phase,
    network: &M,
) -> Result<TrainState<M>, TrainError> {
    let fail = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
    let (header, contents) = verified(path)?;
    let read = |name: &str| {
        contents.get(name).cloned().ok_or_else(|| fail(format!("{name} is not one of its files")))
    };
    check_same(path, "network", &header.network, &network.structure())?;
    check_same(path, "phase", &header.phase.lasting(), &phase.lasting())?;
    let progress = header.progress;
    let mut network = network.clone();
    for policy in &progress.policies {
        let policy = phase.policies.get(*policy);
        let policy =
            policy.ok_or_else(|| fail("it has a policy that the recipe does not have".into()))?;
        policy.apply(&mut network)?;
    }
    let restore = |name: &str, network: M| {
        let bytes = Bytes::from_bytes_vec(read(name)?);
        // Burn may panic for a record whose checksum is right but which is not a record of this
        // network.
        let restored = catch_unwind(AssertUnwindSafe(|| {
            let record = ModuleRecord::from_bytes(bytes).map_err(|error| error.to_string())?;
            network.try_load_record(record).map_err(|error| error.to_string())
        }));
        restored
            .unwrap_or_else(|_| Err("it is not a record of this network".into()))
            .map_err(|error| fail(format!("{name}: {error}")))
    };
    let average = match phase.average {
        Some(decay) => Some(Average::resume(restore("average.bpk", network.valid())?, decay)),
        None => None,
    };
    let network = channels_last(restore("network.bpk", network)?);
    let states: Result<Vec<_>, _> =
        (0..header.optimizer_groups).map(|group| read(&optimizer_file(group))).collect();
    let optimizers = Optimizers::new(phase.optimizer, &phase.groups, &network);
    let states = states?;
    let optimizers = catch_unwind(AssertUnwindSafe(|| optimizers.load(states)))
        .unwrap_or_else(|_| Err("it is not a state of this optimizer".into()))
        .map_err(|error| fail(format!("optimizer: {error}")))?;
    let state = TrainState { network, optimizers, progress, average };
    state.check(phase)?;
    Ok(state)
}

/// Returns the header of a checkpoint and the contents of its other files, after all checksums have
/// been verified.
fn verified(path: &Path) -> Result<(Header, BTreeMap<String, Vec<u8>>), TrainError> {
    let fail = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
    let read = |name: &str| files::read(&path.join(name)).map_err(TrainError::io(path.join(name)));
    let bytes = read(PROGRESS)?;
    let version = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let version = version.and_then(|header| header.get("version")?.as_u64());
    if let Some(other) = version.filter(|version| *version != u64::from(VERSION)) {
        return Err(fail(format!("it has version {other}, and this program reads {VERSION}")));
    }
    let header: Header =
        files::unsealed(&bytes).map_err(|reason| fail(format!("{PROGRESS}: {reason}")))?;
    let mut contents = BTreeMap::new();
    for (name, sum) in &header.files {
        // The names have to be plain file names, so that nothing outside of the checkpoint is read.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(fail(format!("{name:?} is not the name of a file")));
        }
        let bytes = read(name)?;
        if files::checksum(&bytes) != *sum {
            return Err(fail(format!("{name} is damaged: its checksum is wrong")));
        }
        contents.insert(name.clone(), bytes);
    }
    Ok((header, contents))
}

/// Returns whether a phase whose checkpoints are in `folder` has one, usable or not.
pub(crate) fn exists(folder: &Path) -> bool {
    list(folder).is_ok_and(|found| !found.is_empty())
}

/// Returns the number of completed epochs at the newest checkpoint in `folder` whose header is
/// intact.
pub(crate) fn epochs_done(folder: &Path) -> Option<usize> {
    let found = list(folder).ok()?.into_iter().rev();
    let mut headers = found.filter_map(|(_, path)| {
        let bytes = files::read(&path.join(PROGRESS)).ok()?;
        files::unsealed::<Header>(&bytes).ok()
    });
    headers.next().map(|header| header.progress.epoch)
}

fn check_same<T: PartialEq + Serialize>(
    path: &Path,
    field: &'static str,
    theirs: &T,
    ours: &T,
) -> Result<(), TrainError> {
    if theirs == ours {
        return Ok(());
    }
    let json = |value: &T| serde_json::to_value(value).unwrap_or_default();
    let (field, theirs, ours) = first_difference(field.to_owned(), &json(theirs), &json(ours));
    Err(TrainError::Foreign { path: path.to_owned(), field, theirs, ours })
}

/// Returns the first field in which two values differ, and what each of them has there.
fn first_difference(at: String, theirs: &Value, ours: &Value) -> (String, String, String) {
    if let (Value::Object(theirs), Value::Object(ours)) = (theirs, ours) {
        let names = theirs.keys().chain(ours.keys());
        if let Some(name) = names.into_iter().find(|name| theirs.get(*name) != ours.get(*name)) {
            let of = |values: &Map<String, Value>| values.get(name).cloned().unwrap_or_default();
            return first_difference(format!("{at}.{name}"), &of(theirs), &of(ours));
        }
    }
    let text = |value: &Value| match value {
        Value::Null => "not set".to_owned(),
        value => value.to_string(),
    };
    (at, text(theirs), text(ours))
}

/// Returns the checkpoints below `folder` with their steps, in ascending order.
fn list(folder: &Path) -> Result<Vec<(usize, PathBuf)>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainError::io(folder)(error)),
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
