//! Checks of the files that a recipe names, before any training. A phase that cannot start is
//! reported when the run starts, not after the phases before it.

use std::path::Path;

use burn::tensor::Device;
use quant_nn::NetworkConfig;

use crate::{
    classes,
    error::TrainError,
    networks::weights::{self, WeightsFile},
    recipe::{Recipe, loss::DistillationRecipe, phase::Phase},
    training::{loss::Objective, start},
};

impl Recipe {
    /// Checks everything that the phases need in addition to data. Weights to start from, teachers
    /// and renaming rules are read, and have to fit the networks. Policies have to fit them too.
    /// Relative paths begin at `folder`. `classes` is the number of classes of the data. If it is
    /// `None`, a file may have any number of classes.
    ///
    /// # Errors
    /// [`TrainError::Absent`] for files that do not exist; [`TrainError::Field`] for teachers that
    /// are not an earlier phase; [`TrainError::Weights`] and [`TrainError::Network`] for files and
    /// policies that do not fit.
    pub fn check_files(
        &self,
        folder: &Path,
        classes: Option<usize>,
        device: &Device,
    ) -> Result<(), TrainError> {
        (0..self.phases.len())
            .try_for_each(|index| self.check_phase(index, folder, classes, device))
    }

    /// Checks one phase, by its index, as [`check_files`](Self::check_files) does.
    ///
    /// # Errors
    /// As [`check_files`](Self::check_files).
    ///
    /// # Panics
    /// If there is no such phase.
    pub fn check_phase(
        &self,
        index: usize,
        folder: &Path,
        classes: Option<usize>,
        device: &Device,
    ) -> Result<(), TrainError> {
        let phase = &self.phases[index];
        if self.model.own().is_some() {
            return self.check_own(index, folder);
        }
        self.check_policies(phase, classes, device)?;
        if !phase.frozen_statistics.is_empty() {
            phase.check_frozen(&self.network(phase, classes.unwrap_or(2))?.init(device)?)?;
        }
        if let Some(distillation) = &phase.distillation {
            self.check_teacher(index, distillation, folder, classes, device)?;
        }
        self.check_init(phase, folder, classes, device)
    }

    /// Checks that a phase can start on data with these classes: its files, as
    /// [`check_phase`](Self::check_phase) does, and that the file of its teacher, if it has one, is
    /// of a network that was trained on these classes, as far as the file knows them: the scores of
    /// a teacher for other classes would teach nothing.
    ///
    /// # Errors
    /// As [`check_phase`](Self::check_phase); [`TrainError::Weights`]; the errors of reading.
    ///
    /// # Panics
    /// If there is no such phase.
    pub fn check_start(
        &self,
        index: usize,
        folder: &Path,
        classes: &[String],
        device: &Device,
    ) -> Result<(), TrainError> {
        self.check_phase(index, folder, Some(classes.len()), device)?;
        let phase = &self.phases[index];
        let Some(distillation) = &phase.distillation else { return Ok(()) };
        if self.earlier(index, distillation)?.is_some() {
            return Ok(());
        }
        let file = self.teacher_file(distillation, folder);
        let known = weights::classes_of(&file.read()?);
        match classes::difference(&known, classes).pop() {
            Some(change) if !known.is_empty() => {
                let reason = format!(
                    "phase {:?}: distillation.teacher was trained on other classes than those of \
                     the data: {change}",
                    phase.name
                );
                Err(TrainError::Weights { path: file.path, reason })
            }
            _ => Ok(()),
        }
    }

    /// Checks what is possible for a phase whose network a program makes: that its files exist.
    fn check_own(&self, index: usize, folder: &Path) -> Result<(), TrainError> {
        let phase = &self.phases[index];
        if let Some(file) = phase.init_file(folder) {
            exists(&file, phase, "init", INIT_FILE)?;
        }
        match &phase.distillation {
            Some(distillation) if self.earlier(index, distillation)?.is_none() => {
                let file = self.teacher_file(distillation, folder);
                exists(&file, phase, "distillation.teacher", TEACHER_FILE)
            }
            _ => Ok(()),
        }
    }

