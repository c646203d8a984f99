//! The bytes that stand for choices.

pub(super) const INPUT: u8 = 0;
pub(super) const CONV: u8 = 1;
pub(super) const QUANTIZE: u8 = 2;
pub(super) const AFFINE: u8 = 3;
pub(super) const ADD_SCALAR: u8 = 4;
pub(super) const MUL_SCALAR: u8 = 5;
pub(super) const RELU: u8 = 6;
pub(super) const RELU6: u8 = 7;
pub(super) const LEAKY_RELU: u8 = 8;
pub(super) const RPRELU: u8 = 9;
pub(super) const GROUP_NORM: u8 = 10;
pub(super) const AVERAGE_POOL: u8 = 11;
pub(super) const MAX_POOL: u8 = 12;
pub(super) const GLOBAL_POOL: u8 = 13;
pub(super) const SPACE_TO_DEPTH: u8 = 14;
pub(super) const DEPTH_TO_SPACE: u8 = 15;
pub(super) const PAD: u8 = 16;
pub(super) const REPEAT: u8 = 17;
pub(super) const CONCATENATE: u8 = 18;
pub(super) const ADD: u8 = 19;
pub(super) const FLATTEN: u8 = 20;

/// Bits of a convolution's flags.
pub(super) const HAS_QUANTIZER: u8 = 1;
pub(super) const PADS_CODES: u8 = 2;
pub(super) const HAS_BIAS: u8 = 4;
pub(super) const HAS_CODES: u8 = 8;

pub(super) const STATIC: u8 = 0;
pub(super) const MEAN_OVER_CHANNELS: u8 = 1;
pub(super) const MEAN_OVER_POSITIONS: u8 = 2;
pub(super) const MEAN: u8 = 3;
pub(super) const DEVIATION: u8 = 4;
