//! Quantization-aware training of image classifiers on [Burn](https://burn.dev). A recipe, which is
//! a TOML file, describes a run. The run gives a trained low-bit network and a report.
//!
//! The source has these folders. They are listed in the order in which a run needs them.
//!
//! - `recipe`: the recipe, one TOML file that describes one run. [`recipe`] has the whole, [`data`]
//!   its data, [`phase`] a phase of training, [`quantization`] the quantizers of a phase, and
//!   [`policy`] the changes of quantizers during training. [`fields`] prints the page of all
//!   fields. `schema` reads from the types which values each field takes.
//! - `run`: the folder of a run, its phases and its report. A run can be resumed from any
//!   checkpoint. [`run`] has the run, and [`Evaluation`] is the score of a file of weights.
//! - `networks`: the sources of a run's networks. [`weights`] reads files of weights, those of runs
//!   and those of other programs. [`networks`] has the networks that a program brings.
//! - `batches`: what happens to images before a step. `upload` moves them to the device, and
//!   [`mixing`] is mixup and CutMix.
//! - `training`: the training of one phase. `trainer` has the objects that it needs,
//!   `phase_loop` its loop and the application of policies, `step` one optimizer step,
//!   [`loss`] cross-entropy, focal loss and distillation, and `checkpoint` everything that a
//!   phase needs to continue.
//! - `optimize`: how weights change. [`optimizer`] is SGD, Adam and AdamW over parameter groups,
//!   with PyTorch's semantics (`adam` has the last two). [`schedule`] has the learning rates,
//!   [`precision`] products in 16 bits and the loss scale, and `average` the moving average of
//!   the weights.
//! - `measure`: measurements of a network. [`evaluate`] gives loss, top-1 and top-5 accuracy, and
//!   [`monitor`] the health of the quantizers.
//! - `deploy`: [`deploy`] lowers and packs a trained network, and evaluates it as it is served.
//! - `devices`: [`device`] selects a device by its name. [`group`] has several processes that train
//!   one network, in threads or through MPI.
//! - `events`: [`events`] has the log, the terminal display, TensorBoard and the HTML report.
//! - `schema`: what each field of a recipe takes, for errors, `--set` and documentation.
//! - `qtool`: [`qtool`] makes recipes from the configuration files of QTool.
//!
//! Seven modules have no folder: `classes` (differences between the classes of data and networks),
//! [`error`], `files` (files that are written completely or not at all), `lock` (the lock of a
//! run's folder), `output` (printing), [`stop`] (how a run is asked to stop) and [`summary`]
//! (the result of a run).

mod batches;
mod classes;
pub mod deploy;
mod devices;
pub mod error;
pub mod events;
#[doc(hidden)]
pub mod files;
mod lock;
mod measure;
pub mod networks;
mod optimize;
#[doc(hidden)]
pub mod output;
pub mod qtool;
pub mod recipe;
pub mod run;
mod schema;
pub mod stop;
pub mod summary;
mod training;

/// The page of all fields of a recipe: the values that each takes, its default and its purpose.
#[doc(hidden)]
pub mod fields {
    pub use crate::recipe::guide::guide;
}

pub use batches::mixing;
#[cfg(feature = "mpi")]
pub use devices::mpi;
pub use devices::{device, group};
pub use error::TrainError;
pub use measure::{evaluate, monitor};
pub use networks::{Build, BuildError, weights, weights::WeightsFile};
pub use optimize::{optimizer, precision, schedule};
pub use recipe::{Recipe, data, phase, policy, quantization};
pub use run::{
    OpenData, Run, RunOptions,
    evaluation::{Evaluation, ServedOutcome},
};
pub use stop::Stop;
pub use summary::Summary;
#[doc(hidden)]
pub use training::checkpoint;
pub use training::loss;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
