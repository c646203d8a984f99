//! Numbers of channels, in the order in which loops over positions and channels read them.

use quant_kernels::Aligned;

/// The number of numbers that links are applied to before the next ones, about. They stay in the
/// first cache from one link to the next.
const CHUNK: usize = 1024;

/// Returns the number of positions that links are applied to before the next ones.
pub(super) fn chunk(channels: usize) -> usize {
    (CHUNK / channels).max(1)
}

/// A number of each channel. They are repeated for all positions of a chunk, so that one long loop
/// computes a chunk. Most networks have layers with so few channels that a loop over the channels
/// of a position would take more time to begin than to compute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PerChannel {
    numbers: Aligned<f32>,
    channels: usize,
}

impl PerChannel {
    pub(super) fn new(numbers: &[f32]) -> Self {
        let channels = numbers.len();
        Self { numbers: Aligned::from(&numbers.repeat(chunk(channels))[..]), channels }
    }

    /// Returns the number of a channel.
    pub(super) fn of(&self, channel: usize) -> f32 {
        self.numbers[channel]
    }

    /// Returns whether a condition holds for the numbers of all channels.
    pub(super) fn all(&self, f: impl Fn(f32) -> bool) -> bool {
        self.channels().iter().all(|number| f(*number))
    }

    /// Returns the numbers of the channels.
    #[inline(always)]
    pub(super) fn channels(&self) -> &[f32] {
        &self.numbers[..self.channels]
    }

    /// Returns the numbers of `[positions, channels]`, for a whole chunk.
    pub(super) fn all_repeated(&self) -> &[f32] {
        &self.numbers
    }

    /// Returns the first numbers of `[positions, channels]`, for at most a chunk.
    #[inline(always)]
    pub(super) fn repeated(&self, count: usize) -> &[f32] {
        &self.numbers[..count]
    }
}
