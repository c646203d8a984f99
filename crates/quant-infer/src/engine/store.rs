//! How numbers are stored, `[height, width, channels]` with padding.

use core::ops::Range;

use quant_kernels::simd::InstructionSet;

use super::{
    coder::Coder, conv::OperandSize, integers::Integers, packing::CHUNK,
    per_threshold::PerThreshold,
};

/// Calls f with the parts of a range of positions that are contiguous in a row of the storage: the
/// first position of a part from the start of the range, the number of positions, and the index in
/// the storage.
#[inline(always)]
pub(super) fn rows(
    size: &OperandSize,
    positions: Range<usize>,
    mut f: impl FnMut(usize, usize, usize),
) {
    let [above, left] = size.padding;
    let width = size.width - 2 * left;
    let mut position = positions.start;
    while position < positions.end {
        let (y, x) = (position / width, position % width);
        let count = (width - x).min(positions.end - position);
        let at = ((y + above) * size.width + x + left) * size.channels;
        f(position - positions.start, count, at);
        position += count;
    }
}

/// Fills the padding with the numbers of the channels.
pub(super) fn fill_padding<T: Copy>(size: &OperandSize, storage: &mut [T], numbers: &[T]) {
    let [rows, columns] = size.padding;
    let fill = |part: &mut [T]| {
        part.chunks_exact_mut(size.channels).for_each(|to| to.copy_from_slice(numbers));
    };
    for (y, row) in storage.chunks_exact_mut(size.width * size.channels).enumerate() {
        if y < rows || y >= size.height - rows {
            fill(row);
        } else if columns > 0 {
            let inside = row.len() - columns * size.channels;
            fill(&mut row[inside..]);
            fill(&mut row[..columns * size.channels]);
        }
    }
}

/// Stores the values of numbers `[positions, channels]`.
pub(super) fn floats(
    set: InstructionSet,
    coder: Option<&Coder>,
    numbers: &[f32],
    (size, positions): (&OperandSize, Range<usize>),
    storage: &mut [f32],
) {
    let channels = size.channels;
    rows(
        size,
        positions,
        #[inline(always)]
        |first, count, at| {
            let to = &mut storage[at..][..count * channels];
            to.copy_from_slice(&numbers[first * channels..][..count * channels]);
            if let Some(coder) = coder {
                coder.values(set, to);
            }
        },
    );
}

/// Stores the integers of a term for numbers `[positions, channels]`.
pub(super) fn integers_of_floats(
    set: InstructionSet,
    (coder, term): (&Coder, &Integers),
    (numbers, channels): (&[f32], usize),
    (size, positions): (&OperandSize, Range<usize>),
    storage: &mut [u32],
) {
    let fills_words = channels.is_multiple_of(term.packing().channels());
    // If it is possible, one long loop runs over a row.
    let is_flat = term.is_uniform(coder) && fills_words;
    set.vectorize(
        #[inline(always)]
        || {
            let mut integers = [0; CHUNK];
            rows(
                size,
                positions,
                #[inline(always)]
                |first, count, at| {
                    let numbers = &numbers[first * channels..][..count * channels];
                    let to = &mut storage[at..][..count * size.channels];
                    let together = if is_flat { count } else { 1 };
                    let each = to.chunks_exact_mut(together * size.channels);
                    for (to, numbers) in each.zip(numbers.chunks_exact(together * channels)) {
                        term.of_floats(coder, numbers, to, &mut integers);
                    }
                },
            );
        },
    );
}

/// Stores the integers of a term for sums `[positions, stride]` of the output channels.
pub(super) fn integers_of_sums(
    set: InstructionSet,
    (term, thresholds): (&Integers, &PerThreshold<i32>),
    (sums, stride): (&[i32], usize),
    channels: usize,
    (size, positions): (&OperandSize, Range<usize>),
    storage: &mut [u32],
) {
    set.vectorize(
        #[inline(always)]
        || {
            let mut integers = [0; CHUNK];
            rows(
                size,
                positions,
                #[inline(always)]
                |position, count, at| {
                    let sums = &sums[position * stride..][..count * stride];
                    let to = &mut storage[at..][..count * size.channels];
                    let each = to.chunks_exact_mut(size.channels);
                    for (to, sums) in each.zip(sums.chunks_exact(stride)) {
                        term.of_sums(&sums[..channels], to, thresholds, &mut integers);
                    }
                },
            );
        },
    );
}
