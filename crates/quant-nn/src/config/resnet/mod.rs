//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2016):
//! torchvision's, and every variant of QTool's keywords.

mod choices;
mod config;

pub use crate::config::quantization::Quantization;
pub use choices::{
    BlockKernel, BlockKind, Depth, DownsampleKind, Fixup, LosslessDownsample, NameStyle, Order,
    PointReshape, SkipSpan, Stem,
};
pub use config::ResNetConfig;
