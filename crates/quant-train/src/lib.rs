//! Quantization-aware training of image classifiers on [Burn](https://burn.dev): a recipe goes in, a
//! trained low-bit network and a report come out.
//!
//! - [`recipe`]: one TOML file describes one run; [`data`]: its data; [`phase`]: a phase of it; [`quantization`]: its
//!   quantizers; [`policy`]: how they change on the way.
//! - [`run`]: the run: its folder, its phases; [`summary`]: its result; resumable at any checkpoint.
//! - [`fields`]: what each field of a recipe takes, and what it is for.
//! - [`trainer`]: the loop of one phase; [`step`]: one optimizer step. [`evaluate`]: loss, top-1, top-5.
//! - [`schedule`], [`optimizer`]: learning rates; SGD, Adam and AdamW over parameter groups, with PyTorch's
//!   semantics.
//! - [`loss`], [`mixing`], [`average`], [`precision`]: focal loss and distillation, mixup and CutMix, the moving
//!   average of weights, products in 16 bits.
//! - [`checkpoint`]: everything a phase is; [`weights`]: networks from files, ours and other programs'.
//! - [`events`]: the log, the terminal, TensorBoard, the HTML report; [`monitor`]: the quantizers' health.
//! - [`group`]: several processes that train one network, in threads or through MPI.
//! - [`qtool`]: QTool's training options.
//! - [`device`]: choosing the device by name. [`output`]: what programs print.

pub mod adam;
pub mod average;
mod changes;
pub mod checkpoint;
pub mod device;
mod door;
mod epoch_end;
pub mod error;
pub mod evaluate;
mod evaluation;
pub mod events;
pub mod files;
mod folder;
pub mod group;
mod lock;
pub mod loss;
pub mod mixing;
pub mod monitor;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod networks;
pub mod optimizer;
pub mod output;
mod phase_loop;
pub mod precision;
pub mod qtool;
pub mod recipe;
pub mod run;
pub mod schedule;
mod schema;
mod seen;
mod start;
mod state;
pub mod step;
pub mod stop;
pub mod summary;
pub mod trainer;
pub mod upload;
pub mod weights;

/// The page of all fields of a recipe: what each takes, its default and what it is for.
pub mod fields {
    pub use crate::recipe::guide::guide;
}

pub use error::TrainError;
pub use evaluation::Evaluation;
pub use networks::{Build, BuildError};
pub use recipe::{Recipe, data, phase, policy, quantization};
pub use run::{Run, RunOptions};
pub use stop::Stop;
pub use summary::Summary;
pub use weights::WeightsFile;
