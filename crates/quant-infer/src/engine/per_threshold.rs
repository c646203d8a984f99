//! Numbers that belong to thresholds, prepared for vectors over channels.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, compiler_fence};

use quant_kernels::{
    Aligned,
    elementwise::{BLOCK, Table},
};

/// Number of numbers that are processed together.
pub(super) const LANES: usize = BLOCK;

/// Numbers that belong to thresholds: one for each threshold, or one for each threshold and
/// channel.
#[derive(Debug, Clone)]
pub(super) struct PerThreshold<T> {
    /// `[blocks, thresholds, lanes]`, with the channels of a block in its lanes. There is one block
    /// if all channels have the same numbers.
    numbers: Aligned<T>,
    thresholds: usize,
}

impl<T: Copy + Default> PerThreshold<T> {
    /// Returns the numbers f(threshold, channel). With one channel, its numbers are those of all
    /// channels.
    pub(super) fn new(thresholds: usize, channels: usize, f: impl Fn(usize, usize) -> T) -> Self {
        let f = &f;
        let block = |first: usize, threshold: usize| {
            core::array::from_fn(|lane| match first + lane {
                _ if channels == 1 => f(threshold, 0),
                channel if channel < channels => f(threshold, channel),
                _ => T::default(),
            })
        };
        let blocks: Vec<[T; LANES]> = (0..channels)
            .step_by(LANES)
            .flat_map(|first| (0..thresholds).map(move |threshold| block(first, threshold)))
            .collect();
        Self { numbers: Aligned::from(blocks.as_flattened()), thresholds }
    }

    /// Returns the numbers for operations on each number.
    pub(super) fn table(&self) -> Table<'_, T> {
        Table { blocks: self.blocks(), count: self.thresholds }
    }

    /// Returns the numbers of a channel, by threshold.
    pub(super) fn channel(&self, channel: usize) -> impl Iterator<Item = T> {
        self.lanes(channel / LANES * LANES).iter().map(move |numbers| numbers[channel % LANES])
    }

    /// Returns the numbers of each threshold for the channels from `first` on, a multiple of the
    /// number of lanes.
    #[inline(always)]
    pub(super) fn lanes(&self, first: usize) -> &[[T; LANES]] {
        let blocks = self.blocks();
        let start = if blocks.len() == self.thresholds { 0 } else { first / LANES };
        &blocks[start * self.thresholds..][..self.thresholds]
    }

    #[inline(always)]
    fn blocks(&self) -> &[[T; LANES]] {
        self.numbers.as_chunks().0
    }
}

/// Returns the first numbers of a slice; those that it lacks are 0.
#[inline(always)]
pub(super) fn padded<T: Copy + Default>(numbers: &[T]) -> [T; LANES] {
    if let Some(lanes) = numbers.first_chunk() {
        return *lanes;
    }
    let mut lanes = [T::default(); LANES];
    lanes[..numbers.len()].copy_from_slice(numbers);
    lanes
}

/// Keeps the compiler from computing several passes of the loop around it at once. Where a pass is
/// a vector of channels, a vector of several passes has to be collected from distant numbers, which
/// takes longer, and several times the code.
#[inline(always)]
pub(super) fn by_lanes() {
    compiler_fence(Ordering::AcqRel);
}
