//! Data that a program opens itself.

use std::{fmt, path::Path, sync::Arc};

use crate::{
    classes,
    error::{BuildError, TrainError},
    recipe::data::DataPair,
};

/// A function that opens the data of recipes with `data.kind = "own"`: data in a format of the
/// program's own, for which it implements [`Dataset`](quant_data::Dataset).
///
/// The function gets the absolute path that the run was started with, such as that of `--data`, and
/// returns the training data and the validation data, with the same classes in the same order. It
/// is called when a run starts, and again when the run is resumed, evaluated or reported on. It has
/// to return the same images in the same order each time. A run that is resumed compares the
/// classes, the number of images and the labels; a data set that overrides
/// [`Dataset::fingerprint`](quant_data::Dataset::fingerprint) compares more.
///
/// ```
/// use std::sync::Arc;
///
/// use burn::tensor::Device;
/// use quant_data::Fake;
/// use quant_train::{OpenData, RunOptions};
///
/// let open = OpenData::new(|_folder| {
///     // Noise stands for data of your own here.
///     Ok((Arc::new(Fake::new(64, 32, 2, 0)), Arc::new(Fake::new(16, 32, 2, 1))))
/// });
/// let options = RunOptions { open_data: Some(open), ..RunOptions::new(Device::flex()) };
/// # assert!(options.open_data.is_some());
/// ```
#[derive(Clone)]
pub struct OpenData(Arc<Open>);

type Open = dyn Fn(&Path) -> Result<DataPair, BuildError> + Send + Sync;

impl OpenData {
    /// Takes the function.
    pub fn new(
        open: impl Fn(&Path) -> Result<DataPair, BuildError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    /// Opens the training data and the validation data at `path`.
    ///
    /// # Errors
    /// [`TrainError::OwnData`] with the error of the function, or if the classes differ.
    pub(crate) fn open(&self, path: &Path) -> Result<DataPair, TrainError> {
        let (train, val) = (self.0)(path).map_err(|source| TrainError::OwnData { source })?;
        match classes::difference(train.classes(), val.classes()).pop() {
            None => Ok((train, val)),
            Some(change) => {
                Err(TrainError::OwnData { source: format!("the validation data: {change}").into() })
            }
        }
    }
}

impl fmt::Debug for OpenData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenData")
    }
}
