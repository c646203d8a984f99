//! The command line of programs that bring their own recipe, data, network or method.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use burn::tensor::Device;
use clap::{CommandFactory, FromArgMatches, Parser};
use quant_core::WeightCodes;
use quant_nn::{Classifier, NetworkSummary, QuantizedModule, StateDict, summarize};
use quant_train::{
    Build, BuildError, OpenData, Recipe, Run, RunOptions, TrainError,
    data::DataPair,
    deploy::{LowerError, Lowering},
    evaluate::Score,
    output,
};

use crate::{
    machine::{DeviceArguments, EvalArguments, MachineArguments},
    networks,
    recipes::library::read,
    runs::{
        Execute, ResumeArguments, StartArguments, create, execute_with, exit_code, reopened,
        stop_on_signals,
    },
    score::{score_line, skipped_lines},
};

/// A function that returns the folder of the data, which it creates if necessary.
pub type FindData = fn() -> Result<PathBuf, Box<dyn Error>>;

/// A function that opens the training data and the validation data at a path, in a format of the
/// program's own; see [`OpenData`].
pub type OpenOwnData = fn(&Path) -> Result<DataPair, BuildError>;

/// A program that trains: its name and its default recipe and data.
#[derive(Debug, Clone, Copy)]
pub struct TrainProgram {
    /// Name of the program.
    pub name: &'static str,
    /// What the program does, for `--help`.
    pub about: &'static str,
    /// File name and text of the recipe that is run unless `--recipe` names another.
    pub recipe: (&'static str, &'static str),
    /// Finds or creates the data that are used unless `--data` names others. `None` if `--data` has
    /// to name them.
    pub data: Option<FindData>,
    /// Opens the data of recipes with `data.kind = "own"`; see [`OpenData`]. `None` if the program
    /// has no format of data of its own.
    pub open_data: Option<OpenOwnData>,
}

impl TrainProgram {
    /// Returns a program that takes its data from `--data`, in a format that is known already.
    /// `recipe` has a file name and a text.
    pub const fn new(
        name: &'static str,
        about: &'static str,
        recipe: (&'static str, &'static str),
    ) -> Self {
        Self { name, about, recipe, data: None, open_data: None }
    }

    /// Returns the options with the name and the data of the program.
    fn options(&self, options: RunOptions) -> RunOptions {
        let open_data = self.open_data.map(OpenData::new);
        RunOptions { program: self.name.to_owned(), open_data, ..options }
    }
}

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<OfRun>,
    /// Recipe file; by default the recipe of the program
    #[arg(long)]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    start: StartArguments,
    /// Folder of a run to continue, instead of starting a new run
    #[arg(long, conflicts_with_all = ["recipe", "runs", "init"])]
    resume: Option<PathBuf>,
    /// With --resume: continue even if the images or the number of devices are not those that the
    /// run was started with
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    #[command(flatten)]
    machine: MachineArguments,
}

