//! What the tests of runs share: tiny data, recipes for them, and options.

#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::Device;
use quant_data::dataset::shapes::ShapesConfig;
use quant_nn::StateDict;
use quant_train::{
    Recipe, Run, RunOptions, TrainError, WeightsFile,
    group::{Alone, Group},
};

#[macro_use]
#[allow(unused_macros, reason = "each test program uses a part")]
mod phases;

/// The recipe of a narrow network for the images of [`data`], without phases. `$fields` are further
/// fields of the data.
macro_rules! tiny {
    ($fields:literal) => {
        concat!(
            r#"
    name = "tiny"
    [data]
    kind = "image-folder"
    input_size = 32
    eval = [{ resize = { size = 32 } }, { center-crop = { size = 32 } }]
    "#,
            $fields,
            r#"
    [model]
    depth = "resnet18"
    stem = "imagenet"
    width_alpha = 0.04
"#
        )
    };
}

/// A phase in full precision, and one with quantizers that writes checkpoints.
pub(crate) const TWO_PHASES: &str = concat!(
    tiny!(""),
    r#"
    [[phase]]
    name = "full_precision"
    epochs = 1
    batch_size = 8
    learning_rate = 0.05
    schedule = { policy = "cos" }
    optimizer = { kind = "sgd", nesterov = true }
    [[phase]]
    name = "quantized"
    epochs = 2
    batch_size = 8
    learning_rate = 0.01
    schedule = { policy = "sgdr" }
    optimizer = { kind = "sgd" }
    clip_norm = 1.0
    checkpoint_steps = 3
"#,
    two_bits!()
);

/// A temporary folder with data and runs.
pub(crate) struct Desk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) data: PathBuf,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = data(folder.path());
        Self { folder, data }
    }

    /// The folder of the runs.
    pub(crate) fn runs(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    /// Creates a run of one process.
    pub(crate) fn create(&self, recipe: Recipe) -> Result<Run, TrainError> {
        Run::create(&self.runs(), recipe, self.folder.path(), &self.data, alone())
    }
}

/// Returns the state in a file of weights.
pub(crate) fn state(path: &Path) -> StateDict {
    WeightsFile::new(path).read().unwrap()
}

/// The options of a run of one process.
pub(crate) fn alone() -> RunOptions {
    options(Arc::new(Alone))
}

/// 40 training and 20 validation images of 32 pixels a side, in ten classes.
pub(crate) fn data(folder: &Path) -> PathBuf {
    let config = ShapesConfig { side: 32, train_per_class: 4, val_per_class: 2, seed: 1 };
    config.render(folder).unwrap()
}

pub(crate) fn options(group: Arc<dyn Group>) -> RunOptions {
    RunOptions {
        device_name: "flex".into(),
        workers: Some(2),
        cache: std::env::temp_dir().join("quant-train-tests"),
        group,
        ..RunOptions::new(Device::flex())
    }
}
