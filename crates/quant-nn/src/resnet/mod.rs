//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2016), torchvision's and
//! every variant of QTool's keywords.

mod block;
mod build;
mod choices;
mod config;

pub use choices::{
    BlockKind, Depth, DownsampleKind, Fixup, Kernel, LosslessDownsample, NameStyle, Order,
    PointReshape, SkipSpan, Stem,
};
pub use config::{Quantization, ResNetConfig};
