//! The errors of a run.

use std::path::PathBuf;

use quant_core::QuantizerError;
use quant_data::DataError;
use quant_export::LowerError;
use quant_nn::NetworkError;

use crate::output::text_of;

/// The reason why a program's own network cannot be made, or its own data cannot be opened.
pub type BuildError = Box<dyn std::error::Error + Send + Sync>;

/// The reason why a run cannot start, continue or be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A network cannot be built or loaded.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A program's own network cannot be made.
    #[error("the program's own network cannot be made: {source}")]
    OwnNetwork {
        /// Why the network could not be built.
        source: BuildError,
    },
    /// The program's own data cannot be opened.
    #[error("the program's own data cannot be opened: {source}")]
    OwnData {
        /// Why they cannot be opened.
        source: BuildError,
    },
    /// Data cannot be used in a phase.
    #[error("phase {phase:?}: {source}")]
    PhaseData {
        /// The name of the phase.
        phase: String,
        /// The reason.
        source: DataError,
    },
    /// Data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A network cannot be packed.
    #[error("the network cannot be packed: {0}")]
    Pack(#[from] LowerError),
    /// A packed network cannot be read or run.
    #[error(transparent)]
    Packed(#[from] quant_infer::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error that caused it.
        source: std::io::Error,
    },
    /// A recipe is not valid TOML, or it has a field that does not exist.
    #[error("{path}: {message}")]
    Recipe {
        /// The path of the file.
        path: PathBuf,
        /// The place in the file and the reason, with the nearest known field.
        message: String,
    },
    /// A field of a recipe has a value that is not accepted.
    #[error("recipe: {field} = {value}: expected {accepted}")]
    Field {
        /// The path of the field in the recipe.
        field: String,
        /// The value of the field.
        value: String,
        /// The values that are accepted, as a text that can follow "expected".
        accepted: &'static str,
    },
    /// A number of a recipe is out of its bounds, or a value has a type that its field does not
    /// take.
    #[error("recipe: {field} = {value}: expected {takes}")]
    OutOfRange {
        /// The field, as `--set` names it.
        field: String,
        /// The value of the field.
        value: String,
        /// The values that the field takes.
        takes: String,
    },
    /// Fields of a table of a recipe do not go together.
    #[error("recipe: {field}: {reason}")]
    Invalid {
        /// The table, as `--set` names it.
        field: String,
        /// The reason, and what is accepted instead.
        reason: String,
    },
    /// A change of a recipe by `--set` is not possible.
    #[error("--set {changes}: {reason}")]
    Change {
        /// The change as it was typed, or several changes that do not go together.
        changes: String,
        /// The reason, and what is accepted instead.
        reason: String,
    },
    /// A file that a phase names does not exist.
    #[error("phase {phase:?}: {field} = {path}, which is not a file: expected {accepted}")]
    Absent {
        /// The name of the phase.
        phase: String,
        /// The field of the recipe that names the file.
        field: String,
        /// The path at which the file was expected.
        path: PathBuf,
        /// What is accepted instead.
        accepted: &'static str,
    },
    /// A policy does not fit the network.
    #[error("policy for {quantizers}: {reason}")]
    Policy {
        /// The quantizers that the policy is for, or the one that it does not fit.
        quantizers: String,
        /// The reason, and what is possible.
        reason: String,
    },
    /// A configuration of QTool is not usable.
    #[error("{place}: {reason}")]
    Qtool {
        /// The option, or the file with the line.
        place: String,
        /// The reason, and what is expected.
        reason: String,
    },
    /// The device is not available.
    #[error("device {name:?}: {reason}; this binary has {available}")]
    Device {
        /// The device that was asked for.
        name: String,
        /// Why it cannot be used.
        reason: String,
        /// The devices that this build has.
        available: String,
    },
    /// The run was asked to stop, and its state is saved.
    #[error("stopped in phase {phase:?} after step {step}, as asked; everything is saved")]
    Stopped {
        /// The name of the phase.
        phase: String,
        /// The number of steps of that phase so far.
        step: usize,
    },
    /// Another process of the group does not answer.
    #[error(
        "process {rank}: {} not answered for {seconds} s: it has ended or hangs; resume from the \
         last checkpoint",
        subject(.missing)
    )]
    Lost {
        /// The rank of this process.
        rank: usize,
        /// The ranks of the processes that have not answered, where they are known.
        missing: Vec<usize>,
        /// The number of seconds that this process has waited.
        seconds: u64,
    },
    /// MPI does not work.
    #[error("MPI: {reason}")]
    Mpi {
        /// What MPI reports.
        reason: String,
    },
    /// A checkpoint is damaged.
    #[error("{path}: not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The path of the checkpoint.
        path: PathBuf,
        /// What is wrong with the checkpoint.
        reason: String,
    },
    /// A file of weights is not of the network that is needed.
    #[error("{path}: {reason}")]
    Weights {
        /// The path of the file.
        path: PathBuf,
        /// The reason, and what is accepted instead.
        reason: String,
    },
    /// A recipe has no phase with a name that was given.
    #[error("the recipe has no phase {name:?}; its phases are {}", .phases.join(", "))]
    NoPhase {
        /// The name that was given.
        name: String,
        /// The names of the recipe's phases.
        phases: Vec<String>,
    },
    /// The data and the network have different classes.
    #[error(
        "{path}: a network of {network} classes cannot be evaluated on data of {data}: the labels \
         do not mean the same classes. Evaluate it on data with its own classes"
    )]
    Classes {
        /// The file of the network.
        path: PathBuf,
        /// The number of classes of the network.
        network: usize,
        /// The number of classes of the data.
        data: usize,
    },
    /// The data have other classes than those that the run was trained on.
    #[error("{path}: the data have other classes than the network was trained on: {change}")]
    OtherClasses {
        /// The folder of the data.
        path: PathBuf,
        /// The difference: what was found, what was expected, and what would work.
        change: String,
    },
    /// A checkpoint belongs to another recipe or network.
    #[error("{path}: a checkpoint of another run: {field} is {theirs}, expected {ours}")]
    Foreign {
        /// The path of the checkpoint.
        path: PathBuf,
        /// The name of the part that differs.
        field: String,
        /// The value in the checkpoint.
        theirs: String,
        /// The value in this run.
        ours: String,
    },
    /// Something that training computes is no longer a finite number.
    #[error(
        "phase {phase}, step {step}: {found}: training has diverged. The usual cause is the \
         learning rate: lower it, or clip gradients. Other causes are a weight_decay or loss \
         factor that is too large, a data.std that does not fit the images, and batches of very \
         few images. The last checkpoint, if there is one, is from before. If a resumed run \
         diverges at once, the weights had grown too large by then: remove the newest folder in \
         {phase}/checkpoints, and the one before it is used"
    )]
    Diverged {
        /// Name of the phase.
        phase: String,
        /// The number of optimizer steps so far.
        step: usize,
        /// The value that is not finite, such as "the loss is NaN".
        found: String,
    },
    /// A batch norm is to be trained on one value per channel, which has no variance.
    #[error(
        "phase {phase}: batch norm {layer} gets one value per channel (one image at one position) \
         and cannot be trained on it; take more images per batch, drop the last batch of an epoch \
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
        /// The rank of the process.
        rank: usize,
        /// The message of its error.
        message: String,
    },
    /// Another process writes in the run folder.
    #[error("{path}: the run is in use by {holder}; wait until it ends, or stop it")]
    InUse {
        /// The path of the run folder.
        path: PathBuf,
        /// The other process, with its command.
        holder: String,
    },
    /// The folder of a run was deleted, moved or replaced while the run was writing in it.
    #[error(
        "{path}: the run folder was deleted, moved or replaced while the run was using it; nothing \
         more is written. If it was moved, continue the run in its new place; if it was deleted, \
         start a new run"
    )]
    Gone {
        /// The path that the folder had.
        path: PathBuf,
    },
    /// The network of a run is made by another program.
    #[error(
        "{path}: {program} trained this run with a network of its own ({own}), which `quant` \
         cannot build: use that program's commands: {program} eval {path}, and likewise report, \
         summary and codes, or --resume {path}"
    )]
    OwnProgram {
        /// The folder of the run.
        path: PathBuf,
        /// The name of the program.
        program: String,
        /// The name of the network.
        own: String,
    },
    /// The recipe in the folder of a run differs from the recipe that the run was started with.
    #[error(
        "{path}: the recipe is not the one that the run was started with:\n  {}\nPut these fields \
         back, change what may be changed with `quant resume <run folder> --set <field>=<value>`, \
         or start a new run with this recipe (quant train)",
        .changes.join("\n  ")
    )]
    OtherRecipe {
        /// The file of the recipe.
        path: PathBuf,
        /// The fields that differ, with their values at the start and now.
        changes: Vec<String>,
    },
    /// A field cannot be changed in a run that has begun.
    #[error(
        "these changes are not possible in a run that has begun:\n  {}\nTo train with them, \
         start a new run (quant train)",
        .changes.join("\n  ")
    )]
    Unchangeable {
        /// The fields, each with the reason.
        changes: Vec<String>,
    },
    /// The run continues with other data or devices than those that it was started with.
    #[error(
        "the run was started with other data or devices:\n  {}\nResume it with the data and \
         the devices that it was started with, or continue with these by --accept-changes",
        .changes.join("\n  ")
    )]
    OtherData {
        /// The differences: what was found, and what was expected.
        changes: Vec<String>,
    },
    /// A folder is not the folder of a run, or it lacks what is needed.
    #[error("{path}: not a run folder that can be used: {missing}")]
    NoRun {
        /// The path of the folder.
        path: PathBuf,
        /// What the folder lacks.
        missing: String,
    },
}

