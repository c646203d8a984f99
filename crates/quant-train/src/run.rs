//! A whole run: data, phases, results, in one folder.
//!
//! ```text
//! <runs>/<name>-001/
//!   recipe.toml  run.json       what was asked for, and of which data
//!   log.jsonl  tensorboard/     every event
//!   summary.json  report.html   the result
//!   <phase>/checkpoints/        to resume from
//!   <phase>/best.safetensors  last.safetensors  result.json  epoch-<n>.safetensors
//! ```

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{available_parallelism, panicking},
};

use burn::tensor::Device;
use quant_data::{Dataset, Loader, LoaderConfig, Share};
use quant_nn::{Classifier, Compute, QuantizedModule, StateDict, init_seeded, summarize};

use crate::{
    changes, checkpoint,
    data::DataPair,
    error::TrainError,
    events::{Event, Events, report},
    files,
    folder::{self, Header},
    group::{self, Alone, Group, SharedStatistics},
    lock::Lock,
    loss::DistillationRecipe,
    networks::{Build, BuildError, Networks, Own},
    phase::Phase,
    recipe::Recipe,
    seen::{self, Seen},
    start::start,
    state::finite_score,
    stop::Stop,
    summary::{PhaseResult, Summary},
    trainer::Trainer,
    upload::{DeviceBatch, Normalizer},
    weights::{self, WeightsFile},
};

/// How a run goes, whatever its recipe.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The device, a plain one.
    pub device: Device,
    /// Its name, for the log.
    pub device_name: String,
    /// Threads that load data, instead of the recipe's number.
    pub workers: Option<usize>,
    /// Whether progress is shown on the terminal.
    pub terminal: bool,
    /// Whether it is Burn's dashboard, in builds with the feature `tui`.
    pub dashboard: bool,
    /// Folder for what can be made again: lists of images, rendered pictures.
    pub cache: PathBuf,
    /// How it is asked to stop.
    pub stop: Stop,
    /// The processes that train together; each executes the same run.
    pub group: Arc<dyn Group>,
}

impl RunOptions {
    /// A run of this process alone on `device`, which prints nothing, cannot be stopped from outside,
    /// and keeps what can be made again in the system's folder for temporary files.
    pub fn new(device: Device) -> Self {
        Self {
            device_name: format!("{device:?}"),
            device,
            workers: None,
            terminal: false,
            dashboard: false,
            cache: std::env::temp_dir().join("quant-train"),
            stop: Stop::default(),
            group: Arc::new(Alone),
        }
    }
}

/// A run's folder, recipe and data.
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    header: Header,
    options: RunOptions,
    resumed: bool,
    /// The recipe in its folder, which somebody may have edited.
    written: Recipe,
    /// Whether it goes on with other data or devices.
    accepts_changes: bool,
}

impl Run {
    /// A new run in a new folder below `runs`, on the data at `data`. Paths in the recipe are
    /// relative to `recipe_folder`. Everything that the recipe names is read before anything is written.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the folder cannot be made, the recipe's errors, and those of the data and
    /// files that it names. No folder is left then.
    pub fn create(
        runs: &Path,
        recipe: Recipe,
        recipe_folder: &Path,
        data: &Path,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        let group = Arc::clone(&options.group);
        let made = Self::make(runs, recipe, recipe_folder, data, options);
        group::tell(group.as_ref(), made)
    }

    fn make(
        runs: &Path,
        recipe: Recipe,
        recipe_folder: &Path,
        data: &Path,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        recipe.validate()?;
        // Absolute: a run may be resumed from elsewhere.
        let here = Path::new(".");
        let recipe_folder = if recipe_folder == Path::new("") { here } else { recipe_folder };
        let recipe_folder =
            fs::canonicalize(recipe_folder).map_err(TrainError::io(recipe_folder))?;
        let data = fs::canonicalize(data).map_err(TrainError::io(data))?;
        let (train, val) = recipe.data.open(&data, &options.cache)?;
        let seen = Seen::new(train.as_ref(), val.as_ref(), options.group.size());
        recipe.check_files(&recipe_folder, Some(seen.classes().len()), &options.device)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let header = Header { data, recipe_folder, version, recipe: recipe.clone(), seen };
        let mut folder = PathBuf::new();
        if options.group.rank() == 0 {
            folder = folder::create(runs, &recipe.name, &header)?;
        }
        let name = folder.to_string_lossy().into_owned().into_bytes();
        let name = group::broadcast(options.group.as_ref(), name)?;
        let folder = PathBuf::from(String::from_utf8_lossy(&name).into_owned());
        Ok(Self {
            folder,
            written: recipe.clone(),
            recipe,
            header,
            options,
            resumed: false,
            accepts_changes: false,
        })
    }

