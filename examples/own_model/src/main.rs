//! Trains a Burn model of its own in full precision, then with 4-bit weights and activations: with
//! checkpoints, exact resume, policies, several devices and a report, as `quant train` does.

use std::process::ExitCode;

use own_model::Net;
use quant_cli::train::{self, TrainProgram};

fn main() -> ExitCode {
    let program = TrainProgram {
        name: "own_model",
        about: "Trains a network of its own, then quantizes it",
        recipe: ("recipe.toml", include_str!("../recipe.toml")),
        data: None,
    };
    train::main_own(&program, Net::new)
}
