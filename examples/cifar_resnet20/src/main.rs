//! Trains a ResNet-20 on CIFAR-10 or CIFAR-100 from their binary files, first in full precision, then
//! with 2-bit weights and activations.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use quant_train::{Recipe, Run, RunOptions, Summary, device};

/// The default recipe.
const CIFAR10: &str = include_str!("../recipes/lsq_resnet20_w2a2.toml");

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Recipe file; by default 2-bit LSQ on CIFAR-10
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Folder with the binary files (data_batch_1.bin, ...), or the one that the archive unpacked into
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

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program's error message")]
fn fail(error: &dyn Error) {
    eprintln!("error: {error}");
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let options = RunOptions {
        device: device::select(&arguments.device)?,
        device_name: arguments.device,
        workers: arguments.workers,
        terminal: true,
    };
    let run = match &arguments.resume {
        Some(folder) => Run::resume(folder, arguments.data.as_deref(), options)?,
        None => {
            let (recipe, folder) = match &arguments.recipe {
                Some(path) => {
                    (Recipe::read(path)?, path.parent().unwrap_or(Path::new(".")).to_owned())
                }
                None => (
                    Recipe::parse(CIFAR10, Path::new("lsq_resnet20_w2a2.toml"))?,
                    PathBuf::from("."),
                ),
            };
            let data =
                arguments.data.ok_or("--data <folder with CIFAR's binary files> is needed")?;
            Run::create(&arguments.runs, recipe, &folder, &data, options)?
        }
    };
    let summary = run.execute().inspect_err(|_| resume_hint(run.folder()))?;
    print(&summary, run.folder());
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a program's advice")]
fn resume_hint(folder: &Path) {
    eprintln!("to go on from the last checkpoint: --resume {}", folder.display());
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