/// The commands for runs whose networks or methods only this program knows.
#[derive(clap::Subcommand)]
enum OfRun {
    /// Evaluate the network of a run on validation data
    Eval {
        /// The run folder
        run: PathBuf,
        /// Phase of the run; by default the last phase
        #[arg(long)]
        phase: Option<String>,
        /// Evaluate the best network of the phase instead of the last
        #[arg(long)]
        best: bool,
        /// Folder of the data; by default the folder that the run was trained on
        #[arg(long)]
        data: Option<PathBuf>,
        #[command(flatten)]
        machine: EvalArguments,
    },
    /// Write the report of a run again
    Report {
        /// The run folder
        run: PathBuf,
        #[command(flatten)]
        device: DeviceArguments,
    },
    /// Print the parameters and operations of a run's network, layer by layer
    Summary {
        /// The run folder
        run: PathBuf,
        /// Phase of the run; by default the last phase
        #[arg(long)]
        phase: Option<String>,
    },
    /// Write the quantized weights of a run as integers, with the value that each integer stands
    /// for
    Codes {
        /// The run folder
        run: PathBuf,
        /// Phase of the run; by default the last phase
        #[arg(long)]
        phase: Option<String>,
        /// The safetensors file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Runs the program: reads the command line, trains, and prints the result, whose last line is
/// `run folder: <path>`. Ctrl+C and SIGTERM save the run and end the program with exit code
/// [`STOPPED`](crate::runs::STOPPED).
///
/// The program also has the commands `eval`, `report`, `summary` and `codes` for its runs, which
/// `quant` has for runs of networks and methods that it knows.
pub fn main(program: &TrainProgram) -> ExitCode {
    let evaluate = |run: &Run, phase: Option<&str>, best| {
        let last = run.recipe().phases.last().map(|phase| phase.name.as_str());
        let phase = phase.or(last).unwrap_or_default();
        let file = run.trained_file(phase, best)?;
        run.check_classes()?;
        let options = run.options();
        let found = Run::evaluate(&file, run.recipe(), Some(phase), run.data(), options)?;
        Ok((found.score, found.skipped))
    };
    let describe = |run: &Run, phase: Option<&str>| {
        let network = networks::network_of_run(run, phase)?;
        Ok((summarize(&network, &StateDict::of(&network)), network.weight_codes()))
    };
    let execute = |run: &Run| run.execute();
    let report = |run: &Run| run.report();
    let work =
        Work { execute: &execute, report: &report, evaluate: &evaluate, describe: &describe };
    main_of(program, &work)
}

/// Runs a program that brings its own network, which `make` builds; see [`Run::execute_own`]. The
/// program's recipes have `model.own` in place of the other fields of `[model]`. Otherwise it is
/// like [`main`].
pub fn main_own<M: Classifier>(
    program: &TrainProgram,
    make: impl Fn(&Build<'_>) -> Result<M, BuildError> + Sync,
) -> ExitCode {
    main_of_own(program, &make, &|run| run.execute_own(&make))
}

/// Runs a program that brings its own network, and packs the quantized network at the end. `lower`
/// describes a network for the engine; see [`Run::execute_own_packed`]. Otherwise it is like
/// [`main_own`].
pub fn main_own_packed<M: Classifier>(
    program: &TrainProgram,
    make: impl Fn(&Build<'_>) -> Result<M, BuildError> + Sync,
    lower: impl Fn(&M, &mut Lowering) -> Result<(), LowerError> + Sync,
) -> ExitCode {
    main_of_own(program, &make, &|run| run.execute_own_packed(&make, &lower))
}

fn main_of_own<M: Classifier>(
    program: &TrainProgram,
    make: &(impl Fn(&Build<'_>) -> Result<M, BuildError> + Sync),
    execute: Execute<'_>,
) -> ExitCode {
    let evaluate = |run: &Run, phase: Option<&str>, best| {
        let mut skipped = Vec::new();
        let score = run.evaluate_own(make, phase, best, |reason| skipped.push(reason))?;
        Ok((score, skipped))
    };
    let describe = |run: &Run, phase: Option<&str>| {
        let (network, _) = run.network_own(make, phase, false)?;
        Ok((summarize(&network, &StateDict::of(&network)), network.weight_codes()))
    };
    let report = |run: &Run| run.report_own(make);
    main_of(program, &Work { execute, report: &report, evaluate: &evaluate, describe: &describe })
}

/// A score, and the images that could not be used, each with the reason.
type Evaluated = (Score, Vec<String>);

/// A function that evaluates the network of a run's phase: the last, or the best.
type Evaluate<'a> = &'a dyn Fn(&Run, Option<&str>, bool) -> Result<Evaluated, TrainError>;

/// A function that describes the last network of a run's phase, and returns its weights as
/// integers.
type Describe<'a> =
    &'a dyn Fn(&Run, Option<&str>) -> Result<(NetworkSummary, Vec<WeightCodes>), Box<dyn Error>>;

/// What a program does with its runs.
struct Work<'a> {
    execute: Execute<'a>,
    report: &'a dyn Fn(&Run) -> Result<PathBuf, TrainError>,
    evaluate: Evaluate<'a>,
    describe: Describe<'a>,
}

fn main_of(program: &TrainProgram, work: &Work<'_>) -> ExitCode {
    crate::memory::keep();
    crate::memory::report_large_files();
    let command = Arguments::command().name(program.name).about(program.about);
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let result = match arguments.command {
        Some(command) => of_run(program, command, work).and_then(|text| Ok(output::print(&text)?)),
        None => run(program, arguments, work.execute),
    };
    exit_code(result)
}

/// Executes a command for a run, and returns the text to print.
fn of_run(
    program: &TrainProgram,
    command: OfRun,
    work: &Work<'_>,
) -> Result<String, Box<dyn Error>> {
    let opened = |run: &Path| Run::resume(run, None, RunOptions::new(Device::default()));
    match command {
        OfRun::Eval { run, phase, best, data, machine } => {
            let run = Run::resume(&run, data.as_deref(), program.options(machine.options()?))?;
            let (score, skipped) = (work.evaluate)(&run, phase.as_deref(), best)?;
            Ok(skipped_lines(&skipped)? + &score_line(&score)?)
        }
        OfRun::Report { run, device } => {
            let run = Run::resume(&run, None, program.options(device.options()?))?;
            Ok(format!("written: {}", (work.report)(&run)?.display()))
        }
        OfRun::Summary { run, phase } => {
            let (summary, _) = (work.describe)(&opened(&run)?, phase.as_deref())?;
            Ok(summary.to_string().trim_end().to_owned())
        }
        OfRun::Codes { run, phase, output } => {
            let (_, weights) = (work.describe)(&opened(&run)?, phase.as_deref())?;
            networks::write_codes(&weights, &output)
        }
    }
}

fn run(
    program: &TrainProgram,
    arguments: Arguments,
    execute: Execute<'_>,
) -> Result<(), Box<dyn Error>> {
    let stop = stop_on_signals()?;
    if let Some(folder) = &arguments.resume {
        let asked = ResumeArguments {
            data: arguments.start.data.clone(),
            changes: arguments.start.changes.clone(),
            accept_changes: arguments.accept_changes,
        };
        return arguments.machine.execute(stop, |options| {
            execute_with(&reopened(folder, &asked, program.options(options))?, execute)
        });
    }
    let (text, path) = match arguments.recipe {
        Some(path) => (read(&path)?, path),
        None => (program.recipe.1.to_owned(), PathBuf::from(program.recipe.0)),
    };
    let mut start = arguments.start;
    if let (None, Some(find)) = (&start.data, program.data) {
        let recipe = Recipe::parse_with(&text, &path, &start.changes)?;
        if !recipe.data.is_made() {
            start.data = Some(find()?);
        }
    }
    arguments.machine.execute(stop, |options| {
        execute_with(&create(&text, &path, &start, program.options(options))?, execute)
    })
}
