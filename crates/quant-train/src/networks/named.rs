//! The files of weights that a recipe names: those from which phases start, and teachers.

use std::path::Path;

use burn::tensor::Device;
use quant_nn::Network;

use super::weights::{self, WeightsFile};
use crate::{
    error::TrainError,
    recipe::{Recipe, loss::DistillationRecipe, phase::Phase},
};

impl Phase {
    /// Returns the file of weights from which the phase starts, if it names one. Relative paths
    /// begin at `folder`.
    pub(crate) fn init_file(&self, folder: &Path) -> Option<WeightsFile> {
        Some(WeightsFile {
            path: folder.join(self.init.as_ref()?),
            key: self.init_key.clone(),
            map: self.init_map.as_ref().map(|map| folder.join(map)),
        })
    }
}

impl Recipe {
    /// Returns the file of a teacher that is not a phase of the recipe.
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

    /// Reads the network from which a phase learns, on the plain device. If the file does not
    /// describe its network, it is the network that the recipe names for it, or else the network of
    /// this recipe in full precision.
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
        let teacher = weights::read_network(file, &candidates, device)?.network;
        weights::check_finite(file, &teacher)?;
        Ok(teacher)
    }
}
