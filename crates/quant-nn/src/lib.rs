//! Quantized layers and networks for [Burn](https://burn.dev), with PyTorch's parameter names.
//!
//! - [`layers`] holds quantized convolution and linear layers, and batch normalisation with PyTorch's
//!   statistics.
//! - [`resnet`]: typed configurations of residual networks and the networks themselves.
//! - [`visit`]: a network's layers in execution order; calibration.
//! - [`summary`]: parameters, multiply-accumulates, size at the true bit width.
//! - [`state`]: state dictionaries and safetensors files.
//! - [`qtool`]: QTool's keywords.

pub mod error;
pub mod layers;
pub mod qtool;
pub mod resnet;
pub mod state;
pub mod summary;
pub mod visit;

pub use error::NetworkError;
pub use resnet::{Quantization, ResNet, ResNetConfig};
pub use state::{LoadReport, StateDict};
pub use summary::{LayerSummary, NetworkSummary, summarize};
pub use visit::QuantizedModule;
