//! What can go wrong in a run.

use std::path::PathBuf;

use quant_data::DataError;
use quant_nn::NetworkError;

/// Why a run cannot start, go on or be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A network cannot be built or loaded.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
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
        "process {rank}: process {missing:?} of the group has not answered for {seconds} s: it has ended or hangs; resume \
         from the last checkpoint"
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
    /// The loss is no longer a number.
    #[error(
        "phase {phase}, step {step}: the loss is {loss}: training has diverged; lower the learning rate \
         or clip gradients (the last checkpoint is kept)"
    )]
    Diverged {
        /// Name of the phase.
        phase: String,
        /// Optimizer steps so far.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// A run folder is in use by nothing that can be resumed.
    #[error("{path}: not a run folder ({missing} is missing)")]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
}

impl TrainError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| TrainError::Io { path, source }
    }
}
