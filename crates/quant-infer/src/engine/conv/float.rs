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
    channels: usize,
    kernel: Kernel,
}

#[derive(Debug, Clone)]
enum Kernel {
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
            Kernel::Depthwise { weights }
        } else {
            let groups = (0..conv.groups)
                .map(|group| {
                    Weights::floats(set, outputs, channels * taps, |output, tap| {
                        weight(group * outputs + output, tap)
                    })
                })
                .collect();
            Kernel::Tiles { groups, outputs }
        };
        Self { geometry: Geometry::from(conv), set, channels, kernel }
    }

    /// Returns the number of sums of a position that the kernel writes at once.
    pub(crate) fn most_sums(&self) -> usize {
        match &self.kernel {
            Kernel::Tiles { groups, .. } => groups[0].sums(),
            Kernel::Depthwise { .. } => 0,
        }
    }

    /// Returns the places that are read in an operand of this size.
    pub(crate) fn places(&self, size: &OperandSize, output: [usize; 2]) -> Places {
        let geometry = &self.geometry;
        let [rows, columns] = geometry.kernel;
        let positions = || (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
        let mut places = Places { starts: size.starts(geometry, output), ..Places::default() };
        match &self.kernel {
            Kernel::Tiles { .. } => {
                let channels = 0..self.channels;
                places.runs.push(runs(channels.flat_map(|channel| {
                    positions().map(move |(y, x)| size.tap(geometry, y, x) + channel)
                })));
            }
            Kernel::Depthwise { .. } => {
                places.taps = positions().map(|(y, x)| size.tap(geometry, y, x) as u32).collect();
            }
        }
        places
    }

    /// Writes the numbers `[positions, channels]` of a range of positions.
    pub(crate) fn run(
        &self,
        operand: &[f32],
        places: &Places,
        positions: Range<usize>,
        sums: &mut [f32],
        numbers: &mut [f32],
    ) {
        let starts = &places.starts[positions];
        match &self.kernel {
            Kernel::Depthwise { weights } => {
                let channels = numbers.len() / starts.len().max(1);
                let taps = &places.taps;
                depthwise_floats(self.set, operand, taps, starts, weights, channels, numbers);
            }
            Kernel::Tiles { groups, outputs } => {
                for (group, weights) in groups.iter().enumerate() {
                    // The channels of a group lie behind those of the groups before it.
                    let operand = &operand[group * self.channels..];
                    let stride = weights.sums();
                    weights.multiply(operand, &places.runs[0], starts, (None, None), sums, stride);
                    let channels = outputs * groups.len();
                    for (sums, numbers) in
                        sums.chunks_exact(stride).zip(numbers.chunks_exact_mut(channels))
                    {
                        numbers[group * outputs..][..*outputs].copy_from_slice(&sums[..*outputs]);
                    }
                }
            }
        }
    }
}
