//! The `quant` program.

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use quant_cli::{
    bench,
    data::{self, CutShort, Downloadable, Format},
    evaluation::{self, EvalChoice},
    import::{self, ImportArguments},
    inspect,
    machine::{DeviceArguments, EvalArguments, MachineArguments},
    networks::{self, Description, NetworkArguments, WeightsArguments},
    packed::{self, ExportFormat, OnnxImages},
    recipes,
    runs::{self, ResumeArguments, StartArguments},
};
use quant_train::{Run, output};

/// Train, evaluate, describe and convert low-bit networks
///
/// Exit codes: 0 after success; 1 after an error, with a message; 2 after wrong usage; 75 if Ctrl+C
/// or SIGTERM stopped a run, which is saved and can be continued with `quant resume`; 130 if a
/// second Ctrl+C ended the program at once.
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
    /// Continue a run that was stopped
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
        /// A run folder, a packed network (.qnet), a safetensors file or a PyTorch checkpoint
        network: PathBuf,
        #[command(flatten)]
        choice: EvalChoice,
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
    /// Train from several recipes, one after another
    Queue {
        /// Recipe files or names
        #[arg(required = true)]
        recipes: Vec<String>,
        /// Number of times that a failed run is tried again
        #[arg(long, default_value_t = 0)]
        retries: usize,
        #[command(flatten)]
        start: StartArguments,
        #[command(flatten)]
        machine: MachineArguments,
    },
    /// List, show, check and verify recipes, and import them from QTool
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// Check data, download them, and pack them into shards
    #[command(subcommand)]
    Data(DataCommand),
    /// Explain each keyword of a network, and draw one of its blocks
    Explain(Description),
    /// Print the parameters and operations of a network, layer by layer
    ///
    /// The network is described by keywords. In their place, a run folder, a recipe, a safetensors
    /// file or a PyTorch checkpoint may be named.
    #[command(mut_arg("keywords", |network| network.value_name("NETWORK")))]
    Summary(NetworkArguments),
    /// Pack a trained network, or an ONNX file, into a small file that programs run without a
    /// training framework
    ///
    /// The network is that of a run folder or of a file of weights, or a convolutional classifier
    /// in an ONNX file (.onnx) whose quantizers are those of QONNX, or QuantizeLinear and
    /// DequantizeLinear.
    #[command(mut_arg("keywords", |network| network.value_name("RUN OR FILE").help(
        "A run folder, a safetensors file, a PyTorch checkpoint or an ONNX file"
    )))]
    Pack {
        /// What is packed
        #[command(flatten)]
        of: NetworkArguments,
        #[command(flatten)]
        images: OnnxImages,
        /// With a run: pack the best network of the phase instead of the last
        #[arg(long)]
        best: bool,
        /// The packed file to write
        #[arg(long, short, value_name = "FILE.qnet")]
        output: PathBuf,
        /// Print for each layer what it became, its bytes and operations, and the reason where it
        /// is computed in floats
        #[arg(long)]
        explain: bool,
    },
    /// Write a packed network, or the network of a run, as an ONNX file for other programs
    ///
    /// The network is a packed one (.qnet), or that of a run folder or of a file of weights. The
    /// file takes pictures as bytes [N, channels, height, width], and normalises them itself. The
    /// command says which layers compute in floats, and why.
    #[command(mut_arg("keywords", |network| network.value_name("NETWORK").help(
        "A packed network, a run folder, a safetensors file or a PyTorch checkpoint"
    )))]
    Export {
        /// What is written
        #[command(flatten)]
        of: NetworkArguments,
        /// With a run: write the best network of the phase instead of the last
        #[arg(long)]
        best: bool,
        /// The format
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// The file to write
        #[arg(long, short, value_name = "FILE.onnx")]
        output: PathBuf,
    },
    /// Make a network that can be trained further, of an ONNX file or a packed network
    ///
    /// The structure has to be that of a network that recipes describe: a ResNet, MobileNet,
    /// VGG-small or NiN. The file of weights describes its network, so that `quant summary`,
    /// `quant eval` and `phase.init` of a recipe read it. The command runs both networks on a few
    /// images of noise, and prints how many codes differ.
    Import(ImportArguments),
    /// Classify pictures with a packed network
    ///
    /// Prints one line for each picture, with its best classes and their scores. A picture that
    /// cannot be read is named on standard error, with the reason; the other pictures are
    /// classified, and the exit code is 1.
    Run {
        /// The packed network (.qnet)
        network: PathBuf,
        /// The pictures
        #[arg(required = true)]
        pictures: Vec<PathBuf>,
        /// Number of classes that are printed for each picture, the best first
        #[arg(long, default_value_t = 5, value_name = "N",
            value_parser = clap::value_parser!(u16).range(1..))]
        top: u16,
        /// Print a JSON object for each picture: `picture`, its name; `best`, the best classes,
        /// each with `class`, `index` and `score`; and `scores`, those of all classes by index
        #[arg(long)]
        json: bool,
    },
    /// Measure a packed network on this processor: the time of each layer, its kernel, and what
    /// other numbers of bits would cost
    Bench {
        /// The packed network, a .qnet file
        network: PathBuf,
        /// Number of images that are measured
        #[arg(long, default_value_t = 20)]
        images: usize,
        /// The instruction set, such as avx2; by default the best that the processor has
        #[arg(long)]
        set: Option<String>,
    },
    /// List the entries of a PyTorch checkpoint or safetensors file, or the layers of a packed
    /// network
    Inspect {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        reading: WeightsArguments,
    },
    /// Write a PyTorch checkpoint or safetensors file as safetensors
    Convert {
        /// The file to read
        from: PathBuf,
        /// The file to write, named .safetensors
        to: PathBuf,
        #[command(flatten)]
        reading: WeightsArguments,
        /// Rename torchvision's ResNet entries as networks described by keywords name them
        #[arg(long)]
        from_torchvision: bool,
    },
    /// Write quantized weights as integers, with the value that each integer stands for
    ///
    /// The weights are those of a run folder, a safetensors file or a PyTorch checkpoint, which is
    /// named in the place of keywords.
    #[command(mut_arg("keywords", |network| network.value_name("RUN OR FILE").help(
        "A run folder, a safetensors file or a PyTorch checkpoint"
    )))]
    Codes {
        /// The network whose weights are written
        #[command(flatten)]
        of: NetworkArguments,
        /// The safetensors file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print the guide to networks (docs/networks.md)
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
    /// Print a recipe with every default value
    ///
    /// A recipe describes its network field by field (depth, stem, ..., or architecture and its
    /// fields), or by QTool's keywords (name, keywords, options). The network is printed as the
    /// recipe describes it, unless --typed asks for fields.
    Show {
        /// Recipe file, or the name of a recipe that comes with the program
        recipe: String,
        /// Print the fields that keywords stand for, instead of the keywords
        #[arg(long)]
        typed: bool,
        /// Change a field (may be repeated)
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        changes: Vec<String>,
    },
    /// Check a recipe, and print what it would train
    Check {
        /// Recipe file, or the name of a recipe that comes with the program
        recipe: String,
        /// Change a field (may be repeated)
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        changes: Vec<String>,
        /// Folder of the data, to check that each phase can use them
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Print the page of all fields of recipes (docs/recipe-fields.md)
    Fields,
    /// Convert one of QTool's configuration files into a recipe
    Import {
        /// The configuration file
        from: PathBuf,
        /// The recipe to write
        #[arg(long, short, default_value = "imported.toml")]
        output: PathBuf,
    },
    /// Run a recipe, and compare its score with the expected score
    Verify {
        /// Recipe file, or the name of a recipe that comes with the program
        recipe: String,
        #[command(flatten)]
        start: StartArguments,
        #[command(flatten)]
        machine: MachineArguments,
    },
}

#[derive(Subcommand)]
enum DataCommand {
    /// Decode every image, and list the images that cannot be decoded
    Check {
        /// Folder of the data
        folder: PathBuf,
        /// Format of the data
        #[arg(long, value_enum, default_value = "image-folder")]
        format: Format,
        /// What to do with image files that are cut short, like `data.truncated` of a recipe
        #[arg(long, value_enum, default_value = "refuse")]
        truncated: CutShort,
    },
    /// Download and unpack a data set
    Download {
        /// The data set
        which: Downloadable,
        /// Folder that the data set is written to
        folder: PathBuf,
        /// Address to use instead of the official one: that of the archive or, for data sets in
        /// MNIST's format, that of the folder with the files
        #[arg(long)]
        url: Option<String>,
    },
    /// Pack class folders into tar files, which are read faster
    Shard {
        /// Folder whose subfolders train and val have one folder per class
        from: PathBuf,
        /// Folder that train/*.tar and val/*.tar are written to
        to: PathBuf,
        /// Approximate size of a tar file in MiB
        #[arg(long, default_value_t = 256)]
        size: u64,
    },
}

/// The text that a command prints at its end.
type Printed = Result<String, Box<dyn Error>>;

fn run(command: Command) -> Printed {
    let nothing = |()| String::new();
    match command {
        Command::Train { recipe, start, machine } => {
            let (text, path) = recipes::find(&recipe)?;
            let run = |options| runs::execute(&runs::create(&text, &path, &start, options)?);
            machine.execute(runs::stop_on_signals()?, run).map(nothing)
        }
        Command::Resume { run, asked, machine } => {
            let resume = |options| runs::resume(&run, &asked, options);
            machine.execute(runs::stop_on_signals()?, resume).map(nothing)
        }
        Command::Eval { network, choice, machine } => {
            evaluation::evaluate(&network, &choice, &machine)
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
            RecipeCommand::Check { recipe, changes, data } => {
                recipes::check(&recipe, &changes, data.as_deref())
            }
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
        Command::Pack { of, images, best, output, explain } => {
            packed::pack(&of, &images, best, &output, explain)
        }
        Command::Import(asked) => import::import(&asked),
        Command::Export { of, best, format, output } => packed::export(&of, best, format, &output),
        Command::Run { network, pictures, top, json } => {
            packed::run(&network, &pictures, top.into(), json).map(nothing)
        }
        Command::Bench { network, images, set } => bench::bench(&network, images, set.as_deref()),
        Command::Inspect { file, reading } => inspect::inspect(&file, &reading),
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

fn main() -> ExitCode {
    quant_cli::memory::keep();
    quant_cli::memory::report_large_files();
    let result = run(Arguments::parse().command);
    runs::exit_code(result.and_then(|text| match text.trim_end() {
        "" => Ok(()),
        text => Ok(output::print(text)?),
    }))
}
