//! The execution of a run, from its first phase to its last.

use std::{cell::Cell, fs, thread::panicking};

use quant_export::{LowerError, Lowering};
use quant_nn::Classifier;

use super::{
    Run, changes,
    folder::{self, Header},
    loaders,
    seen::Seen,
};
use crate::{
    devices::group::{self, Group},
    error::TrainError,
    events::{Event, Events},
    files,
    lock::{Guard, Lock},
    networks::{
        source::{Build, BuildError, Networks, Own},
        weights::WeightsFile,
    },
    recipe::{data::DataPair, phase::Phase},
    summary::{PhaseResult, Summary},
    training::checkpoint,
};

impl Run {
    /// Runs every phase that is not finished, and writes the summary and the report.
    ///
    /// # Errors
    /// The errors of data, networks, files and training; [`TrainError::InUse`] where another
    /// process writes in the folder; [`TrainError::OtherRecipe`], [`TrainError::Unchangeable`] and
    /// [`TrainError::OtherData`] where a resumed run differs from the run that was started. The
    /// saved state stays and can be resumed. A new run that fails before it trains leaves no
    /// folder.
    pub fn execute(&self) -> Result<Summary, TrainError> {
        self.execute_from(&self.recipe, false)
    }

    /// Executes the run with networks that a program makes, for recipes with `model.own`. `make` is
    /// called for each phase, with the quantizers that its recipe describes. Parameters that have
    /// the same name in two successive phases are passed on from one phase to the next.
    ///
    /// ```no_run
    /// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
    /// # use quant_nn::{Classifier, QuantizedModule};
    /// # use quant_train::{Build, Recipe, Run, RunOptions};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: Linear }
    /// # impl QuantizedModule for Net {}
    /// # impl Classifier for Net {
    /// #     fn forward(&self, x: Tensor<4>) -> Tensor<2> { self.fc.forward(x.flatten(1, 3)) }
    /// # }
    /// let recipe = Recipe::read("mine.toml".as_ref())?;
    /// let options = RunOptions::new(Device::flex());
    /// let run = Run::create("runs".as_ref(), recipe, ".".as_ref(), "images".as_ref(), options)?;
    /// run.execute_own(|build: &Build<'_>| {
    ///     let inputs = 3 * build.input_size * build.input_size;
    ///     Ok(Net { fc: LinearConfig::new(inputs, build.classes).init(build.device) })
    /// })?;
    /// # Ok::<(), quant_train::TrainError>(())
    /// ```
    ///
    /// # Errors
    /// As [`execute`](Self::execute), and [`TrainError::OwnNetwork`] with the error of `make`.
    pub fn execute_own<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
    ) -> Result<Summary, TrainError> {
        self.execute_from(&Own { recipe: &self.recipe, make, lower: None }, true)
    }

    /// Executes the run as [`execute_own`](Self::execute_own) does, and packs its last network if
    /// that is quantized, as [`execute`](Self::execute) does for the networks of `quant-nn`.
    ///
    /// `lower` describes a network for the engine, layer by layer in the order of its `forward`:
    /// see [`Lowering`]. The network is on a device without autodiff then. Layers that it leaves
    /// out are missing in the packed network, which shows in its score: it is evaluated by the
    /// engine and by the same arithmetic in the trainer, and compared with the usual evaluation.
    ///
    /// ```no_run
    /// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
    /// # use quant_core::Quantizer;
    /// # use quant_nn::{Classifier, QuantizedModule};
    /// # use quant_train::{Build, BuildError, Run, deploy::{LowerError, Lowering}};
    /// # #[derive(Module, Debug)]
    /// # struct Net { quant: Option<Quantizer>, fc: Linear }
    /// # impl QuantizedModule for Net {}
    /// # impl Classifier for Net {
    /// #     fn forward(&self, x: Tensor<4>) -> Tensor<2> { self.fc.forward(x.flatten(1, 3)) }
    /// # }
    /// # fn make(build: &Build<'_>) -> Result<Net, BuildError> { Err("".into()) }
    /// # fn execute(run: Run) -> Result<(), quant_train::TrainError> {
    /// run.execute_own_packed(make, |net: &Net, lowering: &mut Lowering| {
    ///     lowering.burn_linear("fc", &net.fc, net.quant.as_ref(), 0)?;
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`execute_own`](Self::execute_own). If the network cannot be lowered, the run succeeds
    /// with a warning.
    pub fn execute_own_packed<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
        lower: impl Fn(&M, &mut Lowering) -> Result<(), LowerError>,
    ) -> Result<Summary, TrainError> {
        self.execute_from(&Own { recipe: &self.recipe, make, lower: Some(&lower) }, true)
    }

    /// Executes the run with these networks, which are those of a program if `own` is set.
    fn execute_from<N: Networks>(&self, networks: &N, own: bool) -> Result<Summary, TrainError> {
        let group = self.options.group.as_ref();
        let _report = ReportsPanic(group);
        let began = Cell::new(false);
        let result = self.locked().and_then(|lock| {
            let guard = lock.as_ref().map(Lock::guard);
            let result =
                self.check_model(own).and_then(|()| self.phases(networks, &began, guard.clone()));
            // A write that failed because the folder has gone says less than that.
            if let (Err(_), Some(guard)) = (&result, &guard) {
                guard.check()?;
            }
            // Only this run's own folder is removed. This process holds its lock, and nothing has
            // been trained in it yet.
            let unused = lock.is_some() && !self.resumed && !began.get() && !self.can_resume();
            if result.is_err() && unused {
                // An error of removing must not hide the error of the run.
                let _ = fs::remove_dir_all(&self.folder);
            }
            result
        });
        group::tell(group, result)
    }

    fn phases<N: Networks>(
        &self,
        networks: &N,
        began: &Cell<bool>,
        guard: Option<Guard>,
    ) -> Result<Summary, TrainError> {
        let reports = self.options.group.rank() == 0;
        let data = self.options.open(&self.recipe.data, &self.header.data)?;
        // All processes have to read the header before it is written again.
        self.options.group.sum(vec![0.0])?;
        let changes = if self.resumed { self.check_resumed(&data)? } else { Vec::new() };
        let mut events = if reports {
            Events::open(&self.folder.join("log.jsonl"), self.options.terminal)?
                .with_tensorboard(&self.folder)
                .with_guard(guard)
        } else {
            Events::silent()
        };
        #[cfg(feature = "tui")]
        if self.options.dashboard {
            events = events.with_dashboard(self.options.stop.clone());
        }
        let (train, val) = data;
        let classes = train.classes().to_vec();
        // Those that the recipe describes were checked when the run was made.
        if self.recipe.model.own().is_some() {
            self.check_networks(networks, classes.len())?;
        }
        events.emit(&Event::RunStarted {
            name: self.recipe.name.clone(),
            device: self.options.device_name.clone(),
            train_images: train.len(),
            val_images: val.len(),
            classes: classes.clone(),
            resumed: self.resumed,
        })?;
        if !changes.is_empty() {
            events.emit(&Event::Changed { changes })?;
        }
        let mut results: Vec<PhaseResult> = Vec::new();
        let mut network = None;
        for (index, phase) in self.recipe.phases.iter().enumerate() {
            let folder = self.folder.join(&phase.name);
            let loaders = loaders(&self.recipe, phase, &self.options, (&train, &val))?;
            let (trained, result) =
                match self.finished(networks, phase, classes.len(), &mut events)? {
                    Some(finished) => finished,
                    None => {
                        let fresh = self.fresh_network(networks, index, classes.len())?;
                        let phase = (index, folder.as_path());
                        let loaders = (&loaders.0, &loaders.1);
                        self.train_phase(networks, phase, fresh, loaders, &mut events, began)?
                    }
                };
            results.push(result);
            network = Some((trained, loaders.1));
        }
        let mut summary = Summary::new(&self.recipe.name, results);
        if reports {
            events.check_folder()?;
            if let Some((network, _)) = &network {
                self.pack(networks, network, &val, &mut summary, &mut events)?;
            }
            events.check_folder()?;
            files::write(&self.folder.join("summary.json"), &json(&summary))?;
        }
        if let (Some((network, val)), true) = (network, reports) {
            self.write_report(&summary, &network, &val)?;
        }
        Ok(summary)
    }

    /// Makes the networks of the phases that have not begun, and applies their policies, so that
    /// what does not fit is found before anything is trained.
    fn check_networks<N: Networks>(&self, networks: &N, classes: usize) -> Result<(), TrainError> {
        let begins = |phase: &&Phase| !folder::has_begun(&self.folder, phase);
        for phase in self.recipe.phases.iter().filter(begins) {
            let mut network = networks.init(phase, classes, &self.options.device)?;
            phase.policies.iter().try_for_each(|policy| policy.apply(&mut network).map(drop))?;
        }
        Ok(())
    }

    /// Checks that a resumed run is the one that was started, and saves the intended changes.
    /// Returns a line for each change.
    fn check_resumed(&self, (train, val): &DataPair) -> Result<Vec<String>, TrainError> {
        let edited = changes::differences(&self.header.recipe, &self.written)?;
        // A process may have been killed after it wrote the recipe and before it wrote the header.
        // The recipe in the folder then already has the changes that are requested again.
        if !edited.is_empty() && self.written != self.recipe {
            return Err(TrainError::OtherRecipe {
                path: self.folder.join(folder::RECIPE),
                changes: edited.iter().map(ToString::to_string).collect(),
            });
        }
        let changed = changes::differences(&self.header.recipe, &self.recipe)?;
        changes::check_possible(&self.folder, &self.header.recipe, &self.recipe, &changed)?;
        let mut lines: Vec<String> = changed.iter().map(ToString::to_string).collect();
        let mut header = Header { recipe: self.recipe.clone(), ..self.header.clone() };
        let seen = Seen::new(train.as_ref(), val.as_ref(), &self.options);
        match seen.check(&header.seen) {
            Ok(()) => {}
            Err(TrainError::OtherData { changes }) if self.accepts_changes => {
                let (before, now) = (header.seen.classes().len(), seen.classes().len());
                if before != now {
                    let change = format!("classes: {now}, and the networks have {before} outputs");
                    return Err(TrainError::Unchangeable { changes: vec![change] });
                }
                lines.extend(changes);
                header.seen = seen;
            }
            Err(error) => return Err(error),
        }
        let (folder, classes) = (&self.header.recipe_folder, header.seen.classes());
        for (index, phase) in self.recipe.phases.iter().enumerate() {
            loaders(&self.recipe, phase, &self.options, (train, val))?;
            if !folder::has_begun(&self.folder, phase) {
                self.recipe.check_start(index, folder, classes, &self.options.device)?;
            }
        }
        if self.options.group.rank() == 0 {
            header.write(&self.folder)?;
        }
        Ok(lines)
    }

    /// Returns the network and the result of a finished phase. If one of them is damaged, it
    /// returns `None`, and the phase is trained again from its last checkpoint.
    fn finished<N: Networks>(
        &self,
        networks: &N,
        phase: &Phase,
        classes: usize,
        events: &mut Events,
    ) -> Result<Option<(N::Network, PhaseResult)>, TrainError> {
        let folder = self.folder.join(&phase.name);
        let result = match PhaseResult::read(&folder) {
            // The run may have been resumed with more epochs.
            Ok(Some(result)) if result.epochs > 0 && result.epochs < phase.all_epochs() => None,
            Ok(result) => result.map(Ok),
            Err(error @ TrainError::Checkpoint { .. }) => Some(Err(error)),
            Err(error) => return Err(error),
        };
        let Some(result) = result else { return Ok(None) };
        let network = |result| Ok((self.trained_network(networks, phase, classes)?, result));
        match result.and_then(network) {
            Ok((network, result)) => {
                self.check_best(phase, &result, events)?;
                Ok(Some((network, result)))
            }
            Err(error) if checkpoint::exists(&folder.join("checkpoints")) => {
                let message = format!("{error}; the phase continues from the last checkpoint");
                events.emit(&Event::Warning { message })?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Run {
    /// Checks the file with the best network of a finished phase. If it is lost, it is written
    /// again from the last network if that is the best. Otherwise a warning says that it is lost.
    fn check_best(
        &self,
        phase: &Phase,
        result: &PhaseResult,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        let file = WeightsFile::new(self.network_file(&phase.name, true));
        let lost = file.read().err();
        self.options.group.sum(vec![0.0])?;
        let Some(error) = lost else { return Ok(()) };
        let what = if result.best_epoch + 1 == result.epochs {
            if self.options.group.rank() == 0 {
                let last = self.network_file(&phase.name, false);
                let bytes = fs::read(&last).map_err(TrainError::io(&last))?;
                events.check_folder()?;
                files::write(&file.path, &bytes)?;
            }
            "it is written again from last.safetensors, which has this network".to_owned()
        } else {
            format!(
                "the network of epoch {} is lost; last.safetensors has that of the last epoch",
                result.best_epoch + 1
            )
        };
        let message =
            format!("phase {}: the best network cannot be read: {error}; {what}", phase.name);
        events.emit(&Event::Warning { message })
    }
}

/// Reports a panic of this process to the group.
struct ReportsPanic<'a>(&'a dyn Group);

impl Drop for ReportsPanic<'_> {
    fn drop(&mut self) {
        if panicking() {
            self.0.fail("it panicked; its message is printed above");
        }
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}
