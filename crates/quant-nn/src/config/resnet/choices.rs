//! The choices of a residual network's configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of the residual blocks, and their number in each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Basic blocks 3, 3, 3.
    ResNet20,
    /// Basic blocks 2, 2, 3, 2.
    #[serde(rename = "resnet20_")]
    ResNet20Wide,
    /// Basic blocks 5, 5, 5.
    ResNet32,
    /// Basic blocks 7, 7, 7.
    ResNet44,
    /// Basic blocks 9, 9, 9.
    ResNet56,
    /// Basic blocks 2, 2, 2, 2.
    ResNet18,
    /// Basic blocks 3, 4, 6, 3.
    ResNet34,
    /// Basic blocks: 2 in each of eight stages, after an empty first stage.
    #[serde(rename = "resnet34_")]
    ResNet34Deep,
    /// Bottlenecks 3, 4, 6, 3.
    ResNet50,
    /// Bottlenecks 3, 4, 23, 3.
    ResNet101,
    /// Bottlenecks 3, 8, 36, 3.
    ResNet152,
}

/// The residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// Two 3x3 convolutions.
    Basic,
    /// Convolutions of 1x1, of 3x3 with the stride, and of 1x1 to four times the channels.
    Bottleneck,
}

impl BlockKind {
    /// Returns the ratio of output channels to the block's width.
    pub fn expansion(self) -> usize {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }
}

impl Depth {
    /// Returns the number of blocks in each stage.
    pub fn stages(self) -> &'static [usize] {
        match self {
            Depth::ResNet20 => &[3, 3, 3],
            Depth::ResNet32 => &[5, 5, 5],
            Depth::ResNet44 => &[7, 7, 7],
            Depth::ResNet56 => &[9, 9, 9],
            Depth::ResNet18 => &[2, 2, 2, 2],
            Depth::ResNet34 | Depth::ResNet50 => &[3, 4, 6, 3],
            Depth::ResNet101 => &[3, 4, 23, 3],
            Depth::ResNet152 => &[3, 8, 36, 3],
            Depth::ResNet20Wide => &[2, 2, 3, 2],
            Depth::ResNet34Deep => &[0, 2, 2, 2, 2, 2, 2, 2, 2],
        }
    }

    /// Returns the kind of the blocks.
    pub fn block(self) -> BlockKind {
        match self {
            Depth::ResNet50 | Depth::ResNet101 | Depth::ResNet152 => BlockKind::Bottleneck,
            _ => BlockKind::Basic,
        }
    }
}

/// The layers before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A 3x3 convolution.
    Cifar,
    /// A 7x7 convolution of stride 2, and 3x3 maximum pooling of stride 2.
    ImageNet,
    /// Space-to-depth of 4x4 squares, then a convolution with this kernel, 1 or 3 (TResNet; Ridnik
    /// et al. 2021).
    #[serde(rename = "space-to-depth")]
    SpaceToDepth(#[schemars(range(min = 1, max = 3))] usize),
    /// Space-to-depth of 2x2 squares, then a convolution with this kernel, 1 or 3, and 3x3 maximum
    /// pooling of stride 2.
    #[serde(rename = "space-to-depth-max-pool")]
    SpaceToDepthMaxPool(#[schemars(range(min = 1, max = 3))] usize),
}

/// The order of a block's convolution (c), norm (b), activation (a) and addition of the skip (s).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Convolution, norm, activation, addition.
    Cbas,
    /// Convolution, norm, addition, activation.
    #[default]
    Cbsa,
    /// Convolution, activation, norm, addition.
    Cabs,
    /// Norm, activation, convolution, addition.
    Bacs,
    /// Norm, convolution, activation, addition.
    Bcas,
}

impl Order {
    /// Returns the letters of the order.
    pub fn letters(self) -> &'static str {
        match self {
            Order::Cbas => "cbas",
            Order::Cbsa => "cbsa",
            Order::Cabs => "cabs",
            Order::Bacs => "bacs",
            Order::Bcas => "bcas",
        }
    }

    /// Returns whether the norm comes before the convolution.
    pub fn norm_first(self) -> bool {
        matches!(self, Order::Bacs | Order::Bcas)
    }
}

/// What each skip connection spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SkipSpan {
    /// The whole block.
    #[default]
    Block,
    /// Each convolution, as in Bi-Real Net (Liu et al. 2018).
    Layer,
}

/// Lossless downsampling: space-to-depth and a convolution in front of a block do the downsampling
/// instead of a stride, so that no pixel is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LosslessDownsample {
    /// The layers, one letter each: `c` for space-to-depth and a convolution, `b` for a norm, `a`
    /// for an activation. Possible are `c`, `ca`, `cb` and `cba`.
    pub order: String,
    /// Whether the convolution is 3x3 and replaces the whole block. By default it is 1x1, and the
    /// block follows.
    #[serde(default)]
    pub whole_block: bool,
}

/// Point-wise-and-reshape blocks: space-to-depth, a 1x1 convolution and depth-to-space replace 3x3
/// convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PointReshape {
    /// Whether strided convolutions are not replaced. Choose it if replacing them lowers the score.
    pub keep_downsample: bool,
    /// Whether the norm comes before depth-to-space, where there are four times as many channels.
    pub norm_before_restore: bool,
}

/// Fixup (Zhang et al., "Fixup Initialization: Residual Learning Without Normalization", 2019):
/// there are no norms; each block has a learned scale, and its weights start small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fixup {
    /// Whether there are learned biases before and after convolutions and activations, as in the
    /// paper.
    pub bias: bool,
}

/// The kernel that replaces that of a 3x3 convolution in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKernel {
    /// The kernel that the structure has: 1x1 in point-wise-and-reshape blocks, 3x3 elsewhere.
    #[default]
    Usual,
    /// 1x1.
    One,
    /// 3x3.
    Three,
    /// The convolution, its norm and its activation are left out.
    None,
}

/// How the skip branch gets the shape of a block's output where that is smaller and wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DownsampleKind {
    /// A 1x1 convolution with the stride.
    #[default]
    StridedConv,
    /// Average pooling with the stride, then a 1x1 convolution.
    AveragePool,
    /// Average pooling with the stride, then repetition of the channels.
    Repeat,
}

/// The PyTorch names under which the network's state is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NameStyle {
    /// The names of torchvision: `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`.
    #[default]
    Torchvision,
    /// The names of QTool's keyword networks: `layer1.0.conv1.0.weight`, `layer2.0.skip.1.weight`.
    Keyword,
}
