//! Quantization-aware training of image classifiers on [Burn](https://burn.dev): a recipe goes in, a
//! trained low-bit network and a report come out.
//!
//! - [`recipe`]: one TOML file describes one run; [`quantization`]: its quantizers.
//! - [`run`]: the run: its folder, its phases, its result; resumable at any checkpoint.
//! - [`trainer`]: the loop of one phase. [`evaluate`]: loss, top-1, top-5.
//! - [`schedule`], [`optimizer`]: learning rates; SGD over parameter groups, with PyTorch's
//!   semantics.
//! - [`checkpoint`]: everything a phase is.
//! - [`events`]: the log, the terminal, the HTML report.
//! - [`qtool`]: QTool's training options.
//! - [`device`]: choosing the device by name.

pub mod adam;
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod events;
pub mod files;
pub mod optimizer;
pub mod qtool;
pub mod quantization;
pub mod recipe;
pub mod run;
pub mod schedule;
pub mod stop;
pub mod trainer;

pub use error::TrainError;
pub use recipe::Recipe;
pub use run::{Run, RunOptions, Summary};
pub use stop::Stop;
