//! Programs that train: start a run or resume one, and print its result.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{CommandFactory, FromArgMatches, Parser};
use quant_nn::Classifier;
use quant_train::{
    Build, BuildError, Recipe, Run, RunOptions, Stop, Summary, TrainError, data::DataRecipe, group,
    output, recipe::ModelRecipe,
};

use crate::machine::MachineArguments;

/// Makes or finds a folder of data.
pub type FindData = fn() -> Result<PathBuf, Box<dyn Error>>;

/// What a program brings: its name, and what it does without arguments.
#[derive(Debug, Clone, Copy)]
pub struct TrainProgram {
    /// The program's name.
    pub name: &'static str,
    /// What it does, for `--help`.
    pub about: &'static str,
    /// File name and text of the recipe that is run unless another is asked for.
    pub recipe: (&'static str, &'static str),
    /// Makes or finds the data that are used unless others are asked for.
    pub data: Option<FindData>,
}

#[derive(Parser)]
struct Arguments {
    /// Recipe file; by default the program's own
    #[arg(long)]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    start: StartArguments,
    /// Run folder to go on with, instead of a new run
    #[arg(long, conflicts_with_all = ["recipe", "runs", "init"])]
    resume: Option<PathBuf>,
    /// With --resume: go on though the images or the number of devices are not those that the run
    /// was started with
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    #[command(flatten)]
    machine: MachineArguments,
}

/// What a new run is given.
#[derive(Debug, Clone, clap::Args)]
pub struct StartArguments {
    /// Folder of the data, in the format that the recipe names
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Folder that the run's own folder is made in
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// Weights that the first phase starts from, a safetensors file or PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Change a field of the recipe, such as phase.quantized.learning_rate=0.01 (may be repeated)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub changes: Vec<String>,
}

/// How a run goes on.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ResumeArguments {
    /// Folder of the data, if it is elsewhere now
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Change a field of the run's recipe: more epochs, such as phase.quantized.epochs=40, another
    /// schedule or learning rate (may be repeated)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub changes: Vec<String>,
    /// Go on though the images or the number of devices are not those that the run was started with
    #[arg(long)]
    pub accept_changes: bool,
}

/// The program: reads the command line, runs, prints the result, last of all `run folder: <path>`.
/// Asked to stop by Ctrl+C or SIGTERM, it saves and ends with exit code [`STOPPED`].
pub fn main(program: &TrainProgram) -> ExitCode {
    main_of(program, &|run| run.execute())
}

/// The same for a program that brings its own network: see [`Run::execute_own`]. Its recipes have
/// `model.own` in place of the other fields of `[model]`.
pub fn main_own<M: Classifier>(
    program: &TrainProgram,
    make: impl Fn(&Build<'_>) -> Result<M, BuildError> + Sync,
) -> ExitCode {
    main_of(program, &|run| run.execute_own(&make))
}

/// How a run is executed.
type Execute<'a> = &'a (dyn Fn(&Run) -> Result<Summary, TrainError> + Sync);

fn main_of(program: &TrainProgram, how: Execute<'_>) -> ExitCode {
    crate::memory::keep();
    let command = Arguments::command().name(program.name).about(program.about);
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    exit_code(run(program, arguments, how))
}

/// Tells an error, and the exit code for it.
pub fn exit_code(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_stop(error.as_ref()) => {
            output::tell(&error.to_string());
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            output::tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether a run was asked to stop.
pub(crate) fn is_stop(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(TrainError::Stopped { .. }))
}

/// Exit code of a run that was asked to stop and can go on: `EX_TEMPFAIL` of sysexits.h.
pub const STOPPED: u8 = 75;

/// Ctrl+C and SIGTERM let the step end and be saved; a second one ends the program at once.
///
/// # Errors
/// Where signals are caught already.
pub fn stop_on_signals() -> Result<Stop, Box<dyn Error>> {
    let stop = Stop::default();
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.ask() {
            std::process::exit(130);
        }
        output::tell("stopping after this step; once more to stop at once");
    })?;
    Ok(stop)
}

