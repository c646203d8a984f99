//! A complete run in one folder: its data, its phases and its results.
//!
//! ```text
//! <runs>/<name>-001/
//!   recipe.toml  run.json       the recipe, and what the run was started with
//!   log.jsonl  tensorboard/     the events
//!   summary.json  report.html   the results
//!   packed.qnet                 the last network, packed for serving
//!   <phase>/checkpoints/        the checkpoints, from which the run can be resumed
//!   <phase>/best.safetensors  last.safetensors  result.json  epoch-<n>.safetensors
//! ```

mod changes;
mod check_files;
pub(crate) mod evaluation;
mod execute;
mod folder;
mod open_data;
mod options;
pub(crate) mod pack;
mod report;
pub(crate) mod seen;
mod train_phase;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use quant_data::{DataError, Dataset, Loader, LoaderConfig, Share};

use self::{folder::Header, options::workers, seen::Seen};
pub use self::{open_data::OpenData, options::RunOptions};
use crate::{
    classes,
    devices::group,
    error::TrainError,
    files,
    lock::Lock,
    networks::{source::Networks, weights::WeightsFile},
    recipe::{
        Recipe,
        data::{DataKind, DataPair},
        phase::Phase,
    },
};

/// A run, with its folder, its recipe and its data.
///
/// ```
/// use burn::tensor::Device;
/// use quant_train::{Recipe, Run, RunOptions};
///
/// // One epoch on noise. The README has a recipe that learns.
/// let text = r#"
///     name = "trial"
///     [data]
///     kind = "fake"
///     input_size = 16
///     fake = { train = 8, val = 4, classes = 2 }
///     [model]
///     depth = "resnet20"
///     stem = "cifar"
///     width_alpha = 0.05
///     [[phase]]
///     name = "only"
///     epochs = 1
///     batch_size = 4
///     learning_rate = 0.1
/// "#;
/// let recipe = Recipe::parse(text, "trial.toml".as_ref())?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let runs = folder.path();
/// # let (here, data) = (runs, runs);
/// let run = Run::create(runs, recipe, here, data, RunOptions::new(Device::flex()))?;
/// let summary = run.execute()?;
/// assert_eq!(summary.phases.len(), 1);
/// assert!(run.network_file("only", true).is_file());
/// # Ok::<(), quant_train::TrainError>(())
/// ```
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    header: Header,
    options: RunOptions,
    resumed: bool,
    /// The recipe in the run's folder, which a user may have edited.
    written: Recipe,
    /// Whether the run may continue with other data or devices.
    accepts_changes: bool,
}