impl From<QuantizerError> for TrainError {
    fn from(error: QuantizerError) -> Self {
        TrainError::Network(error.into())
    }
}

impl TrainError {
    /// Returns what the user must add to the resume command to continue after this error. `None`:
    /// resuming would fail again.
    pub fn resumes_with(&self) -> Option<String> {
        use std::io::ErrorKind::{
            AlreadyExists, InvalidInput, IsADirectory, NotADirectory, PermissionDenied,
            ReadOnlyFilesystem,
        };
        match self {
            TrainError::Stopped { .. }
            | TrainError::Lost { .. }
            | TrainError::Peer { .. }
            | TrainError::Mpi { .. } => Some(String::new()),
            TrainError::Io { source, .. } => {
                let lasting = [
                    AlreadyExists,
                    InvalidInput,
                    IsADirectory,
                    NotADirectory,
                    PermissionDenied,
                    ReadOnlyFilesystem,
                ];
                (!lasting.contains(&source.kind())).then(String::new)
            }
            // Images may be readable again when the run continues.
            TrainError::Data(
                DataError::Io { .. } | DataError::NoThread { .. } | DataError::TooManyBroken { .. },
            ) => Some(String::new()),
            TrainError::Diverged { phase, .. } => {
                Some(format!(" --set phase.{phase}.learning_rate=<a lower one>"))
            }
            _ => None,
        }
    }