fn run(
    program: &TrainProgram,
    arguments: Arguments,
    how: Execute<'_>,
) -> Result<(), Box<dyn Error>> {
    let stop = stop_on_signals()?;
    if let Some(folder) = &arguments.resume {
        let asked = ResumeArguments {
            data: arguments.start.data.clone(),
            changes: arguments.start.changes.clone(),
            accept_changes: arguments.accept_changes,
        };
        return arguments
            .machine
            .execute(stop, |options| execute_how(&reopened(folder, &asked, options)?, how));
    }
    let (text, path) = match arguments.recipe {
        Some(path) => (read(&path)?, path),
        None => (program.recipe.1.to_owned(), PathBuf::from(program.recipe.0)),
    };
    let mut start = arguments.start;
    if let (None, Some(find)) = (&start.data, program.data) {
        start.data = Some(find()?);
    }
    arguments
        .machine
        .execute(stop, |options| execute_how(&create(&text, &path, &start, options)?, how))
}

/// Text of a file.
///
/// # Errors
/// With the path.
pub fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    Ok(std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// A new run of a recipe, which was read from `path`.
///
/// # Errors
/// Those of the recipe and of [`Run::create`].
pub fn create(
    text: &str,
    path: &Path,
    start: &StartArguments,
    options: RunOptions,
) -> Result<Run, Box<dyn Error>> {
    let mut recipe = Recipe::parse_with(text, path, &start.changes)?;
    if let (Some(file), Some(first)) = (&start.init, recipe.phases.first_mut()) {
        // Given on the command line, it is relative to where that is typed.
        let file = std::path::absolute(file)?;
        let Some(file) = file.to_str() else {
            return Err("--init: the file's path has to be UTF-8, as recipes are".into());
        };
        first.init = Some(file.to_owned());
    }
    let data = match &start.data {
        Some(data) => data.clone(),
        None if recipe.data.is_made() => PathBuf::from("."),
        None => return Err(no_data(&recipe.data).into()),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Run::create(&start.runs, recipe, folder, &data, options)?)
}

/// What is missing where no data are given.
pub fn no_data(data: &DataRecipe) -> String {
    let kind = data.kind.name();
    format!("--data <folder> is needed: the recipe's data are of the kind {kind}")
}

/// Goes on with the run in `folder`.
///
/// # Errors
/// Those of [`Run::resume`], [`Run::with_changes`] and [`Run::execute`].
pub fn resume(
    folder: &Path,
    asked: &ResumeArguments,
    options: RunOptions,
) -> Result<(), Box<dyn Error>> {
    execute(&reopened(folder, asked, options)?)
}

fn reopened(
    folder: &Path,
    asked: &ResumeArguments,
    options: RunOptions,
) -> Result<Run, TrainError> {
    let group = Arc::clone(&options.group);
    let opened = || -> Result<Run, TrainError> {
        let run = Run::resume(folder, asked.data.as_deref(), options)?;
        let run = run.with_changes(&asked.changes)?;
        Ok(if asked.accept_changes { run.accepting_changes() } else { run })
    };
    group::tell(group.as_ref(), opened())
}

/// Executes a run and prints its result.
///
/// # Errors
/// Those of [`Run::execute`].
pub fn execute(run: &Run) -> Result<(), Box<dyn Error>> {
    execute_how(run, &|run| run.execute())
}

fn execute_how(run: &Run, how: Execute<'_>) -> Result<(), Box<dyn Error>> {
    let folder = run.folder().display();
    let summary = how(run).inspect_err(|_| {
        if run.reports() && run.can_resume() {
            // `quant` does not know the networks of other programs.
            let how = match run.recipe().model {
                ModelRecipe::Own(_) => format!("this program with --resume {folder}"),
                _ => format!("quant resume {folder}, or --resume {folder}"),
            };
            output::tell(&format!("to go on from the last checkpoint: {how}"));
        }
    })?;
    if run.reports() {
        output::print(&result(&summary, run.folder()))?;
    }
    Ok(())
}

/// What a run's result is, as text.
fn result(summary: &Summary, folder: &Path) -> String {
    let mut text = String::new();
    for (name, score) in
        [("full precision:", summary.full_precision), ("quantized:", summary.quantized)]
    {
        if let Some(score) = score {
            text += &format!("{name:<15} top-1 {:.2} %, top-5 {:.2} %\n", score.top1, score.top5);
        }
    }
    format!(
        "{text}model size:     {} bytes at 32 bits, {} bytes packed\nrun folder: {}",
        summary.size_bytes_float,
        summary.size_bytes_packed,
        folder.display()
    )
}