    /// The run in `folder`, which goes on where it stopped; with its data elsewhere, if given.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] for a folder that is none, and the errors of its recipe.
    pub fn resume(
        folder: &Path,
        data: Option<&Path>,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        let mut header = Header::read(folder)?;
        let written = Recipe::read(&folder.join(folder::RECIPE))?;
        if let Some(data) = data {
            header.data = fs::canonicalize(data).map_err(TrainError::io(data))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            recipe: header.recipe.clone(),
            written,
            header,
            options,
            resumed: true,
            accepts_changes: false,
        })
    }

    /// The same run with changes to its recipe, as [`Recipe::parse_with`] takes them: more epochs, or a
    /// schedule from now on. Whether they are possible is found out when it is executed.
    ///
    /// # Errors
    /// Those of the recipe.
    pub fn with_changes(mut self, changes: &[String]) -> Result<Self, TrainError> {
        let text = self.header.recipe.to_toml()?;
        self.recipe = Recipe::parse_with(&text, &self.folder.join(folder::RECIPE), changes)?;
        Ok(self)
    }

    /// The same run, which goes on with other data or another number of devices than it was started with.
    #[must_use]
    pub fn accepting_changes(mut self) -> Self {
        self.accepts_changes = true;
        self
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it has a checkpoint or a finished phase to go on from.
    pub fn can_resume(&self) -> bool {
        folder::has_progress(&self.folder, &self.recipe)
    }

    /// Runs every phase that is not done, and writes summary and report.
    ///
    /// # Errors
    /// Those of data, networks, files and training; [`TrainError::InUse`] where another process writes in
    /// the folder; [`TrainError::OtherRecipe`], [`TrainError::Unchangeable`] and [`TrainError::OtherData`]
    /// where a run that is resumed is not what it was. What was saved stays and can be resumed; a new run
    /// that fails before it trains leaves no folder.
    pub fn execute(&self) -> Result<Summary, TrainError> {
        self.check_model(false)?;
        self.execute_from(&self.recipe)
    }

    /// The same with networks that a program makes, for recipes with `model.own`. `make` is called for each
    /// phase, with the quantizers that its recipe asks for; parameters that two phases have in common by name go
    /// over from one to the next.
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
    /// As [`execute`](Self::execute), and [`TrainError::OwnNetwork`] with what `make` fails with.
    pub fn execute_own<M: Classifier>(
        &self,
        make: impl Fn(&Build<'_>) -> Result<M, BuildError>,
    ) -> Result<Summary, TrainError> {
        self.check_model(true)?;
        self.execute_from(&Own { recipe: &self.recipe, make })
    }

    /// Checks that the recipe leaves the network to the program, or does not.
    fn check_model(&self, own: bool) -> Result<(), TrainError> {
        let field = |value: &str, accepted| TrainError::Field {
            field: "model.own".into(),
            value: value.to_owned(),
            accepted,
        };
        match (self.recipe.model.own(), own) {
            (Some(name), false) => {
                Err(field(name, "a recipe without it, or the program whose network it is"))
            }
            (None, true) => {
                Err(field("none", "the name of the program's network, in place of other fields"))
            }
            _ => Ok(()),
        }
    }

    fn execute_from<N: Networks>(&self, networks: &N) -> Result<Summary, TrainError> {
        let group = self.options.group.as_ref();
        let _told = TellsPanic(group);
        let began = Cell::new(false);
        let result = self.locked().and_then(|lock| {
            let result = self.phases(networks, &began);
            // Only its own folder, whose lock it holds, and in which nothing has been trained yet.
            let unused = lock.is_some() && !self.resumed && !began.get() && !self.can_resume();
            if result.is_err() && unused {
                // What cannot be removed is no reason to hide the error.
                let _ = fs::remove_dir_all(&self.folder);
            }
            result
        });
        group::tell(group, result)
    }

    /// The right to write in the folder, and a folder without what killed processes have left in it.
    fn locked(&self) -> Result<Option<Lock>, TrainError> {
        if self.options.group.rank() > 0 {
            return Ok(None);
        }
        let lock = Lock::take(&self.folder)?;
        files::remove_partial(&self.folder)?;
        Ok(Some(lock))
    }

    fn phases<N: Networks>(&self, networks: &N, began: &Cell<bool>) -> Result<Summary, TrainError> {
        let reports = self.options.group.rank() == 0;
        let data = self.recipe.data.open(&self.header.data, &self.options.cache)?;
        // All have read the header before it is written again.
        self.options.group.sum(vec![0.0])?;
        let changes = match self.resumed {
            true => self.check_resumed(&data)?,
            false => Vec::new(),
        };
        let mut events = match reports {
            true => Events::open(&self.folder.join("log.jsonl"), self.options.terminal)?
                .with_tensorboard(&self.folder.join("tensorboard")),
            false => Events::silent(),
        };
        #[cfg(feature = "tui")]
        if self.options.dashboard {
            events = events.with_dashboard(self.options.stop.clone());
        }
        let (train, val) = data;
        let classes = train.classes().to_vec();
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
            let place = self.folder.join(&phase.name);
            let loaders = self.loaders(phase, &train, &val)?;
            let (trained, result) =
                match self.finished(networks, phase, classes.len(), &mut events)? {
                    Some(finished) => finished,
                    None => {
                        let fresh = self.fresh_network(networks, index, classes.len())?;
                        let place = (index, place.as_path());
                        let loaders = (&loaders.0, &loaders.1);
                        self.phase(networks, place, fresh, loaders, &mut events, began)?
                    }
                };
            results.push(result);
            network = Some((trained, loaders.1));
        }
        let summary = Summary::new(&self.recipe.name, results);
        if reports {
            files::write(&self.folder.join("summary.json"), &json(&summary))?;
        }
        if let (Some((network, val)), true) = (network, reports) {
            self.write_report(&summary, &network, &val)?;
        }
        Ok(summary)
    }

    /// Checks that a run that goes on is the one that was started, and writes down what is changed on
    /// purpose; a line for each change.
    fn check_resumed(&self, (train, val): &DataPair) -> Result<Vec<String>, TrainError> {
        let edited = changes::differences(&self.header.recipe, &self.written)?;
        // A process may have been killed between writing the recipe and the header: what is asked for
        // again is then written already.
        if !edited.is_empty() && self.written != self.recipe {
            return Err(TrainError::OtherRecipe {
                path: self.folder.join(folder::RECIPE),
                changes: edited.iter().map(ToString::to_string).collect(),
            });
        }
        let changed = changes::differences(&self.header.recipe, &self.recipe)?;
        changes::possible(&self.folder, &self.header.recipe, &self.recipe, &changed)?;
        let mut told: Vec<String> = changed.iter().map(ToString::to_string).collect();
        let mut header = Header { recipe: self.recipe.clone(), ..self.header.clone() };
        let seen = Seen::new(train.as_ref(), val.as_ref(), self.options.group.size());
        match seen.check(&header.seen) {
            Ok(()) => {}
            Err(TrainError::OtherData { changes }) if self.accepts_changes => {
                told.extend(changes);
                header.seen = seen;
            }
            Err(error) => return Err(error),
        }
        if self.options.group.rank() == 0 {
            header.write(&self.folder)?;
        }
        Ok(told)
    }

    /// The network and the result of a phase that is done. What is damaged is trained again, from the last
    /// checkpoint.
    fn finished<N: Networks>(
        &self,
        networks: &N,
        phase: &Phase,
        classes: usize,
        events: &mut Events,
    ) -> Result<Option<(N::Network, PhaseResult)>, TrainError> {
        let place = self.folder.join(&phase.name);
        let result = match PhaseResult::read(&place) {
            // More epochs may have been asked for since.
            Ok(Some(result)) if result.epochs > 0 && result.epochs < phase.all_epochs() => None,
            Ok(result) => result.map(Ok),
            Err(error @ TrainError::Checkpoint { .. }) => Some(Err(error)),
            Err(error) => return Err(error),
        };
        let Some(result) = result else { return Ok(None) };
        let network = |result| Ok((self.trained_network(networks, phase, classes)?, result));
        match result.and_then(network) {
            Ok(finished) => Ok(Some(finished)),
            Err(error) if checkpoint::exists(&place.join("checkpoints")) => {
                let message = format!("{error}; it is made again from the last checkpoint");
                events.emit(&Event::Warning { message })?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the report of what is done so far, and returns its path: of a run that was stopped or is
    /// finished.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] where no phase is done, [`TrainError::InUse`] while it is being trained, and
    /// those of data and files.
    pub fn report(&self) -> Result<PathBuf, TrainError> {
        self.check_model(false)?;
        self.report_from(&self.recipe)
    }

    /// The same of a run of a program's own networks, made as for [`execute_own`](Self::execute_own).
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

    fn write_report<M: Classifier>(
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
        let log = crate::events::read_log(&self.folder.join("log.jsonl"))?;
        let path = self.folder.join("report.html");
        files::write(&path, report::html(summary, &log, &histograms).as_bytes())?;
        Ok(path)
    }

    /// The file of a phase's last network, or of its best.
    pub fn network_file(&self, phase: &str, best: bool) -> PathBuf {
        let file = if best { "best.safetensors" } else { "last.safetensors" };
        self.folder.join(phase).join(file)
    }

    /// Whether this process writes and reports: the first of its group.
    pub fn reports(&self) -> bool {
        self.options.group.rank() == 0
    }

    /// Its recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Folder of its data.
    pub fn data(&self) -> &Path {
        &self.header.data
    }

    /// Checks that the validation data have the classes that the run was trained on, in the same order.
    ///
    /// # Errors
    /// [`TrainError::OtherClasses`], and those of the data.
    pub fn check_classes(&self) -> Result<(), TrainError> {
        let val = self.recipe.data.open_val(&self.header.data, &self.options.cache)?;
        match seen::classes(self.header.seen.classes(), val.classes()).into_iter().next() {
            None => Ok(()),
            Some(change) => {
                Err(TrainError::OtherClasses { path: self.header.data.clone(), change })
            }
        }
    }

    /// The last network of a phase that is done.
    fn trained_network<N: Networks>(
        &self,
        networks: &N,
        phase: &Phase,
        classes: usize,
    ) -> Result<N::Network, TrainError> {
        let file = WeightsFile::new(self.network_file(&phase.name, false));
        networks.read(&file, phase, classes, &self.options.device)
    }

    /// Trains the phase of this index and with this folder.
    fn phase<N: Networks>(
        &self,
        networks: &N,
        (index, place): (usize, &Path),
        fresh: N::Network,
        loaders: (&Loader, &Loader),
        events: &mut Events,
        began: &Cell<bool>,
    ) -> Result<(N::Network, PhaseResult), TrainError> {
        let phase = &self.recipe.phases[index];
        let normalization = self.recipe.data.normalization();
        let device = &self.options.device;
        let mut trainer = Trainer::new(phase, loaders, normalization, device, place);
        trainer.stop = self.options.stop.clone();
        trainer.group = Arc::clone(&self.options.group);
        if phase.shared_statistics && trainer.group.size() > 1 {
            trainer.shared = Some(SharedStatistics::new(Arc::clone(&trainer.group)));
        }
        if let Some(distillation) = &phase.distillation {
            let classes = loaders.0.dataset().classes().len();
            let teacher = self.teacher(networks, distillation, classes)?;
            trainer.objective = trainer.objective.with_teacher(distillation, teacher, &fresh)?;
        }
        let mut damaged = Vec::new();
        let found = checkpoint::load(&place.join("checkpoints"), phase, &fresh, |error| {
            damaged.push(format!("{error}; the checkpoint before it is taken"));
        });
        if found.is_ok() {
            for message in damaged {
                events.emit(&Event::Warning { message })?;
            }
        }
        let state = match found? {
            Some(state) => state,
            None => {
                let from = self.init_weights(index);
                let network = start(phase, fresh, from.as_ref(), &trainer, events)?;
                // Each process has calibrated on images of its own.
                let network = group::same_network(self.options.group.as_ref(), network)?;
                let state = trainer.start(network);
                state.check(phase)?;
                state
            }
        };
        let summary = summarize(&state.network, &StateDict::of(&state.network));
        began.set(true);
        events.emit(&Event::PhaseStarted {
            phase: phase.name.clone(),
            step: state.progress.step,
            epoch: state.progress.epoch,
            summary,
        })?;
        for (_, _, quantizer) in state.network.quantizers() {
            if let Some(fallback) = quantizer.group_fallback() {
                events.emit(&Event::Warning { message: fallback.to_string() })?;
            }
        }
        let state = trainer.run(state, events)?;
        let group = self.options.group.as_ref();
        let served = state.served();
        let normalizer = Normalizer::new(normalization, device);
        let last = crate::evaluate::evaluate(&served, loaders.1, &normalizer, device, |_| {})?;
        let last = finite_score(phase, &state.progress, last.of_all(group)?)?;
        let (best_epoch, best) = state.progress.best.unwrap_or((state.progress.epoch, last));
        let result = PhaseResult {
            phase: phase.name.clone(),
            quantized: phase.quantization.is_some(),
            epochs: phase.all_epochs(),
            last,
            best_epoch,
            best,
            // Policies may have changed it.
            network: summarize(&served, &StateDict::of(&served)),
        };
        if group.rank() == 0 {
            files::write(&place.join("last.safetensors"), &weights::state_bytes(&served)?)?;
            result.write(place)?;
        }
        // The next phase reads what this one has written.
        group.sum(vec![0.0])?;
        events.emit(&Event::PhaseFinished { phase: phase.name.clone(), last, best_epoch, best })?;
        Ok((served, result))
    }

    /// The network that a phase learns from: an earlier phase's best, or that of a file.
    fn teacher<N: Networks>(
        &self,
        networks: &N,
        distillation: &DistillationRecipe,
        classes: usize,
    ) -> Result<N::Network, TrainError> {
        let mut phases = self.recipe.phases.iter();
        let earlier = phases.find(|phase| phase.name == distillation.teacher);
        let file = match earlier {
            Some(phase) => WeightsFile::new(self.network_file(&phase.name, true)),
            None => self.recipe.teacher_file(distillation, &self.header.recipe_folder),
        };
        networks.teacher(distillation, &file, earlier, classes, &self.options.device)
    }

    fn fresh_network<N: Networks>(
        &self,
        networks: &N,
        index: usize,
        classes: usize,
    ) -> Result<N::Network, TrainError> {
        let phase = &self.recipe.phases[index];
        let seed = self.recipe.seed.wrapping_add(index as u64);
        let device = self.options.device.clone().autodiff();
        let make = || networks.init(phase, classes, &device);
        let network = init_seeded(seed, &device, make)?;
        let compute = phase.precision.map_or(Compute::F32, |precision| precision.compute);
        let network = network.with_compute(compute);
        if phase.frozen_statistics.is_empty() {
            return Ok(network);
        }
        network.with_frozen_statistics(&phase.frozen_statistics).ok_or_else(|| TrainError::Field {
            field: format!("phase {:?}: frozen_statistics", phase.name),
            value: phase.frozen_statistics.join(", "),
            accepted: "none, for a network whose batch norms the trainer cannot reach",
        })
    }

    /// The weights that a phase starts from: a file's, or those of the phase before.
    fn init_weights(&self, index: usize) -> Option<WeightsFile> {
        let phase = &self.recipe.phases[index];
        phase.init_file(&self.header.recipe_folder).or_else(|| {
            let before = &self.recipe.phases[index.checked_sub(1)?].name;
            Some(WeightsFile::new(self.network_file(before, false)))
        })
    }

    fn loaders(
        &self,
        phase: &Phase,
        train: &Arc<dyn Dataset>,
        val: &Arc<dyn Dataset>,
    ) -> Result<(Loader, Loader), TrainError> {
        let data = &self.recipe.data;
        let workers = workers(self.options.workers.unwrap_or(data.workers));
        let config = |batch_size, training| LoaderConfig {
            batch_size,
            training,
            last_batch: phase.last_batch,
            seed: self.recipe.seed,
            workers,
            prefetch: data.prefetch,
            share: Share { rank: self.options.group.rank(), of: self.options.group.size() },
            max_broken: data.max_broken,
        };
        let train = Loader::new(train.clone(), data.train(), config(phase.batch_size, true))?;
        let val = Loader::new(val.clone(), data.eval(), config(data.eval_batch_size, false))?;
        Ok((train, val))
    }
}

/// As many as asked for; 0 for as many as there are cores.
pub(crate) fn workers(asked: usize) -> usize {
    match asked {
        0 => available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// Tells the group when its process panics.
struct TellsPanic<'a>(&'a dyn Group);

impl Drop for TellsPanic<'_> {
    fn drop(&mut self) {
        if panicking() {
            self.0.fail("it panicked; its message stands above");
        }
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}