    /// Names the phase in the error: puts the name of the phase in front of the field. A
    /// combination that a quantizer's method does not support is described with the fields of the
    /// recipe.
    pub(crate) fn of_phase(self, name: &str) -> Self {
        match self {
            TrainError::Invalid { field, reason } if field.starts_with("quantization") => {
                TrainError::Invalid { field: format!("phase.{name}.{field}"), reason }
            }
            TrainError::Network(NetworkError::Quantizer(QuantizerError::Unsupported {
                field,
                value,
                method,
                role,
                nearest,
                ..
            })) => TrainError::Invalid {
                field: format!("phase.{name}.quantization.{}", text_of(&role)),
                reason: format!(
                    "{field} = {value} is not possible with the method {}; the nearest possible \
                     configuration has {nearest}",
                    text_of(&method)
                ),
            },
            other => other,
        }
    }

    /// Returns [`TrainError::Field`] unless the value of a field is good.
    pub(crate) fn check_field(
        good: bool,
        field: impl Into<String>,
        value: impl Into<String>,
        accepted: &'static str,
    ) -> Result<(), Self> {
        if good {
            return Ok(());
        }
        Err(TrainError::Field { field: field.into(), value: value.into(), accepted })
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| TrainError::Io { path, source }
    }
}

/// Returns the subject and verb of the message about processes that have not answered.
fn subject(missing: &[usize]) -> String {
    let names: Vec<String> = missing.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "another process of the group has".to_owned(),
        [one] => format!("process {one} of the group has"),
        [others @ .., last] => {
            format!("processes {} and {last} of the group have", others.join(", "))
        }
    }
}
