//! The files of weights that a recipe names: those that phases start from, and teachers.

use std::path::Path;

use burn::tensor::Device;
use quant_nn::Network;

use super::weights::{self, WeightsFile};
use crate::{
    error::TrainError,
    recipe::{Recipe, loss::DistillationRecipe, phase::Phase},
};

impl Phase {
    /// The file of weights that it starts from, if it names one; paths begin at `folder`.
    pub(crate) fn init_file(&self, folder: &Path) -> Option<WeightsFile> {
        Some(WeightsFile {
            path: folder.join(self.init.as_ref()?),
            key: self.init_key.clone(),
            map: self.init_map.as_ref().map(|map| folder.join(map)),
        })
    }
}

impl Recipe {
    /// The file of a teacher that is no phase.
    pub(crate) fn teacher_file(
        &self,
        distillation: &DistillationRecipe,
        folder: &Path,
    ) -> WeightsFile {
        WeightsFile {
            path: folder.join(&distillation.teacher),
            key: distillation.teacher_key.clone(),
            map: distillation.teacher_map.as_ref().map(|map| folder.join(map)),
        }
    }

    /// The network that a phase learns from, on the plain device. A file that does not say what
    /// network it is of has the one that the recipe names for it, or else this recipe's in full
    /// precision.
    pub(crate) fn teacher(
        &self,
        distillation: &DistillationRecipe,
        file: &WeightsFile,
        classes: usize,
        device: &Device,
    ) -> Result<Network, TrainError> {
        let model = distillation.model.as_ref().unwrap_or(&self.model);
        let config = model.network(None, classes, self.data.input_size)?;
        let candidates = [("teacher".to_owned(), config)];
        Ok(weights::read_network(file, &candidates, device)?.network)
    }
}
