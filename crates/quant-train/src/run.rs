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
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    thread::available_parallelism,
};

use burn::tensor::Device;
use quant_data::{Dataset, Loader, LoaderConfig, Share};
use quant_nn::{Compute, Network, QuantizedModule, StateDict, summarize};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint,
    error::TrainError,
    events::{Event, Events, report},
    files,
    group::{self, Group, SharedStatistics},
    loss::DistillationRecipe,
    phase::Phase,
    recipe::Recipe,
    start::start,
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

/// `run.json`.
#[derive(Debug, Serialize, Deserialize)]
struct RunHeader {
    data: PathBuf,
    recipe_folder: PathBuf,
    version: String,
}

/// A run's folder, recipe and data.
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    header: RunHeader,
    options: RunOptions,
    resumed: bool,
}

impl Run {
    /// A new run in a new folder below `runs`, on the data at `data`. Paths in the recipe are
    /// relative to `recipe_folder`.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the folder cannot be made, and the recipe's errors.
    pub fn create(
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
        // Looked at before anything is written: most runs fail here if they fail.
        recipe.data.open(&data, &options.cache)?;
        for phase in &recipe.phases {
            let Some(file) = phase.init.as_ref().map(|file| recipe_folder.join(file)) else {
                continue;
            };
            if !file.is_file() {
                return Err(TrainError::Field {
                    field: format!("phase {:?}: init", phase.name),
                    value: file.display().to_string(),
                    accepted: "a file; other paths than absolute ones begin at the recipe's folder",
                });
            }
        }
        let header =
            RunHeader { data, recipe_folder, version: env!("CARGO_PKG_VERSION").to_owned() };
        let mut folder = PathBuf::new();
        if options.group.rank() == 0 {
            folder = new_folder(runs, &recipe.name)?;
            files::write(&folder.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
            files::write(&folder.join("run.json"), &json(&header))?;
        }
        let name = folder.to_string_lossy().into_owned().into_bytes();
        let name = group::broadcast(options.group.as_ref(), name)?;
        let folder = PathBuf::from(String::from_utf8_lossy(&name).into_owned());
        Ok(Self { folder, recipe, header, options, resumed: false })
    }

    /// The run in `folder`, which goes on where it stopped; with its data elsewhere, if given.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] for a folder that is none.
    pub fn resume(
        folder: &Path,
        data: Option<&Path>,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        let missing = |missing| TrainError::NoRun { path: folder.to_owned(), missing };
        let recipe = folder.join("recipe.toml");
        if !recipe.is_file() {
            return Err(missing("recipe.toml"));
        }
        let bytes = fs::read(folder.join("run.json")).map_err(|_| missing("run.json"))?;
        let header = serde_json::from_slice(&bytes).map_err(|_| missing("a readable run.json"))?;
        let mut run = Self {
            folder: folder.to_owned(),
            recipe: Recipe::read(&recipe)?,
            header,
            options,
            resumed: true,
        };
        if let Some(data) = data {
            run.header.data = data.to_owned();
        }
        Ok(run)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs every phase that is not done, and writes summary and report.
    ///
    /// # Errors
    /// Those of data, networks, files and training. What was saved stays and can be resumed.
    pub fn execute(&self) -> Result<Summary, TrainError> {
        let reports = self.options.group.rank() == 0;
        let mut events = match reports {
            true => Events::open(&self.folder.join("log.jsonl"), self.options.terminal)?
                .with_tensorboard(&self.folder.join("tensorboard"))?,
            false => Events::silent(),
        };
        #[cfg(feature = "tui")]
        if self.options.dashboard {
            events = events.with_dashboard(self.options.stop.clone());
        }
        let (train, val) = self.recipe.data.open(&self.header.data, &self.options.cache)?;
        let classes = train.classes().to_vec();
        events.emit(&Event::RunStarted {
            name: self.recipe.name.clone(),
            device: self.options.device_name.clone(),
            train_images: train.len(),
            val_images: val.len(),
            classes: classes.clone(),
            resumed: self.resumed,
        })?;
        let mut results: Vec<PhaseResult> = Vec::new();
        let mut network = None;
        for (index, phase) in self.recipe.phases.iter().enumerate() {
            let place = self.folder.join(&phase.name);
            let loaders = self.loaders(phase, &train, &val)?;
            let trained = match PhaseResult::read(&place)? {
                Some(result) => {
                    results.push(result);
                    self.trained_network(phase, classes.len())?
                }
                None => {
                    let fresh = self.fresh_network(index, phase, classes.len())?;
                    let (trained, result) =
                        self.phase(index, &place, fresh, (&loaders.0, &loaders.1), &mut events)?;
                    results.push(result);
                    trained
                }
            };
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

    /// Writes the report of what is done so far, and returns its path: of a run that is going on, was stopped
    /// or is finished.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] where no phase is done, and those of data and files.
    pub fn report(&self) -> Result<PathBuf, TrainError> {
        let (train, val) = self.recipe.data.open(&self.header.data, &self.options.cache)?;
        let mut results = Vec::new();
        for phase in &self.recipe.phases {
            results.extend(PhaseResult::read(&self.folder.join(&phase.name))?);
        }
        let missing =
            || TrainError::NoRun { path: self.folder.clone(), missing: "a finished phase" };
        let last = results.last().ok_or_else(missing)?;
        let phase = self.recipe.phases.iter().find(|phase| phase.name == last.phase);
        let phase = phase.ok_or_else(missing)?;
        let loaders = self.loaders(phase, &train, &val)?;
        let network = self.trained_network(phase, train.classes().len())?;
        self.write_report(&Summary::new(&self.recipe.name, results), &network, &loaders.1)
    }

    fn write_report(
        &self,
        summary: &Summary,
        network: &Network,
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

    /// The last network of a phase that is done.
    fn trained_network(&self, phase: &Phase, classes: usize) -> Result<Network, TrainError> {
        let file = WeightsFile::new(self.network_file(&phase.name, false));
        let candidates = [(phase.name.clone(), self.recipe.network(phase, classes)?)];
        Ok(weights::read_network(&file, &candidates, &self.options.device)?.network)
    }

    fn phase(
        &self,
        index: usize,
        place: &Path,
        fresh: Network,
        loaders: (&Loader, &Loader),
        events: &mut Events,
    ) -> Result<(Network, PhaseResult), TrainError> {
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
            let teacher = self.teacher(distillation, &fresh)?;
            trainer.objective = trainer.objective.with_teacher(distillation, teacher, &fresh)?;
        }
        let mut damaged = Vec::new();
        let found = checkpoint::load(&place.join("checkpoints"), phase, &fresh, |error| {
            damaged.push(error.to_string());
        });
        for message in damaged {
            events.emit(&Event::Warning { message })?;
        }
        let state = match found? {
            Some(state) => state,
            None => {
                let from = self.init_weights(index);
                let network = start(phase, fresh, from.as_ref(), &trainer, events)?;
                // Each process has calibrated on images of its own.
                trainer.start(group::same_network(self.options.group.as_ref(), network)?)
            }
        };
        let summary = summarize(&state.network, &StateDict::of(&state.network));
        events.emit(&Event::PhaseStarted {
            phase: phase.name.clone(),
            step: state.progress.step,
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
        let last = last.of_all(group)?;
        let (best_epoch, best) = state.progress.best.unwrap_or((state.progress.epoch, last));
        let result = PhaseResult {
            phase: phase.name.clone(),
            quantized: phase.quantization.is_some(),
            last,
            best_epoch,
            best,
            // Policies may have changed it.
            network: summarize(&served, &StateDict::of(&served)),
        };
        if group.rank() == 0 {
            files::write(&place.join("last.safetensors"), &weights::state_bytes(&served)?)?;
            files::write(&place.join("result.json"), &json(&result))?;
        }
        // The next phase reads what this one has written.
        group.sum(vec![0.0])?;
        events.emit(&Event::PhaseFinished { phase: phase.name.clone(), last, best_epoch, best })?;
        Ok((served, result))
    }

    /// The network that a phase learns from, on the plain device. A file that does not say what
    /// network it is of has the one that the recipe names for it, or else this run's in full precision.
    fn teacher(
        &self,
        recipe: &DistillationRecipe,
        student: &Network,
    ) -> Result<Network, TrainError> {
        let device = &self.options.device;
        let model = recipe.model.as_ref().unwrap_or(&self.recipe.model);
        let (classes, size) = (student.config().classes(), student.config().input_size());
        let candidates = [("teacher".to_owned(), model.network(None, classes, size)?)];
        let earlier = self.recipe.phases.iter().any(|phase| phase.name == recipe.teacher);
        let file = match earlier {
            true => WeightsFile::new(self.network_file(&recipe.teacher, true)),
            false => WeightsFile {
                path: self.header.recipe_folder.join(&recipe.teacher),
                key: recipe.teacher_key.clone(),
                map: recipe.teacher_map.as_ref().map(|map| self.header.recipe_folder.join(map)),
            },
        };
        Ok(weights::read_network(&file, &candidates, device)?.network)
    }

    fn fresh_network(
        &self,
        index: usize,
        phase: &Phase,
        classes: usize,
    ) -> Result<Network, TrainError> {
        let seed = self.recipe.seed.wrapping_add(index as u64);
        let config = self.recipe.network(phase, classes)?;
        let network = config.init_seeded(seed, &self.options.device.clone().autodiff())?;
        let frozen = &phase.frozen_statistics;
        let compute = phase.precision.map_or(Compute::F32, |precision| precision.compute);
        let network = network.with_compute(compute);
        Ok(network.with_frozen_statistics(|name| frozen.iter().any(|text| name.contains(text))))
    }

    /// The weights that a phase starts from: a file's, or those of the phase before.
    fn init_weights(&self, index: usize) -> Option<WeightsFile> {
        let phase = &self.recipe.phases[index];
        let beside_recipe = |file: &String| self.header.recipe_folder.join(file);
        match &phase.init {
            Some(file) => Some(WeightsFile {
                path: beside_recipe(file),
                key: phase.init_key.clone(),
                map: phase.init_map.as_ref().map(beside_recipe),
            }),
            None => {
                let before = &self.recipe.phases[index.checked_sub(1)?].name;
                Some(WeightsFile::new(self.network_file(before, false)))
            }
        }
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

/// `<runs>/<name>-<first free number>`.
fn new_folder(runs: &Path, name: &str) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(runs).map_err(TrainError::io(runs))?;
    let mut number = 1;
    loop {
        let folder = runs.join(format!("{name}-{number:03}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(TrainError::io(folder)(error)),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}
