//! Quantized layers and networks for [Burn](https://burn.dev), with PyTorch's parameter names.
//!
//! - [`layers`] has quantized convolution and linear layers, and batch normalisation with PyTorch's
//!   statistics.
//! - [`resnet`], [`mobilenet`], [`vgg_small`] and [`nin`] have typed configurations of networks.
//!   [`NetworkConfig`] is any of them; its method `init` makes a network.
//! - [`network`] has the network itself: submodules that are connected by a [`graph`].
//! - [`ops`] has convolution, batch normalisation and ReLU on tensors, which use the loops of
//!   `quant-kernels` on the CPU.
//! - [`keywords`] translates QTool's keywords: a table of words that change typed configurations.
//! - [`visit`] has [`QuantizedModule`], the trait of modules with quantizers, and the layers of a
//!   network in the order of the reference.
//! - [`summary`] counts parameters and multiply-accumulates, and computes the size at the true bit
//!   width.
//! - [`state`] has state dictionaries with PyTorch's names, as data and as the bytes of safetensors
//!   files; [`rename`] gives their entries other names.
//!
//! A module of this crate uses only modules that come before it in this order:
//!
//! 1. [`ops`], [`layers`] and [`graph`];
//! 2. the configurations, which are data, and [`keywords`], which change them;
//! 3. entries of state dictionaries, and their bytes (in [`state`]);
//! 4. [`visit`], with the trait of modules with quantizers;
//! 5. taking and loading the state of such a module (also in [`state`]), and [`summary`];
//! 6. [`network`], which implements that trait;
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
