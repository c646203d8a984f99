//! How a run goes, whatever its recipe.

use std::{path::PathBuf, sync::Arc, thread::available_parallelism};

use burn::tensor::Device;

use crate::{
    devices::group::{Alone, Group},
    stop::Stop,
};

/// How a run goes, whatever its recipe.
///
/// ```
/// use burn::tensor::Device;
/// use quant_train::RunOptions;
///
/// let options = RunOptions { workers: Some(1), ..RunOptions::new(Device::flex()) };
/// assert!(!options.terminal);
/// ```
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The device, a plain one.
    pub device: Device,
    /// Its name, for the log.
    pub device_name: String,
    /// Threads that load data, instead of the recipe's number.
    pub workers: Option<usize>,
    /// Whether progress is shown on the terminal.
    pub terminal: bool,
    /// Whether it is Burn's dashboard, in builds with the feature `tui`.
    pub dashboard: bool,
    /// Folder for what can be made again: lists of images, rendered pictures.
    pub cache: PathBuf,
    /// How it is asked to stop.
    pub stop: Stop,
    /// The processes that train together; each executes the same run.
    pub group: Arc<dyn Group>,
}

impl RunOptions {
    /// A run of this process alone on `device`, which prints nothing, cannot be stopped from
    /// outside, and keeps what can be made again in the system's folder for temporary files.
    pub fn new(device: Device) -> Self {
        Self {
            device_name: format!("{device:?}"),
            device,
            workers: None,
            terminal: false,
            dashboard: false,
            cache: std::env::temp_dir().join("quant-train"),
            stop: Stop::default(),
            group: Arc::new(Alone),
        }
    }
}

/// As many as asked for; 0 for as many as there are cores.
pub(crate) fn workers(asked: usize) -> usize {
    match asked {
        0 => available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}
