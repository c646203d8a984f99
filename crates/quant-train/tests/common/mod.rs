//! What the tests of runs share: tiny data, and options.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::Device;
use quant_data::dataset::shapes::ShapesConfig;
use quant_train::{RunOptions, group::Group};

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
