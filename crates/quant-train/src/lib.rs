//! Quantization-aware training of image classifiers on [Burn](https://burn.dev): a recipe goes in,
//! a trained low-bit network and a report come out.
//!
//! The folders of the source, in the order in which a run needs them, and what they hold:
//!
//! - `recipe`: one TOML file describes one run. [`recipe`]: the whole; [`data`]: its data;
//!   [`phase`]: a phase of it; [`quantization`]: its quantizers; [`policy`]: how they change on the
//!   way; [`fields`]: the page of all fields. `schema` reads from the types what each field takes.
//! - `run`: the folder of a run, its phases, its report; it can be resumed at any checkpoint.
//!   [`run`]: the run; [`Evaluation`]: the score of a file of weights.
//! - `networks`: where the networks of a run come from. [`weights`]: files, ours and those of other
//!   programs; [`networks`]: networks that a program brings.
//! - `batches`: what happens to images before a step. [`upload`]: on the way to the device;
//!   [`mixing`]: mixup and CutMix.
//! - `training`: one phase. [`trainer`]: its loop; [`step`]: one optimizer step; [`loss`]:
//!   cross-entropy, focal loss and distillation; [`checkpoint`]: everything that a phase needs to
//!   go on.
//! - `optimize`: how weights change. [`optimizer`]: SGD, Adam and AdamW over parameter groups, with
//!   PyTorch's semantics ([`adam`]: the latter two); [`schedule`]: learning rates; [`precision`]:
//!   products in 16 bits, and the loss scale; [`average`]: the moving average of the weights.
//! - `measure`: what is found out about a network. [`evaluate`]: loss, top-1 and top-5;
//!   [`monitor`]: the health of its quantizers.
//! - `devices`: [`device`]: a device by its name; [`group`]: several processes that train one
//!   network, in threads or through MPI.
//! - `events`: [`events`]: the log, the terminal, TensorBoard, the HTML report; [`summary`]: the
//!   result of a run.
//! - `qtool`: [`qtool`]: recipes from the configuration files of QTool.
//!
//! Beside the folders stand [`error`], [`files`] (written whole or not at all), [`output`] (what
//! programs print) and [`stop`] (how a run is asked to stop).

mod batches;
mod devices;
pub mod error;
pub mod events;
pub mod files;
mod measure;
pub mod networks;
mod optimize;
pub mod output;
pub mod qtool;
pub mod recipe;
pub mod run;
mod schema;
pub mod stop;
pub mod summary;
mod training;

/// The page of all fields of a recipe: what each takes, its default and what it is for.
pub mod fields {
    pub use crate::recipe::guide::guide;
}

pub use batches::{mixing, upload};
#[cfg(feature = "mpi")]
pub use devices::mpi;
pub use devices::{device, group};
pub use error::TrainError;
pub use measure::{evaluate, monitor};
pub use networks::{Build, BuildError, weights, weights::WeightsFile};
pub use optimize::{adam, average, optimizer, precision, schedule};
pub use recipe::{Recipe, data, phase, policy, quantization};
pub use run::{Run, RunOptions, evaluation::Evaluation};
pub use stop::Stop;
pub use summary::Summary;
pub use training::{checkpoint, loss, step, trainer};

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
