//! A program that trains from a recipe: starts a run or resumes one, and prints its result.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser};
use quant_train::{Recipe, Run, RunOptions, Stop, Summary, TrainError, device};

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
    /// Folder of the data, in the format that the recipe names
    #[arg(long)]
    data: Option<PathBuf>,
    /// flex (CPU), cuda, rocm, wgpu, vulkan or metal, as far as this build has them
    #[arg(long, default_value = "flex")]
    device: String,
    /// Folder that the run's own folder is made in
    #[arg(long, default_value = "runs")]
    runs: PathBuf,
    /// Run folder to go on with, instead of a new run
    #[arg(long, conflicts_with_all = ["recipe", "runs"])]
    resume: Option<PathBuf>,
    /// Threads that load images; by default as the recipe says
    #[arg(long)]
    workers: Option<usize>,
}

/// The program: reads the command line, runs, prints the result, last of all `run folder: <path>`. Asked to
/// stop by Ctrl+C or SIGTERM, it saves and ends with exit code [`STOPPED`].
pub fn main(program: &TrainProgram) -> ExitCode {
    let command = Arguments::command().name(program.name).about(program.about);
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match run(program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(TrainError::Stopped { .. })) => {
            complain(&error.to_string());
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Exit code of a run that was asked to stop and can go on: `EX_TEMPFAIL` of sysexits.h.
pub const STOPPED: u8 = 75;

/// Ctrl+C and SIGTERM let the step end and be saved; a second one ends the program at once.
fn stop_on_signals() -> Result<Stop, ctrlc::Error> {
    let stop = Stop::default();
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.ask() {
            std::process::exit(130);
        }
        complain("stopping after this step; once more to stop at once");
    })?;
    Ok(stop)
}

fn run(program: &TrainProgram, arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let options = RunOptions {
        device: device::select(&arguments.device)?,
        device_name: arguments.device,
        workers: arguments.workers,
        terminal: true,
        stop: stop_on_signals()?,
    };
    let run = match &arguments.resume {
        Some(folder) => Run::resume(folder, arguments.data.as_deref(), options)?,
        None => {
            let (recipe, folder) = match &arguments.recipe {
                Some(path) => (Recipe::read(path)?, path.parent().unwrap_or(Path::new(""))),
                None => {
                    let (name, text) = program.recipe;
                    (Recipe::parse(text, Path::new(name))?, Path::new(""))
                }
            };
            let data = match (arguments.data, program.data) {
                (Some(data), _) => data,
                (None, Some(data)) => data()?,
                (None, None) => return Err("--data <folder> is needed".into()),
            };
            Run::create(&arguments.runs, recipe, folder, &data, options)?
        }
    };
    let folder = run.folder().display();
    let summary = run.execute().inspect_err(|_| {
        complain(&format!("to go on from the last checkpoint: --resume {folder}"));
    })?;
    print(&summary, run.folder());
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a program's messages")]
fn complain(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "a program's result")]
fn print(summary: &Summary, folder: &Path) {
    if let Some(score) = summary.full_precision {
        println!("full precision: top-1 {:.2} %, top-5 {:.2} %", score.top1, score.top5);
    }
    if let Some(score) = summary.quantized {
        println!("quantized:      top-1 {:.2} %, top-5 {:.2} %", score.top1, score.top5);
    }
    println!(
        "model size:     {} bytes at 32 bits, {} bytes packed",
        summary.size_bytes_float, summary.size_bytes_packed
    );
    println!("run folder: {}", folder.display());
}
