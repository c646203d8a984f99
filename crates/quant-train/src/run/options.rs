//! The options of a run that do not belong to its recipe.

use std::{path::PathBuf, sync::Arc, thread::available_parallelism};

use burn::tensor::Device;

use crate::{
    devices::group::{Alone, Group},
    run::OpenData,
    stop::Stop,
};

/// The options of a run that do not belong to its recipe.
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
    /// The name of the program, which a new run records, so that messages can name the program that
    /// can continue the run. Empty if it is not known.
    pub program: String,
    /// The device, without autodiff.
    pub device: Device,
    /// The name of the device, for the log.
    pub device_name: String,
    /// The number of threads that load data, which replaces the number in the recipe.
    pub workers: Option<usize>,
    /// Whether progress is shown on the terminal.
    pub terminal: bool,
    /// Whether the terminal shows Burn's dashboard, in builds with the feature `tui`.
    pub dashboard: bool,
    /// The folder for files that can be made again: lists of images, and rendered pictures.
    pub cache: PathBuf,
    /// Opens the data of recipes with `data.kind = "own"`. `None` if the program has no data of its
    /// own.
    pub open_data: Option<OpenData>,
    /// The request that the run stops.
    pub stop: Stop,
    /// The processes that train together. Each of them executes the same run.
    pub group: Arc<dyn Group>,
}

impl RunOptions {
    /// Returns options for a run of this process alone on `device`. It prints nothing, cannot be
    /// stopped from outside, and uses the system's folder for temporary files as its cache.
    pub fn new(device: Device) -> Self {
        Self {
            program: String::new(),
            device_name: format!("{device:?}"),
            device,
            workers: None,
            terminal: false,
            dashboard: false,
            cache: std::env::temp_dir().join("quant-train"),
            open_data: None,
            stop: Stop::default(),
            group: Arc::new(Alone),
        }
    }
}

/// Returns the number of threads that is asked for, where 0 means the number of cores.
pub(crate) fn workers(asked: usize) -> usize {
    match asked {
        0 => available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}
