//! The choices of a residual network's configuration, and what each of them is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many blocks of which kind.
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
    /// Basic blocks 2 in each of eight stages behind an empty one.
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
    /// 1x1, 3x3 with the stride, 1x1 to four times the channels.
    Bottleneck,
}

impl BlockKind {
    /// Output channels over the block's width.
    pub fn expansion(self) -> usize {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }
}

impl Depth {
    /// Blocks per stage.
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

    /// Kind of its blocks.
    pub fn block(self) -> BlockKind {
        match self {
            Depth::ResNet50 | Depth::ResNet101 | Depth::ResNet152 => BlockKind::Bottleneck,
            _ => BlockKind::Basic,
        }
    }
}

/// What stands before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 3x3 convolution.
    Cifar,
    /// 7x7 convolution of stride 2, and 3x3 maximum pooling of stride 2.
    ImageNet,
    /// 4x4 squares become channels, then a convolution with this kernel, 1 or 3 (TResNet; Ridnik et
    /// al. 2021).
    #[serde(rename = "space-to-depth")]
    SpaceToDepth(#[schemars(range(min = 1, max = 3))] usize),
    /// 2x2 squares become channels, then a convolution with this kernel, 1 or 3, and 3x3 maximum
    /// pooling of stride 2.
    #[serde(rename = "space-to-depth-max-pool")]
    SpaceToDepthMaxPool(#[schemars(range(min = 1, max = 3))] usize),
}

/// In which order a block's convolution (c), norm (b), activation (a) and addition of the skip (s)
/// stand.
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
    /// The letters.
    pub fn letters(self) -> &'static str {
        match self {
            Order::Cbas => "cbas",
            Order::Cbsa => "cbsa",
            Order::Cabs => "cabs",
            Order::Bacs => "bacs",
            Order::Bcas => "bcas",
        }
    }

    /// Whether the norm stands before the convolution.
    pub fn norm_first(self) -> bool {
        matches!(self, Order::Bacs | Order::Bcas)
    }
}

/// Over how much of a block a skip leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SkipSpan {
    /// The whole block.
    #[default]
    Block,
    /// Each convolution: bi-real (Liu et al., "Bi-Real Net", 2018).
    Layer,
}

/// Lossless downsampling: space-to-depth and a convolution in front of a block take its stride, so
/// that no pixel is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LosslessDownsample {
    /// What stands there, one letter each: `c` space-to-depth and a convolution, `b` a norm, `a` an
    /// activation: `c`, `ca`, `cb` or `cba`.
    pub order: String,
    /// Whether its convolution is 3x3 and takes the place of the whole block. By default it is 1x1
    /// and the block follows.
    #[serde(default)]
    pub whole_block: bool,
}

/// Point-wise-and-reshape blocks: space-to-depth, a 1x1 convolution and depth-to-space take the
/// place of 3x3 convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PointReshape {
    /// Whether strided convolutions stay as they are. Choose it where the score falls without them.
    pub keep_downsample: bool,
    /// Whether the norm stands before depth-to-space, where it has four times the channels.
    pub norm_before_restore: bool,
}

/// Fixup (Zhang et al., "Fixup Initialization: Residual Learning Without Normalization", 2019): no
/// norms, a learned scale in each block, weights that start small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fixup {
    /// Whether learned biases stand around convolutions and activations, as in the paper.
    pub bias: bool,
}

/// A 3x3 convolution's kernel in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// As the structure has it: 1x1 in point-wise-and-reshape blocks, 3x3 elsewhere.
    #[default]
    Usual,
    /// 1x1.
    One,
    /// 3x3.
    Three,
    /// The convolution, its norm and its activation are left out.
    None,
}

/// How the skip branch meets a smaller, wider block output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DownsampleKind {
    /// 1x1 convolution with the stride.
    #[default]
    StridedConv,
    /// Average pooling of the stride, then 1x1 convolution.
    AveragePool,
    /// Average pooling of the stride, then the channels several times over.
    Repeat,
}

/// Under which PyTorch names the network's state is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NameStyle {
    /// torchvision's: `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`.
    #[default]
    Torchvision,
    /// QTool's keyword networks: `layer1.0.conv1.0.weight`, `layer2.0.skip.1.weight`.
    Keyword,
}
