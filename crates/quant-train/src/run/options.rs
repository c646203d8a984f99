//! The options of a run that do not belong to its recipe.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::available_parallelism,
};

use burn::tensor::Device;
use quant_data::Dataset;

use super::open_data::OpenData;
use crate::{
    devices::group::{Alone, Group},
    error::TrainError,
    recipe::data::{DataKind, DataPair, DataRecipe},
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

    /// Opens the training data and the validation data of a recipe at `path`.
    ///
    /// # Errors
    /// The errors of the data sets; [`TrainError::OwnData`] with the error of the program's
    /// function; [`TrainError::Field`] if the program has no such function.
    pub(crate) fn open(&self, recipe: &DataRecipe, path: &Path) -> Result<DataPair, TrainError> {
        match (&self.open_data, recipe.kind) {
            (Some(own), DataKind::Own) => own.open(path),
            _ => recipe.open(path, &self.cache),
        }
    }

    /// Opens the validation data of a recipe at `path`, as [`DataRecipe::open_val`] does.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_val(
        &self,
        recipe: &DataRecipe,
        path: &Path,
    ) -> Result<Arc<dyn Dataset>, TrainError> {
        match recipe.kind {
            DataKind::Own => Ok(self.open(recipe, path)?.1),
            _ => recipe.open_val(path, &self.cache),
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
