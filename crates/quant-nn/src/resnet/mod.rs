//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2016) in
//! torchvision's order: convolution, norm, activation; the skip added before the last activation.

mod block;
mod config;
mod network;

pub use block::{BasicBlock, Block, Bottleneck, Downsample};
pub use config::{BlockKind, Depth, DownsampleKind, NameStyle, Quantization, ResNetConfig, Stem};
pub use network::{ResNet, Stage};
