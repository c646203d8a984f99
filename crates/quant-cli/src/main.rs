//! The `quant` program.

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use quant_cli::networks::{self, Description, Renames};

/// Low-bit networks: what keywords build, what they cost, and states that come and go.
#[derive(Parser)]
#[command(name = "quant", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what each keyword does, and draw a block
    Explain(Description),
    /// Say what a network costs, layer by layer
    Summary(Description),
    /// List the entries of a PyTorch checkpoint or safetensors file
    Inspect {
        /// The file
        file: PathBuf,
    },
    /// Write a PyTorch checkpoint or safetensors file as safetensors
    Convert {
        /// The file to read
        from: PathBuf,
        /// The file to write
        to: PathBuf,
        #[command(flatten)]
        renames: Renames,
    },
    /// Print the guide to networks, docs/networks.md
    Guide,
}

fn run(command: Command) -> Result<String, Box<dyn Error>> {
    match command {
        Command::Explain(description) => networks::explain(&description),
        Command::Summary(description) => networks::summary(&description),
        Command::Inspect { file } => networks::inspect(&file),
        Command::Convert { from, to, renames } => networks::convert(&from, &to, &renames),
        Command::Guide => networks::guide(),
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]
fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
