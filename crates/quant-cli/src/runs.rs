//! Runs on the command line: they are created, continued, executed and stopped here. The result is
//! printed.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use quant_train::{
    Recipe, Run, RunOptions, Stop, Summary, TrainError, data::DataRecipe, device, group, output,
};

use crate::machine::DEFAULT_DEVICE;

/// The options of a new run.
#[derive(Debug, Clone, clap::Args)]
pub struct StartArguments {
    /// Folder of the data, in the format that the recipe names
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Folder in which the folder of the run is created
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// Weights that the first phase starts from: a safetensors file or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Change a field of the recipe, such as phase.quantized.learning_rate=0.01 (may be repeated)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub changes: Vec<String>,
}

/// The options of continuing a run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ResumeArguments {
    /// Folder of the data, if it has moved since the run was started
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Change a field of the run's recipe: the number of epochs, such as
    /// phase.quantized.epochs=40, the schedule or the learning rate (may be repeated)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub changes: Vec<String>,
    /// Continue even if the images or the number of devices are not those that the run was started
    /// with
    #[arg(long)]
    pub accept_changes: bool,
}

/// A function that executes a run.
pub(crate) type Execute<'a> = &'a (dyn Fn(&Run) -> Result<Summary, TrainError> + Sync);

/// Creates a run of the recipe `text`, which was read from `path`.
///
/// # Errors
/// As [`Recipe::parse_with`] and [`Run::create`]; if the recipe needs data and none are given; and
/// if the path of `--init` is not UTF-8.
pub fn create(
    text: &str,
    path: &Path,
    start: &StartArguments,
    options: RunOptions,
) -> Result<Run, Box<dyn Error>> {
    let mut recipe = Recipe::parse_with(text, path, &start.changes)?;
    if let (Some(file), Some(first)) = (&start.init, recipe.phases.first_mut()) {
        // A path on the command line is relative to the current folder, and a path in a recipe is
        // relative to the folder of the recipe.
        let file = std::path::absolute(file)?;
        let Some(file) = file.to_str() else {
            return Err(
                "--init: the path must be UTF-8, because it is written to the recipe".into()
            );
        };
        first.init = Some(file.to_owned());
    }
    let data = data_folder(start.data.as_deref(), &recipe.data)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Run::create(&start.runs, recipe, folder, &data, options)?)
}

/// Continues the run in `folder`.
///
/// # Errors
/// As [`Run::resume`], [`Run::with_changes`] and [`Run::execute`].
pub fn resume(
    folder: &Path,
    asked: &ResumeArguments,
    options: RunOptions,
) -> Result<(), Box<dyn Error>> {
    execute(&reopened(folder, asked, options)?)
}

/// Opens the run in `folder`, with the changes that are asked for.
pub(crate) fn reopened(
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
/// As [`Run::execute`].
pub fn execute(run: &Run) -> Result<(), Box<dyn Error>> {
    execute_with(run, &|run| run.execute())
}

/// Executes a run by `execute`, and prints its result.
pub(crate) fn execute_with(run: &Run, execute: Execute<'_>) -> Result<(), Box<dyn Error>> {
    let folder = run.folder().display();
    let summary = execute(run).inspect_err(|error| {
        // Where the run would only end with the same error again, resuming is no advice.
        if let (true, true, Some(more)) = (run.reports(), run.can_resume(), error.resumes_with()) {
            // `quant` cannot build the networks of other programs.
            let how = match run.options().program.as_str() {
                "" | "quant" => format!("quant resume {folder}{more}"),
                program => format!("{program} --resume {folder}{more}"),
            };
            let how = match run.options().device_name.as_str() {
                name if name != DEFAULT_DEVICE && device::available().contains(&name) => {
                    format!("{how} --device {name}")
                }
                _ => how,
            };
            output::tell(&format!("to continue from the last checkpoint: {how}"));
        }
    })?;
    if run.reports() {
        output::print(&result(&summary, run.folder()))?;
    }
    Ok(())
}

/// Returns the result of a run as text.
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

/// Returns the folder of the data of a recipe, which made data do not need.
///
/// # Errors
/// If a folder is needed and not given, or given and not needed.
pub(crate) fn data_folder(given: Option<&Path>, data: &DataRecipe) -> Result<PathBuf, String> {
    match given {
        Some(_) if data.is_made() => Err(made_data(data)),
        Some(folder) => Ok(folder.to_owned()),
        None if data.is_made() => Ok(PathBuf::from(".")),
        None => Err(no_data(data)),
    }
}

/// Returns the error text for a folder of data that is given with data that are made.
fn made_data(data: &DataRecipe) -> String {
    let kind = data.kind.name();
    format!(
        "--data has no effect: the recipe's data are of the kind {kind}, which the program makes; \
         leave it out, or change the kind, such as by --set data.kind=image-folder"
    )
}

/// Returns the error text for a recipe that needs data if none are given.
fn no_data(data: &DataRecipe) -> String {
    let kind = data.kind.name();
    format!("--data <folder> is needed, because the recipe's data are of the kind {kind}")
}

/// Prints the error, if there is one, and returns the exit code of the program.
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

/// Returns whether an error says that a run was stopped at the user's request.
pub(crate) fn is_stop(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(TrainError::Stopped { .. }))
}

/// The exit code after a run was stopped at the user's request and can be continued: `EX_TEMPFAIL`
/// of sysexits.h.
pub const STOPPED: u8 = 75;

/// Returns a [`Stop`] that Ctrl+C and SIGTERM ask to stop: the run then finishes its step and is
/// saved. A second signal ends the program at once, with exit code 130.
///
/// # Errors
/// If the program handles these signals already.
pub fn stop_on_signals() -> Result<Stop, Box<dyn Error>> {
    let stop = Stop::default();
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.ask() {
            std::process::exit(130);
        }
        output::tell("stopping after this step; press Ctrl+C again to stop at once");
    })
    .map_err(|error| format!("Ctrl+C and SIGTERM cannot be waited for: {error}"))?;
    Ok(stop)
}
