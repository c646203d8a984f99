//! What a residual block is to be: where it stands, and what its configuration says of it.

use crate::config::resnet::{NameStyle, Order, ResNetConfig, SkipSpan};

/// A residual block that is to be built.
pub(super) struct BlockSpec<'a> {
    pub(super) config: &'a ResNetConfig,
    /// PyTorch name, such as `layer1.0`.
    pub(super) name: String,
    /// Channels of the stage; a bottleneck has four times as many outputs.
    pub(super) width: usize,
    pub(super) stride: usize,
}

/// What a block does to its input's shape.
pub(super) struct Shape {
    pub(super) outputs: usize,
    pub(super) stride: usize,
}

impl BlockSpec<'_> {
    /// PyTorch name of a part of the block, such as `layer1.0.bn1`.
    pub(super) fn at(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// PyTorch name of a part, such as `conv1`, in one of the parallel branches.
    pub(super) fn branch(&self, part: &str, branch: usize) -> String {
        match (self.config.names, self.config.branches) {
            (NameStyle::Torchvision, 1) => self.at(part),
            _ => self.at(&format!("{part}.{branch}")),
        }
    }

    pub(super) fn has_norms(&self) -> bool {
        self.config.fixup.is_none()
    }

    /// Whether the block has the biases of Fixup.
    pub(super) fn fixup_bias(&self) -> bool {
        self.config.fixup.is_some_and(|fixup| fixup.bias)
    }

    /// Whether the last activation stands behind the final addition.
    pub(super) fn activation_behind(&self) -> bool {
        let order = matches!(self.config.order, Order::Cbas | Order::Cbsa);
        self.config.fix && order && self.config.skip == SkipSpan::Block
    }

    /// Whether the skip branch is made after the convolutions: torchvision registers it, and so
    /// counts its layers, last.
    pub(super) fn skip_is_last(&self) -> bool {
        let plain = self.config.skip == SkipSpan::Block && self.config.fixup.is_none();
        plain && self.config.names == NameStyle::Torchvision
    }

    /// By how much strided convolutions are padded beside the usual padding.
    pub(super) fn extra_padding(&self, size: usize, stride: usize) -> usize {
        if stride == 1 {
            return 0;
        }
        let rest = size % (2 * stride);
        match self.config.point_reshape {
            Some(_) if rest != 0 => (2 * stride - rest) / 2,
            _ => usize::from(self.config.extra_padding && size == 14),
        }
    }

    /// The standard deviation of initial weights under Fixup: that of He et al. times S^power, where
    /// S is the number of stages.
    pub(super) fn fixup_deviation(&self, outputs: usize, kernel: usize, power: f64) -> Option<f64> {
        self.config.fixup?;
        let stages = self.config.depth.stages().len() as f64;
        let he = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        Some(he * stages.powf(power))
    }
}
