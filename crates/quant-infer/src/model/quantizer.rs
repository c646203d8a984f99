//! Quantizers of activations.

use alloc::vec::Vec;

use super::Terms;

/// A quantizer of activations.
///
/// The channels are divided into `groups` runs of equal length; channel c of C belongs to group
/// g = c·groups/C (rounded down). The code of a number x is the number of thresholds k with
/// x >= `thresholds[g][k]`, where comparisons with NaN are false. The value of a code is
/// `values[g][code]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    /// The number of groups of channels, at least 1.
    pub groups: usize,
    /// The number of levels, from 2 to 256.
    pub levels: usize,
    /// The thresholds, `[groups, levels - 1]` row-major, ascending in each group and not NaN.
    pub thresholds: Vec<f32>,
    /// The values, `[groups, levels]` row-major, ascending in each group and finite.
    pub values: Vec<f32>,
    /// The values as integers times scales, where a convolution computes with them.
    pub terms: Option<Terms>,
    /// What depends on the image, for methods with such a part.
    pub dynamic: Dynamic,
}

/// The part of a quantizer that depends on the image. Sums of this page run in the order channel,
/// row, column; they are sums of 64-bit floats, whose result is divided by the number of elements,
/// and then rounded to 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dynamic {
    /// Nothing depends on the image.
    None,
    /// The value is multiplied by the mean of |x| over the channels of its position (XNOR-Net).
    MeanOverChannels,
    /// The value is multiplied by the mean of |x| over the positions of its channel.
    MeanOverPositions,
    /// Let f be the mean of x over the image, plus 1e-5. Codes are those of x/f, and the value is
    /// multiplied by f (LQ-Nets with normalised activations).
    Mean,
    /// As `Mean`, with f = deviation + 1e-5, where the deviation is the standard deviation of x
    /// over the image. The variance is the sum of (x - mean)² divided by one less than the number
    /// of elements. It is computed in 64 bits, with the mean in 64 bits, and rounded to 32 bits,
    /// and its root is taken in 32 bits. The deviation of a single element is 0.
    Deviation,
}

impl Quantizer {
    /// Returns the group of a channel.
    pub fn group_of(&self, channel: usize, channels: usize) -> usize {
        channel * self.groups / channels
    }

    /// Returns the code of a number, before any part that depends on the image.
    pub fn code_of(&self, group: usize, x: f32) -> u8 {
        let thresholds = &self.thresholds[group * (self.levels - 1)..][..self.levels - 1];
        thresholds.partition_point(|threshold| x >= *threshold) as u8
    }

    /// Returns the value of a code.
    pub fn value_of(&self, group: usize, code: u8) -> f32 {
        self.values[group * self.levels + usize::from(code)]
    }
}
