//! Behaviour of QTool that imported configurations rely on.

use serde::{Deserialize, Serialize};

/// Options to behave as QTool does where this crate by default behaves otherwise. None of them is
/// on by default; [`QtoolOptions`](super::QtoolOptions) turns them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compatibility {
    /// Groups that do not fit fall back to one group per output channel for the weight of a
    /// convolution, and otherwise to a single group. The weights of linear layers have a single
    /// group. [`crate::Quantizer::group_fallback`] reports a fallback.
    pub group_fallback: bool,
    /// Gradients are not scaled where the integer part of the gradient scale is 1.
    pub skip_integer_one: bool,
    /// FATNN keeps a clipping value that nothing uses, so that state dictionaries match.
    pub unused_clipping_value: bool,
    /// The number of images for the gradient scale of an activation or output, instead of the
    /// number in each batch.
    pub images: Option<usize>,
    /// The number of positions (height times width) for the gradient scale, instead of the number
    /// in each tensor.
    pub positions: Option<usize>,
}

impl Compatibility {
    /// Returns whether no option is turned on.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
