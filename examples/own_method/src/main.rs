//! Trains a small ResNet in full precision, then with a quantization method of this program's own.

use std::process::ExitCode;

use own_method::register_power_of_two;
use quant_cli::train::{self, TrainProgram};

#[expect(clippy::print_stderr, reason = "an example's output")]
fn main() -> ExitCode {
    // Before a recipe or a checkpoint that names it is read.
    if let Err(error) = register_power_of_two() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    train::main(&TrainProgram {
        name: "own_method",
        about: "Trains a ResNet with step sizes that are powers of two",
        recipe: ("recipe.toml", include_str!("../recipe.toml")),
        data: None,
    })
}
