//! Trains a small ResNet in full precision, then with a quantization method that this program
//! defines.

use std::process::ExitCode;

use own_method::register_power_of_two;
use quant_cli::train::{self, TrainProgram};

#[expect(clippy::print_stderr, reason = "an example's output")]
fn main() -> ExitCode {
    // The method must be registered before a recipe or a checkpoint that names it is read.
    if let Err(error) = register_power_of_two() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    train::main(&TrainProgram::new(
        "own_method",
        "Trains a ResNet with step sizes that are powers of two",
        ("recipe.toml", include_str!("../recipe.toml")),
    ))
}