impl Run {
    /// Creates a run in a new folder below `runs`, on the data at `data`. Paths in the recipe are
    /// relative to `recipe_folder`. Everything that the recipe names is read before anything is
    /// written.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the folder cannot be made; the errors of the recipe, and of the
    /// data and files that it names. No folder is then left.
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
        // The paths are absolute, because a run may be resumed in another working directory.
        let here = Path::new(".");
        let recipe_folder = if recipe_folder == Path::new("") { here } else { recipe_folder };
        let recipe_folder =
            fs::canonicalize(recipe_folder).map_err(TrainError::io(recipe_folder))?;
        let data = data_path(data, &recipe)?;
        for path in [&recipe_folder, &data] {
            check_utf8(path)?;
        }
        if options.group.size() > 1 {
            // The other processes are told the name of the run's folder.
            check_utf8(runs)?;
        }
        let (train, val) = open_for_all(&recipe, &data, &options)?;
        let seen = Seen::new(train.as_ref(), val.as_ref(), &options);
        for index in 0..recipe.phases.len() {
            recipe.check_start(index, &recipe_folder, seen.classes(), &options.device)?;
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (program, recipe_copy) = (options.program.clone(), recipe.clone());
        let header = Header { data, recipe_folder, program, version, recipe: recipe_copy, seen };
        let mut folder = PathBuf::new();
        if options.group.rank() == 0 {
            folder = folder::create(runs, &recipe.name, &header)?;
        }
        let name = folder.to_string_lossy().into_owned().into_bytes();
        let name = group::broadcast(options.group.as_ref(), name)?;
        if options.group.rank() != 0 {
            folder = PathBuf::from(String::from_utf8_lossy(&name).into_owned());
        }
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

    /// Opens the data of a recipe at `data`, and checks that all phases can use them. Returns the
    /// training data and the validation data.
    ///
    /// # Errors
    /// The errors of the data; [`TrainError::PhaseData`] for a phase that cannot use them.
    pub fn check_data(
        recipe: &Recipe,
        data: &Path,
        options: &RunOptions,
    ) -> Result<DataPair, TrainError> {
        open_for_all(recipe, &data_path(data, recipe)?, options)
    }

    /// Opens the run in `folder`, which continues where it stopped. `data` is given if its data are
    /// in another folder now.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] for a folder that is not the folder of a run; the errors of its
    /// recipe.
    pub fn resume(
        folder: &Path,
        data: Option<&Path>,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        let mut header = Header::read(folder)?;
        let written = Recipe::read(&folder.join(folder::RECIPE))?;
        if let Some(data) = data {
            TrainError::check_field(
                !header.recipe.data.is_made(),
                "data.kind",
                header.recipe.data.kind.name(),
                "no folder of data (--data): the program makes the data of this run",
            )?;
            header.data = data_path(data, &header.recipe)?;
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

    /// Returns the run with changes of its recipe, as [`Recipe::parse_with`] takes them, such as
    /// more epochs or another schedule. Whether they are possible is checked when the run is
    /// executed.
    ///
    /// # Errors
    /// The errors of the recipe.
    pub fn with_changes(mut self, changes: &[String]) -> Result<Self, TrainError> {
        let text = self.header.recipe.to_toml()?;
        self.recipe = Recipe::parse_with(&text, &self.folder.join(folder::RECIPE), changes)?;
        Ok(self)
    }

    /// Returns the run with the permission to continue with other data or another number of devices
    /// than it was started with.
    #[must_use]
    pub fn accepting_changes(mut self) -> Self {
        self.accepts_changes = true;
        self
    }

    /// Returns the folder of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns whether there is a checkpoint or a finished phase from which the run can continue.
    pub fn can_resume(&self) -> bool {
        folder::has_progress(&self.folder, &self.recipe)
    }

    /// Returns the path of a phase's last network, or with `best` of its best network.
    pub fn network_file(&self, phase: &str, best: bool) -> PathBuf {
        let file = if best { "best.safetensors" } else { "last.safetensors" };
        self.folder.join(phase).join(file)
    }

    /// Returns the file of a phase's last network, or with `best` of its best network, after it was
    /// read as a check.
    ///
    /// # Errors
    /// [`TrainError::OwnProgram`] for a run whose network another program makes;
    /// [`TrainError::NoPhase`]; [`TrainError::Weights`] for a file that is missing or damaged, with
    /// what can be done instead.
    pub fn trained_file(&self, phase: &str, best: bool) -> Result<WeightsFile, TrainError> {
        self.check_model(false)?;
        self.readable_file(phase, best)
    }

    /// Returns the file of a phase's network as [`trained_file`](Self::trained_file) does, whatever
    /// program makes the network.
    fn readable_file(&self, phase: &str, best: bool) -> Result<WeightsFile, TrainError> {
        if self.recipe.phases.iter().all(|other| other.name != phase) {
            return Err(TrainError::NoPhase {
                name: phase.to_owned(),
                phases: self.recipe.phases.iter().map(|phase| phase.name.clone()).collect(),
            });
        }
        let file = WeightsFile::new(self.network_file(phase, best));
        let Err(error) = file.read() else { return Ok(file) };
        let exists = |best| self.network_file(phase, best).is_file();
        let run = self.folder.display();
        let missing = !file.path.exists();
        let advice = match (best, exists(!best)) {
            (true, true) => format!(
                "without --best, the last network of phase {phase} is used; `quant resume {run}` \
                 tells what became of the best one"
            ),
            (false, true) => format!(
                "phase {phase} is not finished or has lost its last network: --best takes the best \
                 network so far, and `quant resume {run}` continues the phase"
            ),
            (_, false) => format!(
                "phase {phase} has no network that can be used yet: `quant resume {run}` continues \
                 it"
            ),
        };
        let reason = match error {
            _ if missing => "there is no such file".to_owned(),
            TrainError::Weights { reason, .. } => reason,
            error => error.to_string(),
        };
        Err(TrainError::Weights { path: file.path, reason: format!("{reason}; {advice}") })
    }

    /// Returns whether this process, as the first of its group, writes files and reports.
    pub fn reports(&self) -> bool {
        self.options.group.rank() == 0
    }

    /// Returns the options of the run.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Returns the recipe of the run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Returns the names of the classes that the run is trained on, in the order of the scores.
    pub fn classes(&self) -> &[String] {
        self.header.seen.classes()
    }

    /// Returns the folder of the run's data.
    pub fn data(&self) -> &Path {
        &self.header.data
    }

    /// Checks that the validation data have the classes that the run was trained on, in the same
    /// order.
    ///
    /// # Errors
    /// [`TrainError::OtherClasses`]; the errors of the data.
    pub fn check_classes(&self) -> Result<(), TrainError> {
        let val = self.options.open_val(&self.recipe.data, &self.header.data)?;
        let names = self.header.seen.classes();
        let network = (self.folder.as_path(), names, names.len());
        classes::check_labels(network, (&self.header.data, self.recipe.data.kind, val.classes()))
    }

    /// Checks that the recipe leaves the network to a program if `own` is true, and that it
    /// describes the network otherwise.
    fn check_model(&self, own: bool) -> Result<(), TrainError> {
        let field = |value: &str, accepted| TrainError::Field {
            field: "model.own".into(),
            value: value.to_owned(),
            accepted,
        };
        match (self.recipe.model.own(), own) {
            (Some(name), false) if !matches!(self.header.program.as_str(), "" | "quant") => {
                Err(TrainError::OwnProgram {
                    path: self.folder.clone(),
                    program: self.header.program.clone(),
                    own: name.to_owned(),
                })
            }
            (Some(name), false) => {
                Err(field(name, "a recipe without it, or the program that makes this network"))
            }
            (None, true) => {
                Err(field("none", "the name of the program's network, instead of other fields"))
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock of the folder, and removes incomplete files that killed processes have left
    /// in it.
    fn locked(&self) -> Result<Option<Lock>, TrainError> {
        if self.options.group.rank() > 0 {
            return Ok(None);
        }
        let lock = Lock::take(&self.folder)?;
        files::remove_partial(&self.folder)?;
        Ok(Some(lock))
    }

    /// Returns the last network of a finished phase.
    fn trained_network<N: Networks>(
        &self,
        networks: &N,
        phase: &Phase,
        classes: usize,
    ) -> Result<N::Network, TrainError> {
        let file = WeightsFile::new(self.network_file(&phase.name, false));
        networks.read(&file, phase, classes, &self.options.device)
    }
}

/// Opens the data of a recipe, and checks that all phases can use them.
fn open_for_all(
    recipe: &Recipe,
    data: &Path,
    options: &RunOptions,
) -> Result<DataPair, TrainError> {
    let (train, val) = options.open(&recipe.data, data)?;
    for phase in &recipe.phases {
        loaders(recipe, phase, options, (&train, &val))?;
    }
    Ok((train, val))
}

/// Returns the loaders of a phase's training images and validation images.
///
/// # Errors
/// [`TrainError::PhaseData`].
fn loaders(
    recipe: &Recipe,
    phase: &Phase,
    options: &RunOptions,
    (train, val): (&Arc<dyn Dataset>, &Arc<dyn Dataset>),
) -> Result<(Loader, Loader), TrainError> {
    let data = &recipe.data;
    let config = |batch_size, training| LoaderConfig {
        batch_size,
        training,
        last_batch: phase.last_batch,
        seed: recipe.seed,
        workers: workers(options.workers.unwrap_or(data.workers)),
        prefetch: data.prefetch,
        share: Share { rank: options.group.rank(), of: options.group.size() },
        max_broken: data.max_broken,
    };
    let loader = |dataset: &Arc<dyn Dataset>, pipeline, config| {
        Loader::new(Arc::clone(dataset), pipeline, config)
            .map_err(|source| TrainError::PhaseData { phase: phase.name.clone(), source })
    };
    let train = loader(train, data.train(), config(phase.batch_size, true))?;
    let val = loader(val, data.eval(), config(data.eval_batch_size, false))?;
    Ok((train, val))
}

/// Checks that a path can be stored in `run.json`.
fn check_utf8(path: &Path) -> Result<(), TrainError> {
    if path.to_str().is_some() {
        return Ok(());
    }
    let reason = "its name is not UTF-8, so that the files of a run cannot name it; rename it";
    Err(TrainError::io(path)(io::Error::new(io::ErrorKind::InvalidInput, reason)))
}

/// Returns the absolute path of the data, which is that of a folder, unless the program opens the
/// data itself.
fn data_path(data: &Path, recipe: &Recipe) -> Result<PathBuf, TrainError> {
    if recipe.data.kind != DataKind::Own && !data.is_dir() {
        return Err(DataError::NoFolder { path: data.to_owned() }.into());
    }
    fs::canonicalize(data).map_err(TrainError::io(data))
}
