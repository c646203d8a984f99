//! Habits of QTool that its configurations rely on, and that others do without.

use serde::{Deserialize, Serialize};

/// Where a quantizer does as QTool, although something else would be expected. None of it is on by
/// default; [`QtoolOptions`](super::QtoolOptions) turns it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compatibility {
    /// Groups that do not fit fall back: to one per output channel of a convolution's weight, else
    /// to one; weights of linear layers have one. [`crate::Quantizer::group_fallback`] tells where
    /// it happened.
    pub group_fallback: bool,
    /// Gradients are left alone where the gradient scale's integer part is 1.
    pub skip_integer_one: bool,
    /// FATNN keeps a clipping value that nothing uses, so that states match.
    pub unused_clipping_value: bool,
    /// Images that the gradient scale of an activation or output counts, in place of those of each
    /// batch.
    pub images: Option<usize>,
    /// Positions (height times width) that it counts, in place of those of each tensor.
    pub positions: Option<usize>,
}

impl Compatibility {
    /// Whether nothing is turned on.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
