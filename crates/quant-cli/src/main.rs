//! The `quant` program.

use std::{
    error::Error,
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use quant_cli::{
    data::{self, CutShort, Downloadable, Format},
    machine::{DeviceArguments, EvalArguments, MachineArguments},
    networks::{self, Description, Reading, Summarized},
    recipes,
    train::{self, ResumeArguments, StartArguments},
};
use quant_train::{Recipe, Run, WeightsFile, evaluate::Score, output};

/// Low-bit networks: train, evaluate, describe, convert.
///
/// Exit codes: 0 done; 1 failed, with a message; 2 wrong usage; 75 asked to stop by Ctrl+C or SIGTERM,
/// everything is saved and `quant resume` goes on; 130 stopped at once by a second Ctrl+C.
#[derive(Parser)]
#[command(name = "quant", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train from a recipe, in a new run folder
    Train {
        /// Recipe file, or the name of a recipe that comes with the program
        recipe: String,
        #[command(flatten)]
        start: StartArguments,
        #[command(flatten)]
        machine: MachineArguments,
    },
    /// Go on with a run that was stopped
    Resume {
        /// The run folder
        run: PathBuf,
        #[command(flatten)]
        asked: ResumeArguments,
        #[command(flatten)]
        machine: MachineArguments,
    },
    /// Evaluate a network on validation data
    Eval {
        /// A run folder, a safetensors file or a PyTorch checkpoint
        network: PathBuf,
        /// The phase of the run or recipe; by default the last, or the last that the file fits
        #[arg(long)]
        phase: Option<String>,
        /// Of a run: the phase's best network instead of its last
        #[arg(long)]
        best: bool,
        /// Of a file: the recipe that says what the data are, and what network the file is of unless
        /// it says so itself
        #[arg(long)]
        recipe: Option<String>,
        /// Of a file: change a field of the recipe (may be repeated)
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        reading: Reading,
        /// Folder of the data; of a run, by default its own
        #[arg(long)]
        data: Option<PathBuf>,
        #[command(flatten)]
        machine: EvalArguments,
    },
    /// Write the report of a run anew
    Report {
        /// The run folder
        run: PathBuf,
        #[command(flatten)]
        device: DeviceArguments,
    },
    /// Train from several recipes, one after another
    Queue {
        /// Recipe files or names
        #[arg(required = true)]
        recipes: Vec<String>,
        /// How often a run that fails is tried again
        #[arg(long, default_value_t = 0)]
        retries: usize,
        #[command(flatten)]
        start: StartArguments,
        #[command(flatten)]
        machine: MachineArguments,
    },
    /// Recipes: list, show, check, import from QTool, verify
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// Data: check, download, pack into shards
    #[command(subcommand)]
    Data(DataCommand),
    /// Say what each keyword does, and draw a block
    Explain(Description),
    /// Say what a network costs, layer by layer: one that keywords describe, or, named in their
    /// place, that of a run folder, a recipe, a safetensors file or a PyTorch checkpoint
    Summary(Summarized),
    /// List the entries of a PyTorch checkpoint or safetensors file
    Inspect {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        reading: Reading,
    },
    /// Write a PyTorch checkpoint or safetensors file as safetensors
    Convert {
        /// The file to read
        from: PathBuf,
        /// The file to write, named .safetensors
        to: PathBuf,
        #[command(flatten)]
        reading: Reading,
        /// From torchvision's ResNet names to those of keyword networks
        #[arg(long)]
        from_torchvision: bool,
    },
    /// Write the quantized weights of a run folder, a safetensors file or a PyTorch checkpoint as
    /// integers, with what each stands for
    Codes {
        /// What is written
        #[command(flatten)]
        of: Summarized,
        /// The safetensors file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print the guide to networks, docs/networks.md
    Guide,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum RecipeCommand {
    /// List the recipes that come with the program
    List,
    /// Print a recipe with every default
    ///
    /// A network is described field by field (depth, stem, ..., or architecture and its fields), or
    /// by QTool's keywords (name, keywords, options). It is printed as the recipe has it, unless
    /// --typed asks for fields.
    Show {
        /// File or name
        recipe: String,
        /// Print networks that keywords describe as the fields that they stand for
        #[arg(long)]
        typed: bool,
        /// Change a field (may be repeated)
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        changes: Vec<String>,
    },
    /// Check a recipe and say what it would train
    Check {
        /// File or name
        recipe: String,
        /// Change a field (may be repeated)
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        changes: Vec<String>,
    },
    /// Print the page of all fields of recipes, docs/recipe-fields.md
    Fields,
    /// Make a recipe of one of QTool's configuration files
    Import {
        /// The configuration file
        from: PathBuf,
        /// The recipe to write
        #[arg(long, short, default_value = "imported.toml")]
        output: PathBuf,
    },
    /// Run a recipe and compare its score with the expected one
    Verify {
        /// File or name
        recipe: String,
        #[command(flatten)]
        start: StartArguments,
        #[command(flatten)]
        machine: MachineArguments,
    },
}

#[derive(Subcommand)]
enum DataCommand {
    /// Decode every image and name those that cannot be
    Check {
        /// The folder
        folder: PathBuf,
        /// Its format
        #[arg(long, value_enum, default_value = "image-folder")]
        format: Format,
        /// What becomes of image files that are cut short, as `data.truncated` of a recipe says
        #[arg(long, value_enum, default_value = "refuse")]
        truncated: CutShort,
    },
    /// Download and unpack a data set
    Download {
        /// Which
        which: Downloadable,
        /// Where to
        folder: PathBuf,
        /// Address of the archive, or of the folder of MNIST's files, instead of the official one
        #[arg(long)]
        url: Option<String>,
    },
    /// Pack class folders into tar files that are read fast
    Shard {
        /// Folder with one folder a class below train and below val
        from: PathBuf,
        /// Folder to write train/*.tar and val/*.tar in
        to: PathBuf,
        /// Size of a tar file, in MiB
        #[arg(long, default_value_t = 256)]
        size: u64,
    },
}

/// What a command prints at the end.
type Printed = Result<String, Box<dyn Error>>;

fn run(command: Command) -> Printed {
    let nothing = |()| String::new();
    match command {
        Command::Train { recipe, start, machine } => {
            let (text, path) = recipes::find(&recipe)?;
            let run = |options| train::execute(&train::create(&text, &path, &start, options)?);
            machine.execute(train::stop_on_signals()?, run).map(nothing)
        }
        Command::Resume { run, asked, machine } => {
            let go_on = |options| train::resume(&run, &asked, options);
            machine.execute(train::stop_on_signals()?, go_on).map(nothing)
        }
        Command::Eval { network, phase, best, recipe, changes, reading, data, machine } => {
            let asked = Asked { phase, best, recipe, changes, reading, data };
            evaluate(&network, asked, &machine)
        }
        Command::Report { run, device } => {
            let run = Run::resume(&run, None, device.options()?)?;
            Ok(format!("written: {}", run.report()?.display()))
        }
        Command::Queue { recipes, retries, start, machine } => {
            recipes::queue(&recipes, retries, &start, &machine).map(nothing)
        }
        Command::Recipe(command) => match command {
            RecipeCommand::List => recipes::list(),
            RecipeCommand::Show { recipe, typed, changes } => {
                recipes::show(&recipe, typed, &changes)
            }
            RecipeCommand::Check { recipe, changes } => recipes::check(&recipe, &changes),
            RecipeCommand::Fields => Ok(quant_train::fields::guide()),
            RecipeCommand::Import { from, output } => recipes::import(&from, &output),
            RecipeCommand::Verify { recipe, start, machine } => {
                recipes::verify(&recipe, &start, &machine).map(nothing)
            }
        },
        Command::Data(command) => match command {
            DataCommand::Check { folder, format, truncated } => {
                let checked = data::check(&folder, format, truncated.into())?;
                output::print(checked.report.trim_end())?;
                checked.verdict().map(nothing)
            }
            DataCommand::Download { which, folder, url } => data::download(which, &folder, url),
            DataCommand::Shard { from, to, size } => data::shard(&from, &to, size),
        },
        Command::Explain(description) => networks::explain(&description),
        Command::Summary(description) => networks::summary(&description),
        Command::Codes { of, output } => networks::codes(&of, &output),
        Command::Inspect { file, reading } => networks::inspect(&file, &reading),
        Command::Convert { from, to, reading, from_torchvision } => {
            networks::convert(&from, &to, &reading, from_torchvision)
        }
        Command::Guide => networks::guide(),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "quant", &mut script);
            Ok(String::from_utf8(script)?)
        }
    }
}

