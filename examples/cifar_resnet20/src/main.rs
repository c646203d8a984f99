//! Trains a ResNet-20 on the binary files of CIFAR-10 or CIFAR-100, first in full precision, then
//! with 2-bit weights and activations.

use std::process::ExitCode;

use quant_cli::train::{self, TrainProgram};

fn main() -> ExitCode {
    train::main(&TrainProgram::new(
        "cifar_resnet20",
        "Trains a low-bit ResNet on CIFAR's binary files (data_batch_1.bin, train.bin, ...)",
        ("lsq_resnet20_w2a2.toml", include_str!("../recipes/lsq_resnet20_w2a2.toml")),
    ))
}
