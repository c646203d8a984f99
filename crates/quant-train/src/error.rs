//! What can go wrong in a run.

use std::path::PathBuf;

use quant_core::{QuantizerError, Role};
use quant_data::DataError;
use quant_nn::NetworkError;

use crate::schema::choices::text_of;

/// Why a program's own network cannot be made.
pub type BuildError = Box<dyn std::error::Error + Send + Sync>;

/// Why a run cannot start, go on or be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A network cannot be built or loaded.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A program's own network cannot be made.
    #[error("the program's own network cannot be made: {source}")]
    OwnNetwork {
        /// Why not.
        source: BuildError,
    },
    /// Data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error that caused it.
        source: std::io::Error,
    },
    /// A recipe is not valid TOML, or has a field that does not exist.
    #[error("{path}: {message}")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Where and why, with the nearest known field.
        message: String,
    },
    /// A field of a recipe is out of range.
    #[error("recipe: {field} = {value}: {accepted}")]
    Field {
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What would work.
        accepted: &'static str,
    },
    /// A number of a recipe is out of its bounds, or a value is not of the kind that its field
    /// takes.
    #[error("recipe: {field} = {value}: expected {takes}")]
    OutOfRange {
        /// The field, as `--set` names it.
        field: String,
        /// Its value.
        value: String,
        /// What the field takes.
        takes: String,
    },
    /// Fields of a table of a recipe do not go together.
    #[error("recipe: {field}: {reason}")]
    Invalid {
        /// The table, as `--set` names it.
        field: String,
        /// Why not, and what would work.
        reason: String,
    },
    /// A change that was given to a recipe is not usable.
    #[error("--set {changes}: {reason}")]
    Change {
        /// The change as it was typed, or several that do not go together.
        changes: String,
        /// Why not, and what would work.
        reason: String,
    },
    /// A file that a phase names does not exist.
    #[error("phase {phase:?}: {field} = {path}, which is no file: expected {accepted}")]
    Absent {
        /// The phase.
        phase: String,
        /// The field that names the file.
        field: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What would work.
        accepted: &'static str,
    },
    /// A configuration of QTool is not usable.
    #[error("{place}: {reason}")]
    Qtool {
        /// The option, or file and line.
        place: String,
        /// Why.
        reason: String,
    },
    /// The device is not available.
    #[error("device {name:?}: {reason}; this binary has {available}")]
    Device {
        /// The device asked for.
        name: String,
        /// Why not.
        reason: String,
        /// The devices that can be asked for.
        available: String,
    },
    /// The run was asked to stop; everything is saved.
    #[error("stopped in phase {phase:?} after step {step}, as asked; everything is saved")]
    Stopped {
        /// The phase.
        phase: String,
        /// Steps of that phase so far.
        step: usize,
    },
    /// Another process of the group does not answer.
    #[error(
        "process {rank}: {} not answered for {seconds} s: it has ended or hangs; resume from the last \
         checkpoint",
        who(.missing)
    )]
    Lost {
        /// This process.
        rank: usize,
        /// Those that have not answered, where that is known.
        missing: Vec<usize>,
        /// How long they were waited for.
        seconds: u64,
    },
    /// MPI does not work.
    #[error("MPI: {reason}")]
    Mpi {
        /// Why.
        reason: String,
    },
    /// A checkpoint is damaged.
    #[error("{path}: not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file of weights is not one of the network that is wanted.
    #[error("{path}: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why not, and what would work.
        reason: String,
    },
    /// A recipe has no phase of a name.
    #[error("the recipe has no phase {name:?}; its phases are {}", .phases.join(", "))]
    NoPhase {
        /// The name.
        name: String,
        /// Those that it has.
        phases: Vec<String>,
    },
    /// The classes of the data are not those of the network.
    #[error(
        "{path}: a network of {network} classes cannot be evaluated on data of {data}: their labels \
         stand for other classes"
    )]
    Classes {
        /// The network's file.
        path: PathBuf,
        /// Classes of the network.
        network: usize,
        /// Classes of the data.
        data: usize,
    },
    /// The classes of the data are not those that a run was trained on.
    #[error("{path}: {change}: the network's scores stand for other classes than these labels")]
    OtherClasses {
        /// The data.
        path: PathBuf,
        /// What differs: what was found, and what was expected.
        change: String,
    },
    /// A checkpoint belongs to another recipe or network.
    #[error("{path}: a checkpoint of another run: {field} is {theirs}, expected {ours}")]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// In the checkpoint.
        theirs: String,
        /// Here.
        ours: String,
    },
    /// Something that training computes is no longer a finite number.
    #[error(
        "phase {phase}, step {step}: {found}: training has diverged. Lower the learning rate or clip \
         gradients; the last checkpoint, if there is one, is from before"
    )]
    Diverged {
        /// Name of the phase.
        phase: String,
        /// Optimizer steps so far.
        step: usize,
        /// What was found, such as "the loss is NaN".
        found: String,
    },
    /// A batch norm is to be trained on one value per channel, which has no variance.
    #[error(
        "phase {phase}: batch norm {layer} gets one value per channel (one image at one position) and \
         cannot be trained on it; take more images per batch, drop the last batch of an epoch \
         (last_batch = \"drop\"), or freeze its statistics (frozen_statistics)"
    )]
    OneValue {
        /// Name of the phase.
        phase: String,
        /// Name of the layer.
        layer: String,
    },
    /// Another process of the group has failed.
    #[error("process {rank} of the group has failed: {message}")]
    Peer {
        /// The process.
        rank: usize,
        /// Its error.
        message: String,
    },
    /// Another process writes in the run folder.
    #[error("{path}: the run is in use by {holder}; wait for its end, or stop it")]
    InUse {
        /// The run folder.
        path: PathBuf,
        /// The other process.
        holder: String,
    },
    /// The recipe of a run is not the one that it was started with.
    #[error(
        "{path}: the recipe is not the one that the run was started with:\n  {}\nPut these fields back, \
         change what may be changed with `quant resume <run folder> --set <field>=<value>`, or start a \
         new run with this recipe (quant train)",
        .changes.join("\n  ")
    )]
    OtherRecipe {
        /// The recipe's file.
        path: PathBuf,
        /// The fields that differ: what they were, and what they are.
        changes: Vec<String>,
    },
    /// A field cannot be changed while a run is going on.
    #[error(
        "these changes are not possible in a run that has begun:\n  {}\nTo train with them, start a new \
         run (quant train)",
        .changes.join("\n  ")
    )]
    Unchangeable {
        /// The fields, and why not.
        changes: Vec<String>,
    },
    /// The data or the devices are not those that a run was started with.
    #[error(
        "the run was started with other data or devices:\n  {}\nGive it what it was started with, or go on \
         all the same with --accept-changes",
        .changes.join("\n  ")
    )]
    OtherData {
        /// What differs: what was expected, and what was found.
        changes: Vec<String>,
    },
    /// A folder is not that of a run.
    #[error("{path}: not a run folder that can be used: {missing}")]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        missing: String,
    },
}

