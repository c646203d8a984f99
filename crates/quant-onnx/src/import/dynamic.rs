//! Values that depend on the image.

use super::lazy::{Lazy, Step};

/// A value that depends on the image: that of a node of the model, and what has to be done to it
/// that is no node yet, in the order of the fields.
#[derive(Debug, Clone)]
pub(super) struct Dynamic {
    pub(super) node: usize,
    /// 4, or 2 for `[N, features]`, whose node has `[features, 1, 1]`.
    pub(super) rank: usize,
    /// Whether channels are the last dimension in the file.
    pub(super) channels_last: bool,
    /// Zeros around the image: rows above it, columns to the left, rows below it, and columns to
    /// the right.
    pub(super) pad: [usize; 4],
    pub(super) steps: Vec<Step>,
    pub(super) lazy: Option<Lazy>,
    /// The side of squares that were split off, and whether they stand before the positions.
    pub(super) squares: Option<(usize, bool)>,
    /// A step of the normalisation of groups of channels, which have been brought together.
    pub(super) grouped: Option<Grouped>,
}

impl Dynamic {
    pub(super) fn of_node(node: usize, rank: usize) -> Self {
        Self {
            node,
            rank,
            channels_last: false,
            pad: [0; 4],
            steps: Vec::new(),
            lazy: None,
            squares: None,
            grouped: None,
        }
    }

    /// Whether the value is that of the node.
    pub(super) fn is_plain(&self) -> bool {
        self.pad == [0; 4]
            && self.grouped.is_none()
            && self.steps.is_empty()
            && self.lazy.as_ref().is_none_or(|lazy| lazy.identity)
            && self.squares.is_none()
            && self.rank != 5
    }
}

/// A step of a normalisation that is written out. The value is that of the groups of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grouped {
    pub(super) groups: usize,
    pub(super) step: Moment,
}

/// What a value is, for x the elements of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The elements: x.
    Values,
    /// The mean of the elements.
    Mean,
    /// The elements minus their mean: x - mean.
    Centred,
    /// The squares of these differences: (x - mean)².
    Squares,
    /// The mean of these squares.
    Variance,
    /// The variance plus 1e-5.
    VarianceAndEpsilon,
    /// The square root of the variance plus 1e-5.
    Deviation,
}
