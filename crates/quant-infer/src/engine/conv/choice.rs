//! Which packing of its operand makes a convolution fastest.

use alloc::vec::Vec;
use core::ops::Range;

use quant_kernels::simd::InstructionSet;

use super::tiles::Line;
use crate::{
    engine::packing::Packing,
    model::{Conv, Terms},
};

/// Returns whether each channel is convolved alone.
pub(super) fn is_depthwise(conv: &Conv) -> bool {
    conv.groups > 1 && conv.groups == conv.in_channels && conv.groups == conv.out_channels
}

impl Conv {
    /// Returns the input channels of a group.
    pub(super) fn channels_of(&self, group: usize) -> Range<usize> {
        let channels = self.in_channels / self.groups;
        group * channels..(group + 1) * channels
    }

    /// Returns the groups of the quantizer's scales that have a channel of a group, with their
    /// channels.
    pub(super) fn scale_ranges(&self, group: usize, terms: &Terms) -> Vec<(usize, Range<usize>)> {
        let all = self.channels_of(group);
        let scale_groups = terms.0[0].scales.len();
        let range = |scale_group: usize| {
            let size = self.in_channels / scale_groups;
            let start = all.start.max(scale_group * size);
            let end = all.end.min((scale_group + 1) * size);
            (start < end).then_some((scale_group, start..end))
        };
        (0..scale_groups).filter_map(range).collect()
    }
}

/// Returns the packing with the least time for a convolution in integers. `preferred` is taken if
/// the convolution can have it.
pub(crate) fn choose(
    set: InstructionSet,
    conv: &Conv,
    terms: (&Terms, &Terms),
    preferred: Option<Packing>,
) -> Packing {
    if is_depthwise(conv) {
        return Packing::Pairs;
    }
    let costs = Packing::ALL.map(|packing| (packing, cost(set, conv, terms, packing)));
    let possible = costs.iter().filter_map(|(packing, cost)| Some((*packing, (*cost)?)));
    possible
        .clone()
        .find(|(packing, _)| Some(*packing) == preferred)
        .or_else(|| possible.min_by(|(_, a), (_, b)| a.total_cmp(b)))
        .map_or(Packing::Pairs, |(packing, _)| packing)
}

/// Returns about how long an output of a position takes with a packing, in picoseconds, or `None`
/// if the numbers cannot be stored in this way.
fn cost(
    set: InstructionSet,
    conv: &Conv,
    (input, weights): (&Terms, &Terms),
    packing: Packing,
) -> Option<f32> {
    let pads_zeros = !conv.pads_codes && conv.padding != [0, 0];
    let mut largest = 0;
    for term in &input.0 {
        let integers = term.integers.iter().copied().chain(pads_zeros.then_some(0));
        largest = packing.encoding(integers)?.largest.max(largest);
    }
    let ranges: Vec<_> =
        (0..conv.groups).flat_map(|group| conv.scale_ranges(group, input)).collect();
    let mut most: i32 = 0;
    for term in &weights.0 {
        let integers = term.integers.iter().flat_map(|integer| [*integer, -*integer]);
        let line = Line::new(packing, integers.clone())?;
        // The sum of a position's numbers is that of all channels.
        if line.offset != 0 && ranges.len() > 1 {
            return None;
        }
        let number = |integer: i16| ((i32::from(integer) - line.offset) / line.step).abs();
        most = integers.map(number).max()?.max(most);
    }
    let per_tap = packing.channels();
    // Bits of channels that belong to other outputs would be counted.
    let is_apart = |(_, range): &(usize, Range<usize>)| {
        range.start.is_multiple_of(per_tap)
            && (range.end.is_multiple_of(per_tap) || range.end == conv.in_channels)
    };
    if packing == Packing::Signs && !ranges.iter().all(is_apart) {
        return None;
    }
    let places = conv.kernel[0] * conv.kernel[1];
    let taps = |(_, range): &(usize, Range<usize>)| {
        places * (range.end.div_ceil(per_tap) - range.start / per_tap)
    };
    let taps: usize = ranges.iter().map(taps).sum();
    let is_small = 2 * largest * most <= i32::from(i16::MAX);
    Some(taps as f32 * packing.cost(set, is_small))
}
