//! The values that layers read and compute.

use alloc::vec::Vec;

/// The values `[channels, height, width]` of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// The numbers, row-major.
    pub numbers: Vec<f32>,
}

impl Value {
    /// Returns the number of a channel, row and column.
    pub(super) fn at(&self, channel: usize, y: usize, x: usize) -> f32 {
        self.numbers[(channel * self.shape[1] + y) * self.shape[2] + x]
    }

    /// Returns a value whose numbers are f of channel, row and column.
    pub(super) fn from_fn(shape: [usize; 3], f: impl Fn(usize, usize, usize) -> f32) -> Self {
        let [channels, height, width] = shape;
        let mut numbers = Vec::with_capacity(channels * height * width);
        for channel in 0..channels {
            for y in 0..height {
                numbers.extend((0..width).map(|x| f(channel, y, x)));
            }
        }
        Self { shape, numbers }
    }

    /// Returns f of the channel and the number of each element.
    pub(super) fn map(&self, f: impl Fn(usize, f32) -> f32) -> Self {
        Self::from_fn(self.shape, |c, y, x| f(c, self.at(c, y, x)))
    }
}
