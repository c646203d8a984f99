//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2016), torchvision's and
//! every variant of QTool's keywords.

mod block;
mod build;
mod config;

pub use config::{
    BlockKind, Depth, DownsampleKind, Fixup, Kernel, LosslessDownsample, NameStyle, Order,
    PointReshape, Quantization, ResNetConfig, SkipSpan, Stem,
};