/// What `quant eval` is asked.
struct Asked {
    phase: Option<String>,
    best: bool,
    recipe: Option<String>,
    changes: Vec<String>,
    reading: Reading,
    data: Option<PathBuf>,
}

fn evaluate(network: &Path, asked: Asked, machine: &EvalArguments) -> Printed {
    let options = machine.options()?;
    let Asked { phase, best, recipe, changes, reading, data } = asked;
    let found = if network.is_dir() {
        let ignored = [
            ("--recipe", recipe.is_some()),
            ("--set", !changes.is_empty()),
            ("--key", reading.key.is_some()),
            ("--map", reading.map.is_some()),
        ];
        if let Some((option, _)) = ignored.into_iter().find(|(_, given)| *given) {
            return Err(
                format!("{option} is for files: a run has its own recipe and networks").into()
            );
        }
        let run = Run::resume(network, data.as_deref(), options.clone())?;
        let last = run.recipe().phases.last().map(|phase| phase.name.clone());
        let phase = phase.or(last).unwrap_or_default();
        let file = WeightsFile::new(run.network_file(&phase, best));
        run.check_classes()?;
        Run::evaluate(&file, run.recipe(), Some(&phase), run.data(), &options)?
    } else {
        let recipe = recipe.ok_or("--recipe is needed with a file: it says what the data are")?;
        let (text, path) = recipes::find(&recipe)?;
        let recipe = Recipe::parse_with(&text, &path, &changes)?;
        let data = match data {
            Some(data) => data,
            None if recipe.data.is_made() => PathBuf::from("."),
            None => return Err(train::no_data(&recipe.data).into()),
        };
        if best {
            return Err("--best is for run folders: a file has one network".into());
        }
        let file = reading.file(network);
        Run::evaluate(&file, &recipe, phase.as_deref(), &data, &options)?
    };
    let mut text = String::new();
    for reason in &found.skipped {
        writeln!(text, "skipped: {reason}")?;
    }
    if let Some(phase) = &found.phase {
        writeln!(text, "network: phase {phase} of the recipe; {}", found.report)?;
    }
    if let Some((own, given)) = found.other_size {
        writeln!(
            text,
            "warning: the network is for images of {own} pixels, the recipe gives {given}"
        )?;
    }
    let Score { top1, top5, loss, images, skipped } = found.score;
    write!(text, "top-1 {top1:.2} %, top-5 {top5:.2} %, loss {loss:.4} on {images} images")?;
    if skipped > 0 {
        write!(text, ", {skipped} skipped")?;
    }
    Ok(text)
}

fn main() -> ExitCode {
    quant_cli::memory::keep();
    let result = run(Arguments::parse().command);
    train::exit_code(result.and_then(|text| match text.trim_end() {
        "" => Ok(()),
        text => Ok(output::print(text)?),
    }))
}
