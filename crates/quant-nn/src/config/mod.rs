//! Typed configurations of networks.
//!
//! A configuration is data: it can be read, checked and written without building a network. The
//! methods `init`, which make a network from a configuration, are in `build`.

mod first_last;
pub mod mobilenet;
mod network;
pub mod nin;
mod quantization;
mod range;
pub mod resnet;
pub mod vgg_small;

pub use first_last::{FirstLast, FirstLastQuantizers};
pub use network::NetworkConfig;
pub(crate) use network::each_config;
pub(crate) use quantization::Quantization;
