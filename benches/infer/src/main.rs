//! Prints the times of packed networks with random weights, on one thread:
//! `cargo run --release -p quant-infer-benches -- --network resnet18 --width w2a2 --steps`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::process::ExitCode;

use clap::Parser;
use quant_infer::Network;
use quant_infer_benches::{Architecture, WIDTHS, Width, measure, network};
use quant_kernels::simd::InstructionSet;

#[derive(Parser)]
#[command(about = "Times of packed networks with random weights, on one thread")]
struct Arguments {
    /// resnet18, resnet50, mobilenet_v1 or resnet20; by default resnet18
    #[arg(long, default_value = "resnet18")]
    network: String,
    /// w2a2 to w8a8, ternary or w1a1; by default those of the table of results
    #[arg(long)]
    width: Vec<String>,
    /// The instruction set; by default the best. `all` measures each that the processor has
    #[arg(long)]
    set: Option<String>,
    /// Number of images
    #[arg(long, default_value_t = 40)]
    images: usize,
    /// Also print the shortest time of each step
    #[arg(long)]
    steps: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let found = Architecture::ALL.into_iter().find(|found| found.name() == arguments.network);
    let names = || Architecture::ALL.map(Architecture::name).join(", ");
    let architecture =
        found.ok_or_else(|| format!("no network {}; there are {}", arguments.network, names()))?;
    let width = |name: &String| {
        let unknown = || format!("no width {name}; there are w2a2 to w8a8, ternary and w1a1");
        Width::from_name(name).filter(|width| *width != Width::Floats).ok_or_else(unknown)
    };
    let mut widths = arguments.width.iter().map(width).collect::<Result<Vec<_>, _>>()?;
    if widths.is_empty() {
        widths.extend(WIDTHS);
    }
    let sets: Vec<InstructionSet> = InstructionSet::available().collect();
    let chosen: Vec<InstructionSet> = match arguments.set.as_deref() {
        None => vec![sets[0]],
        Some("all") => sets,
        Some(name) => {
            let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
            let missing = || format!("no instruction set {name}; there are {}", names.join(", "));
            let found = sets.iter().find(|set| set.name() == name);
            vec![found.copied().ok_or_else(missing)?]
        }
    };
    for width in widths {
        let model = network(architecture, width);
        for set in &chosen {
            let of = |error: quant_infer::Error| error.to_string();
            let network = Network::with_instruction_set(&model, *set).map_err(of)?;
            let times = measure(&network, arguments.images).map_err(of)?;
            let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
            println!(
                "{:16} {:22} median {:7.3} ms, shortest {:7.3} ms",
                set.name(),
                model.name,
                milliseconds(times.median),
                milliseconds(times.shortest)
            );
            if arguments.steps {
                for (name, time) in &times.steps {
                    println!("    {:8.3} ms {name}", milliseconds(*time));
                }
            }
        }
    }
    Ok(())
}
