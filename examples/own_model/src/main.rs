//! Trains a Burn model that this program defines in full precision, then with 4-bit weights and
//! activations, and packs the result. Checkpoints, exact resume, policies, several devices, a
//! report and `packed.qnet` work as with `quant train`.

use std::process::ExitCode;

use own_model::Net;
use quant_cli::train::{self, TrainProgram};

fn main() -> ExitCode {
    let program = TrainProgram::new(
        "own_model",
        "Trains a network of its own, then quantizes it",
        ("recipe.toml", include_str!("../recipe.toml")),
    );
    train::main_own_packed(&program, Net::new, Net::lower)
}