impl TrainError {
    /// The same of a phase: with its name before the field, and in the words of recipes what a
    /// quantizer's method cannot do.
    pub(crate) fn of_phase(self, name: &str) -> Self {
        match self {
            TrainError::Invalid { field, reason } if field.starts_with("quantization") => {
                TrainError::Invalid { field: format!("phase.{name}.{field}"), reason }
            }
            TrainError::Network(NetworkError::Quantizer(error)) => match unsupported(&error) {
                Some((role, reason)) => TrainError::Invalid {
                    field: format!("phase.{name}.quantization.{}", text_of(&role)),
                    reason,
                },
                None => NetworkError::Quantizer(error).into(),
            },
            other => other,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| TrainError::Io { path, source }
    }
}

/// Of the error of a method that does not go with a choice, the role of the quantizer and the
/// reason in the words of recipes.
pub(crate) fn unsupported(error: &QuantizerError) -> Option<(Role, String)> {
    let QuantizerError::Unsupported { field, value, method, role, nearest, .. } = error else {
        return None;
    };
    let method = text_of(method);
    let reason = format!(
        "{field} = {value} does not go with the method {method}; the nearest that does: {nearest}"
    );
    Some((*role, reason))
}

/// The processes that have not answered.
fn who(missing: &[usize]) -> String {
    let names: Vec<String> = missing.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "another process of the group has".to_owned(),
        [one] => format!("process {one} of the group has"),
        several => format!("processes {} of the group have", several.join(" and ")),
    }
}