    /// Returns the earlier phase from which another phase learns, or `None` if its teacher is a
    /// file.
    fn earlier(
        &self,
        index: usize,
        distillation: &DistillationRecipe,
    ) -> Result<Option<&Phase>, TrainError> {
        let (phase, name) = (&self.phases[index], &distillation.teacher);
        let refuse = |value: String| {
            let field = format!("phase {:?}: distillation.teacher", phase.name);
            Err(TrainError::Field { field, value, accepted: "an earlier phase, or a file" })
        };
        match self.phases.iter().position(|other| other.name == *name) {
            Some(position) if position == index => refuse(format!("{name}, the phase itself")),
            Some(position) if position > index => refuse(format!("{name}, a later phase")),
            position => Ok(position.map(|position| &self.phases[position])),
        }
    }

    fn check_init(
        &self,
        phase: &Phase,
        folder: &Path,
        classes: Option<usize>,
        device: &Device,
    ) -> Result<(), TrainError> {
        let Some(file) = phase.init_file(folder) else { return Ok(()) };
        exists(&file, phase, "init", INIT_FILE)?;
        let config = self.config_for(phase, &file, classes, device)?;
        let network = start::fresh(phase, config.init(device)?)?;
        let state = file.read()?;
        let (network, report) = weights::load(&file, &state, network);
        start::check_fits(phase, &file, &network, &report)
    }

    /// Applies all policies of a phase in the order in which the recipe has them.
    fn check_policies(
        &self,
        phase: &Phase,
        classes: Option<usize>,
        device: &Device,
    ) -> Result<(), TrainError> {
        if phase.policies.is_empty() {
            return Ok(());
        }
        let mut network = self.network(phase, classes.unwrap_or(1000))?.init(device)?;
        for policy in &phase.policies {
            policy.apply(&mut network)?;
        }
        Ok(())
    }

    /// Returns the network of a phase, with the number of classes of the data, or with that of a
    /// file if the data are not known.
    fn config_for(
        &self,
        phase: &Phase,
        file: &WeightsFile,
        classes: Option<usize>,
        device: &Device,
    ) -> Result<NetworkConfig, TrainError> {
        match classes {
            Some(classes) => self.network(phase, classes),
            None => {
                let config = self.network(phase, 1000)?;
                let candidates = vec![(phase.name.clone(), config.clone())];
                let found = weights::with_classes_of(file, candidates, device)?;
                Ok(found.into_iter().next().map_or(config, |(_, config)| config))
            }
        }
    }

    fn check_teacher(
        &self,
        index: usize,
        distillation: &DistillationRecipe,
        folder: &Path,
        classes: Option<usize>,
        device: &Device,
    ) -> Result<(), TrainError> {
        let phase = &self.phases[index];
        let classes = classes.unwrap_or(1000);
        let teacher = match self.earlier(index, distillation)? {
            Some(earlier) => self.network(earlier, classes)?.init(device)?,
            None => {
                let file = self.teacher_file(distillation, folder);
                exists(&file, phase, "distillation.teacher", TEACHER_FILE)?;
                self.teacher(distillation, &file, classes, device)?
            }
        };
        let student = self.network(phase, teacher.config().classes())?.init(device)?;
        Objective::new(phase, device).with_teacher(distillation, teacher, &student).map(|_| ())
    }
}

const INIT_FILE: &str = "a file; relative paths begin at the recipe's folder";

const TEACHER_FILE: &str =
    "an earlier phase, or a file; relative paths begin at the recipe's folder";

fn exists(
    file: &WeightsFile,
    phase: &Phase,
    field: &str,
    accepted: &'static str,
) -> Result<(), TrainError> {
    if file.path.is_file() {
        return Ok(());
    }
    Err(TrainError::Absent {
        phase: phase.name.clone(),
        field: field.to_owned(),
        path: file.path.clone(),
        accepted,
    })
}
