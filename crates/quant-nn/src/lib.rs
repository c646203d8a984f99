//! Quantized layers and networks for [Burn](https://burn.dev), with PyTorch's parameter names.
//!
//! - [`layers`] holds quantized convolution and linear layers, and batch normalisation with
//!   PyTorch's statistics.
//! - [`resnet`], [`mobilenet`], [`vgg_small`] and [`nin`] hold typed configurations of networks.
//!   [`NetworkConfig`] is any of them; its method `init` makes a network.
//! - [`network`] holds the network itself: submodules that a [`graph`] wires.
//! - [`ops`] holds convolution, batch normalisation and ReLU on tensors, with loops of our own on
//!   the CPU.
//! - [`keywords`] translates QTool's keywords: a table of words that change typed configurations.
//! - [`visit`] holds [`QuantizedModule`], the trait of modules with quantizers, and the layers of a
//!   network in the reference's order.
//! - [`summary`] counts parameters and multiply-accumulates, and gives the size at the true bit
//!   width.
//! - [`state`] holds state dictionaries from PyTorch's checkpoints and safetensors files, and to
//!   the latter; [`rename`] gives their entries other names.
//!
//! A file knows only files that come before its own in this order:
//!
//! 1. [`ops`], [`layers`] and [`graph`];
//! 2. the configurations, which are data and know no network, and [`keywords`], which change them;
//! 3. entries and files of state dictionaries (in [`state`]);
//! 4. [`visit`], with the trait of modules with quantizers;
//! 5. what takes the state of such a module and loads it again (in [`state`] too), and [`summary`];
//! 6. [`network`], which has that trait;
//! 7. the private module `build`, which makes networks from configurations, and [`classifier`].

mod build;
pub mod classifier;
mod config;
pub mod error;
pub mod graph;
pub mod keywords;
pub mod layers;
pub mod network;
pub mod ops;
pub mod rename;
pub mod state;
pub mod summary;
pub mod visit;

pub use build::init_seeded;
pub use classifier::{BlockOutput, Classifier};
pub use config::{
    FirstLast, FirstLastQuantizers, NetworkConfig, mobilenet, nin, resnet, vgg_small,
};
pub use error::NetworkError;
pub use layers::{Compute, norm::SumOverProcesses};
pub use network::Network;
pub use rename::Renaming;
pub use resnet::{Quantization, ResNetConfig};
pub use state::{LoadReport, StateDict, codes_file};
pub use summary::{LayerSummary, NetworkSummary, summarize};
pub use visit::QuantizedModule;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
