//! The report of a run that has stopped or is finished.

use std::path::PathBuf;

use quant_data::Loader;
use quant_nn::Classifier;

use super::{Run, loaders};
use crate::{
    batches::upload::{DeviceBatch, ImageNormalizer},
    error::TrainError,
    events::{read_log, report},
    files,
    measure::evaluate::{Score, evaluate},
    networks::source::{Build, BuildError, Networks, Own},
    recipe::phase::Phase,
    summary::{PhaseResult, Summary},
};

impl Run {
    /// Writes the report of everything that is done so far, and returns its path. The run has to be
    /// stopped or finished.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] where no phase is finished; [`TrainError::InUse`] while the run is
    /// being trained; the errors of data and files.
    pub fn report(&self) -> Result<PathBuf, TrainError> {
        self.check_model(false)?;
        self.report_from(&self.recipe)
    }

    /// Writes the report of a run whose networks a program makes, as in
    /// [`execute_own`](Self::execute_own).
    ///
    /// # Errors
    /// As [`report`](Self::report).
    pub fn report_own<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
    ) -> Result<PathBuf, TrainError> {
        self.check_model(true)?;
        self.report_from(&Own { recipe: &self.recipe, make, lower: None })
    }

    /// Evaluates a network that a program makes, as in [`execute_own`](Self::execute_own), on the
    /// run's validation data. The weights are the last of a phase (by default of the last phase),
    /// or with `best` its best. `skipped` is called with every image that could not be used, and
    /// the reason.
    ///
    /// # Errors
    /// [`TrainError::NoPhase`] for a phase that the recipe does not have;
    /// [`TrainError::OtherClasses`]; the errors of data and files.
    pub fn evaluate_own<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
        phase: Option<&str>,
        best: bool,
        skipped: impl FnMut(String),
    ) -> Result<Score, TrainError> {
        self.check_classes()?;
        let (network, phase) = self.network_own(make, phase, best)?;
        let (train, val) = self.options.open(&self.recipe.data, &self.header.data)?;
        let device = &self.options.device;
        let (_, loader) = loaders(&self.recipe, phase, &self.options, (&train, &val))?;
        let normalizer = ImageNormalizer::new(self.recipe.data.normalization(), device);
        evaluate(&network, &loader, &normalizer, device, skipped)
    }

    /// Returns a network that a program makes, as in [`execute_own`](Self::execute_own), with the
    /// weights of the run, and its phase. The weights are chosen as in
    /// [`evaluate_own`](Self::evaluate_own).
    ///
    /// # Errors
    /// [`TrainError::NoPhase`] for a phase that the recipe does not have; the errors of files.
    pub fn network_own<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
        phase: Option<&str>,
        best: bool,
    ) -> Result<(M, &Phase), TrainError> {
        self.check_model(true)?;
        let wanted = |other: &&Phase| phase.is_none_or(|phase| other.name == phase);
        let found = self.recipe.phases.iter().rev().find(wanted);
        let phase = found.ok_or_else(|| TrainError::NoPhase {
            name: phase.unwrap_or_default().to_owned(),
            phases: self.recipe.phases.iter().map(|phase| phase.name.clone()).collect(),
        })?;
        let networks = Own { recipe: &self.recipe, make, lower: None };
        let file = self.readable_file(&phase.name, best)?;
        let classes = self.classes().len();
        Ok((networks.read(&file, phase, classes, &self.options.device)?, phase))
    }

    fn report_from<N: Networks>(&self, networks: &N) -> Result<PathBuf, TrainError> {
        let _lock = self.locked()?;
        let (train, val) = self.options.open(&self.recipe.data, &self.header.data)?;
        let mut results = Vec::new();
        for phase in &self.recipe.phases {
            results.extend(PhaseResult::read(&self.folder.join(&phase.name))?);
        }
        let missing = || TrainError::NoRun {
            path: self.folder.clone(),
            missing: format!(
                "none of its phases is finished; `quant resume {}` continues it",
                self.folder.display()
            ),
        };
        let last = results.last().ok_or_else(missing)?;
        let phase = self.recipe.phases.iter().find(|phase| phase.name == last.phase);
        let phase = phase.ok_or_else(missing)?;
        let loaders = loaders(&self.recipe, phase, &self.options, (&train, &val))?;
        self.readable_file(&phase.name, false)?;
        let network = self.trained_network(networks, phase, train.classes().len())?;
        let mut summary = Summary::new(&self.recipe.name, results);
        // What was found out about the packed network holds as long as the phases are the same.
        if let Some(written) = Summary::read(&self.folder)
            && written.phases == summary.phases
        {
            (summary.packed, summary.served) = (written.packed, written.served);
        }
        self.write_report(&summary, &network, &loaders.1)
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
            let normalizer = ImageNormalizer::new(self.recipe.data.normalization(), device);
            let batch = DeviceBatch::new(batch?, device);
            histograms = report::histograms(network, normalizer.images(&batch));
        }
        let log = read_log(&self.folder.join("log.jsonl"))?;
        let path = self.folder.join("report.html");
        files::write(&path, report::html(summary, &log, &histograms).as_bytes())?;
        Ok(path)
    }
}
