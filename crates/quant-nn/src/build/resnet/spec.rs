//! The description of a residual block: its position, and what its configuration says about it.

use crate::config::resnet::{NameStyle, Order, ResNetConfig, SkipSpan};

/// A residual block that is to be built.
pub(super) struct BlockSpec<'a> {
    pub(super) config: &'a ResNetConfig,
    /// The PyTorch name, such as `layer1.0`.
    pub(super) name: String,
    /// The channels of the stage; a bottleneck has four times as many outputs.
    pub(super) width: usize,
    pub(super) stride: usize,
}

/// How a block changes the shape of its input.
pub(super) struct Shape {
    pub(super) outputs: usize,
    pub(super) stride: usize,
}

impl BlockSpec<'_> {
    /// Returns the PyTorch name of a part of the block, such as `layer1.0.bn1`.
    pub(super) fn at(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// Returns the PyTorch name of a part, such as `conv1`, in one of the parallel branches.
    pub(super) fn branch(&self, part: &str, branch: usize) -> String {
        match (self.config.names, self.config.branches) {
            (NameStyle::Torchvision, 1) => self.at(part),
            _ => self.at(&format!("{part}.{branch}")),
        }
    }

    pub(super) fn has_norms(&self) -> bool {
        self.config.fixup.is_none()
    }

    /// Returns whether the block has the biases of Fixup.
    pub(super) fn fixup_bias(&self) -> bool {
        self.config.fixup.is_some_and(|fixup| fixup.bias)
    }

    /// Returns whether the last activation comes after the final addition.
    pub(super) fn activation_behind(&self) -> bool {
        let order = matches!(self.config.order, Order::Cbas | Order::Cbsa);
        self.config.fix && order && self.config.skip == SkipSpan::Block
    }

    /// Returns whether the skip branch is made after the convolutions: torchvision registers the
    /// skip last, so its layers are counted last.
    pub(super) fn skip_is_last(&self) -> bool {
        let plain = self.config.skip == SkipSpan::Block && self.config.fixup.is_none();
        plain && self.config.names == NameStyle::Torchvision
    }

    /// Returns the padding of strided convolutions in addition to the usual padding.
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

    /// Returns the standard deviation of initial weights with Fixup: that of He et al. times
    /// S^power, where S is the number of stages.
    pub(super) fn fixup_deviation(&self, outputs: usize, kernel: usize, power: f64) -> Option<f64> {
        self.config.fixup?;
        let stages = self.config.depth.stages().len() as f64;
        let he = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        Some(he * stages.powf(power))
    }
}
