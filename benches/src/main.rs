//! Benchmarks, which report ratios measured within one run. Machines are shared and noisy, so the
//! sides of a comparison take turns, and medians are reported.
//!
//! Usage: `cargo run --release -p quant-benches -- <name> [--json FILE]`

mod bandwidth;
mod conv;
mod infer;
#[cfg(feature = "cube")]
mod launches;
mod loader;
mod memory;
mod pytorch;
mod qat_overhead;

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use qat_overhead::Task;
use quant_nn::layers::Compute;
use quant_train::{device, output};
use serde::Serialize;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// The benchmark to run
    name: Benchmark,
    /// Also write the rows to this JSON file
    #[arg(long)]
    json: Option<PathBuf>,
    /// The device of training steps, quantizers and convolutions: flex (CPU), cuda, rocm, wgpu,
    /// vulkan or metal, if the program is built with it
    #[arg(long, default_value = "flex")]
    device: String,
    /// Number of images of a step of ResNet-18, and of the convolutions on a GPU
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// The type of products in training steps, and in convolutions on a GPU: f32, f16 or bf16
    #[arg(long, default_value = "f32", value_parser = precision)]
    precision: Compute,
    /// Number of rounds; by default as many as the benchmark needs
    #[arg(long)]
    rounds: Option<usize>,
    /// The JSON file from benches/pytorch/steps.py, to print the ratios to PyTorch's times
    #[arg(long)]
    pytorch: Option<PathBuf>,
    /// The JSON file from benches/compare/engines.py, to print the ratios to other engines' times
    #[arg(long)]
    engines: Option<PathBuf>,
    /// Folder for the loader's images; they are kept, for comparisons with other loaders
    #[arg(long)]
    images: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Benchmark {
    /// Time and memory of quantized training steps relative to full precision: CIFAR ResNet-20,
    /// batch size 128
    QatOverhead,
    /// The same for ImageNet ResNet-18
    Imagenet,
    /// Speed of quantizers relative to copying memory
    Bandwidth,
    /// Time of convolutions: on the CPU relative to those of Burn's backend, on a GPU those of
    /// ResNet-18
    Conv,
    /// Images decoded and augmented per second of CPU time
    Loader,
    /// Packed networks on the CPU, beside other engines
    Infer,
    /// All benchmarks
    All,
}

/// A measured number and its target.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    target: String,
}

impl Row {
    fn new(name: &str, value: f64, unit: &'static str, target: &str) -> Self {
        Self { name: name.to_owned(), value, unit, target: target.to_owned() }
    }
}

fn main() -> ExitCode {
    // A process of its own, whose memory is measured: see `infer`.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|name| name == "infer-once") {
        return infer::once(&PathBuf::from(arguments.next().unwrap_or_default()));
    }
    quant_cli::memory::keep();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let wanted = |benchmark| [benchmark, Benchmark::All].contains(&arguments.name);
    let device = device::select(&arguments.device)?;
    let mut rows = Vec::new();
    if wanted(Benchmark::QatOverhead) {
        let rounds = arguments.rounds.unwrap_or(9);
        rows.extend(qat_overhead::measure(
            Task::Cifar,
            (&device, arguments.precision),
            rounds,
            arguments.pytorch.as_deref(),
        )?);
    }
    if wanted(Benchmark::Imagenet) {
        let rounds = arguments.rounds.unwrap_or(5);
        rows.extend(qat_overhead::measure(
            Task::ImageNet { batch: arguments.batch },
            (&device, arguments.precision),
            rounds,
            arguments.pytorch.as_deref(),
        )?);
    }
    if wanted(Benchmark::Bandwidth) {
        rows.extend(bandwidth::measure(&device, arguments.rounds.unwrap_or(15))?);
    }
    if wanted(Benchmark::Conv) {
        let rounds = arguments.rounds.unwrap_or(9);
        rows.extend(if device == Device::flex() {
            conv::measure(rounds)?
        } else {
            let on = (&device, arguments.precision);
            conv::measure_on_gpu(on, arguments.batch, rounds, arguments.pytorch.as_deref())?
        });
    }
    if wanted(Benchmark::Loader) {
        rows.extend(loader::measure(arguments.rounds.unwrap_or(5), arguments.images.as_deref())?);
    }
    if wanted(Benchmark::Infer) {
        rows.extend(infer::measure_all(
            arguments.rounds.unwrap_or(5),
            arguments.engines.as_deref(),
        )?);
    }
    output::print(&table(&rows))?;
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

/// Returns the type of products that this word names.
fn precision(word: &str) -> Result<Compute, String> {
    let named = [("f32", Compute::F32), ("f16", Compute::F16), ("bf16", Compute::Bf16)];
    let found = named.into_iter().find(|(name, _)| *name == word);
    found.map(|(_, compute)| compute).ok_or_else(|| "expected f32, f16 or bf16".to_owned())
}

fn table(rows: &[Row]) -> String {
    let mut table = format!("{:<48} {:>10}  {:<24} target", "", "median", "unit");
    for row in rows {
        let line = format!("{:<48} {:>10.3}  {:<24} {}", row.name, row.value, row.unit, row.target);
        table += &format!("\n{line}");
    }
    table
}

/// Returns the middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
