//! The report of a run that was stopped or is finished.

use std::path::PathBuf;

use quant_data::Loader;
use quant_nn::Classifier;

use super::Run;
use crate::{
    batches::upload::{DeviceBatch, Normalizer},
    error::TrainError,
    events::{read_log, report},
    files,
    networks::source::{Build, BuildError, Networks, Own},
    summary::{PhaseResult, Summary},
};

impl Run {
    /// Writes the report of what is done so far, and returns its path: of a run that was stopped or
    /// is finished.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] where no phase is done, [`TrainError::InUse`] while it is being
    /// trained, and those of data and files.
    pub fn report(&self) -> Result<PathBuf, TrainError> {
        self.check_model(false)?;
        self.report_from(&self.recipe)
    }

    /// The same of a run of a program's own networks, made as for
    /// [`execute_own`](Self::execute_own).
    ///
    /// # Errors
    /// As [`report`](Self::report).
    pub fn report_own<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
    ) -> Result<PathBuf, TrainError> {
        self.check_model(true)?;
        self.report_from(&Own { recipe: &self.recipe, make })
    }

    fn report_from<N: Networks>(&self, networks: &N) -> Result<PathBuf, TrainError> {
        let _lock = self.locked()?;
        let (train, val) = self.recipe.data.open(&self.header.data, &self.options.cache)?;
        let mut results = Vec::new();
        for phase in &self.recipe.phases {
            results.extend(PhaseResult::read(&self.folder.join(&phase.name))?);
        }
        let missing = || TrainError::NoRun {
            path: self.folder.clone(),
            missing: "no phase of it is finished".into(),
        };
        let last = results.last().ok_or_else(missing)?;
        let phase = self.recipe.phases.iter().find(|phase| phase.name == last.phase);
        let phase = phase.ok_or_else(missing)?;
        let loaders = self.loaders(phase, &train, &val)?;
        let network = self.trained_network(networks, phase, train.classes().len())?;
        self.write_report(&Summary::new(&self.recipe.name, results), &network, &loaders.1)
    }

    /// Writes the report of a result, with histograms of the last network on some validation
    /// images.
    pub(super) fn write_report<M: Classifier>(
        &self,
        summary: &Summary,
        network: &M,
        val: &Loader,
    ) -> Result<PathBuf, TrainError> {
        let mut histograms = Vec::new();
        if let Some(batch) = val.first_images() {
            let device = &self.options.device;
            let normalizer = Normalizer::new(self.recipe.data.normalization(), device);
            let batch = DeviceBatch::new(batch?, device);
            histograms = report::histograms(network, normalizer.images(&batch));
        }
        let log = read_log(&self.folder.join("log.jsonl"))?;
        let path = self.folder.join("report.html");
        files::write(&path, report::html(summary, &log, &histograms).as_bytes())?;
        Ok(path)
    }
}
