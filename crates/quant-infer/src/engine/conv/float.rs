//! Convolutions in floats.

use alloc::vec::Vec;
use core::ops::Range;

use quant_kernels::{
    channels_last::{Floats, Weights, depthwise_floats},
    simd::InstructionSet,
};

use super::{
    choice::is_depthwise,
    taps::{Geometry, OperandSize, Places, runs},
};
use crate::model::{Conv, Weight};

/// A convolution whose operand and weight are floats.
#[derive(Debug, Clone)]
pub(crate) struct FloatConv {
    geometry: Geometry,
    set: InstructionSet,
    /// The input channels of a group.
    channels: usize,
    channels_out: usize,
    kernel: FloatKernel,
}

#[derive(Debug, Clone)]
enum FloatKernel {
    /// The weights of each group: vectors over output channels.
    Tiles { groups: Vec<Weights<Floats>>, outputs: usize },
    /// Vectors over channels, each of which is convolved alone. `[taps, channels]`.
    Depthwise { weights: Vec<f32> },
}

impl FloatConv {
    pub(crate) fn new(set: InstructionSet, conv: &Conv) -> Self {
        let channels = conv.in_channels / conv.groups;
        let outputs = conv.out_channels / conv.groups;
        let taps = conv.kernel[0] * conv.kernel[1];
        let weight = |output: usize, tap: usize| {
            let element = output * channels * taps + tap;
            match &conv.weight {
                Weight::Float(weights) => weights[element],
                Weight::Codes(codes) => codes.value_of(element),
            }
        };
        let kernel = if is_depthwise(conv) {
            let weights = (0..taps)
                .flat_map(|tap| (0..conv.out_channels).map(move |channel| (channel, tap)))
                .map(|(channel, tap)| weight(channel, tap))
                .collect();
            FloatKernel::Depthwise { weights }
        } else {
            let groups = (0..conv.groups)
                .map(|group| {
                    let weight = &weight;
                    Weights::floats(set, outputs, channels * taps, |output| {
                        move |tap| weight(group * outputs + output, tap)
                    })
                })
                .collect();
            FloatKernel::Tiles { groups, outputs }
        };
        Self {
            geometry: Geometry::from(conv),
            set,
            channels,
            channels_out: conv.out_channels,
            kernel,
        }
    }

    /// Returns whether each channel is convolved alone.
    #[cfg(feature = "std")]
    pub(crate) fn is_depthwise(&self) -> bool {
        matches!(self.kernel, FloatKernel::Depthwise { .. })
    }

    /// Returns the number of sums of a position that the kernel writes.
    pub(crate) fn sums(&self) -> usize {
        match &self.kernel {
            FloatKernel::Tiles { groups, .. } => groups.iter().map(Weights::sums).sum(),
            FloatKernel::Depthwise { .. } => self.channels_out,
        }
    }

    /// Returns the places that are read in an operand of this size.
    pub(crate) fn places(&self, size: &OperandSize, output: [usize; 2]) -> Places {
        let geometry = &self.geometry;
        let [rows, columns] = geometry.kernel;
        let positions = || (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
        let mut places = Places { starts: size.starts(geometry, output), ..Places::default() };
        match &self.kernel {
            FloatKernel::Tiles { .. } => {
                let channels = 0..self.channels;
                places.runs.push(runs(channels.flat_map(|channel| {
                    positions().map(move |(y, x)| size.tap(geometry, y, x) + channel)
                })));
            }
            FloatKernel::Depthwise { .. } => {
                places.taps = positions().map(|(y, x)| size.tap(geometry, y, x) as u32).collect();
            }
        }
        places
    }

    /// Writes the sums of a range of positions, those of each group one after another.
    pub(crate) fn run(
        &self,
        operand: &[f32],
        places: &Places,
        positions: Range<usize>,
        mut sums: &mut [f32],
    ) {
        let starts = &places.starts[positions];
        match &self.kernel {
            FloatKernel::Depthwise { weights } => {
                let (taps, channels) = (&places.taps, self.channels_out);
                let sums = &mut sums[..starts.len() * channels];
                depthwise_floats(self.set, operand, taps, starts, weights, channels, sums);
            }
            FloatKernel::Tiles { groups, .. } => {
                for (group, weights) in groups.iter().enumerate() {
                    // The channels of a group lie behind those of the groups before it.
                    let operand = &operand[group * self.channels..];
                    let stride = weights.sums();
                    let (to, rest) = sums.split_at_mut(starts.len() * stride);
                    sums = rest;
                    weights.multiply(operand, &places.runs[0], starts, (None, None), to, stride);
                }
            }
        }
    }

    /// Writes the numbers `[positions, channels]` of some of `count` positions that
    /// [`run`](Self::run) has computed.
    pub(crate) fn write(
        &self,
        sums: &[f32],
        count: usize,
        positions: Range<usize>,
        numbers: &mut [f32],
    ) {
        match &self.kernel {
            FloatKernel::Depthwise { .. } => {
                let channels = self.channels_out;
                numbers
                    .copy_from_slice(&sums[positions.start * channels..positions.end * channels]);
            }
            FloatKernel::Tiles { groups, outputs } => {
                let mut sums = sums;
                for (group, weights) in groups.iter().enumerate() {
                    let stride = weights.sums();
                    let (of_group, rest) = sums.split_at(count * stride);
                    sums = rest;
                    let of_chunk = of_group[positions.start * stride..].chunks_exact(stride);
                    let numbers = numbers.chunks_exact_mut(self.channels_out);
                    for (sums, numbers) in of_chunk.zip(numbers) {
                        numbers[group * outputs..][..*outputs].copy_from_slice(&sums[..*outputs]);
                    }
                }
            }
        }
    }
}
