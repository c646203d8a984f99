//! Quantized layers and networks for [Burn](https://burn.dev), with PyTorch's parameter names.
//!
//! - [`layers`] holds quantized convolution and linear layers, and batch normalisation with PyTorch's
//!   statistics.
//! - [`resnet`], [`mobilenet`], [`vgg_small`], [`nin`]: typed configurations of networks.
//! - [`network`]: the network itself, pieces wired by a [`graph`].
//! - [`ops`]: convolution, batch normalisation and ReLU on tensors, with loops of our own on the CPU.
//! - [`keywords`]: QTool's keywords, a table of words that change typed configurations.
//! - [`visit`]: a network's layers in the reference's order; calibration.
//! - [`summary`]: parameters, multiply-accumulates, size at the true bit width.
//! - [`state`]: state dictionaries from PyTorch's checkpoints and safetensors files, and to the latter;
//!   [`rename`] gives their entries other names.

mod builder;
pub mod classifier;
pub mod error;
pub mod graph;
pub mod keywords;
pub mod layers;
pub mod mobilenet;
pub mod network;
pub mod nin;
pub mod ops;
pub mod rename;
pub mod resnet;
pub mod state;
pub mod summary;
pub mod vgg_small;
pub mod visit;

pub use classifier::{BlockOutput, Classifier};
pub use error::NetworkError;
pub use layers::{Compute, norm::SumOverProcesses};
pub use network::{Network, NetworkConfig, init_seeded};
pub use rename::Renaming;
pub use resnet::{Quantization, ResNetConfig};
pub use state::{LoadReport, StateDict, codes_file};
pub use summary::{LayerSummary, NetworkSummary, summarize};
pub use visit::QuantizedModule;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
