//! The times that `benches/pytorch/steps.py` measures.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use quant_nn::layers::Compute;
use serde::Deserialize;

use crate::Row;

/// The file that `benches/pytorch/steps.py` writes.
#[derive(Deserialize)]
pub(crate) struct Pytorch {
    version: String,
    device: String,
    bf16: bool,
    compiled: bool,
    threads: usize,
    /// The number of images of ResNet-18 and of the convolutions.
    batch: usize,
    /// The seconds of each step and of each pass of a convolution.
    seconds: BTreeMap<String, f64>,
}

impl Pytorch {
    /// Reads the file, and checks that it measures the same: the device, the type of products, and
    /// the number of images, where the benchmark has one that can be chosen.
    pub(crate) fn read(
        path: &Path,
        (is_cpu, compute): (bool, Compute),
        batch: Option<usize>,
    ) -> Result<Self, Box<dyn Error>> {
        let read = || Ok::<Self, Box<dyn Error>>(serde_json::from_slice(&fs::read(path)?)?);
        let file = read().map_err(|error| format!("{}: {error}", path.display()))?;
        let theirs = if file.bf16 { "bf16" } else { "f32" };
        let ours = match compute {
            Compute::F32 => "f32",
            Compute::F16 => "f16",
            Compute::Bf16 => "bf16",
        };
        let other = if is_cpu != (file.device == "cpu") {
            format!("times on the device {}", file.device)
        } else if ours != theirs {
            format!("times in {theirs}, while --precision is {ours}")
        } else if let Some(batch) = batch.filter(|batch| *batch != file.batch) {
            format!("times of {} images, while --batch is {batch}", file.batch)
        } else {
            return Ok(file);
        };
        Err(format!("{} has {other}", path.display()).into())
    }

    /// Returns our time over PyTorch's, if the file has one of this name.
    pub(crate) fn row(&self, name: &str, seconds: f64, target: &str) -> Option<Row> {
        let theirs = self.seconds.get(name)?;
        let mut side = format!("PyTorch {}", self.version);
        if self.device == "cpu" {
            side += &format!(" on {} threads", self.threads);
        }
        if self.compiled {
            side += ", compiled";
        }
        let name = format!("{name} over {side}");
        Some(Row::new(&name, seconds / theirs, "x PyTorch's time", target))
    }
}
