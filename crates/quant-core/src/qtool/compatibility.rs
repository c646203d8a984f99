//! Habits of QTool that its configurations rely on, and that others do without.

use serde::{Deserialize, Serialize};

/// Where a quantizer does as QTool, although something else would be expected. All of it is off by
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
}

impl Compatibility {
    /// Whether nothing is turned on.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
