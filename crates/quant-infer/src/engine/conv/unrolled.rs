//! Operands with few channels, stored again so that taps which are beside each other in a row of
//! the kernel share a word.
//!
//! A position of an image has three channels, which leave one of four bytes unused, and only one of
//! three where the channels have different scales. So for each output column and channel, the
//! elements below a row of the kernel are stored one after another. The kernel then has one column,
//! and the words of the channels at each place.

use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::Pod;
use quant_kernels::simd::InstructionSet;

use super::taps::{Geometry, OperandSize};
use crate::{engine::packing::Packing, model::Conv};

/// The most columns of a kernel whose operand is stored again. More would need much memory.
const MOST_COLUMNS: usize = 16;

/// How an operand is stored again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unrolled {
    packing: Packing,
    channels: usize,
    geometry: Geometry,
}

/// An operand with its size and that of the output, a row of it, and where it is stored again.
type Stores<'a> = (&'a [u32], (&'a OperandSize, [usize; 2]), (&'a mut Vec<u32>, &'a mut [u32]));

impl Unrolled {
    /// Returns how the operand of a convolution is stored again, if it can be. Then it always takes
    /// fewer words for an output, or as many.
    pub(crate) fn new(conv: &Conv, packing: Packing) -> Option<Self> {
        let is_number = matches!(packing, Packing::Bytes | Packing::Pairs);
        let is_possible = is_number
            && conv.groups == 1
            && conv.in_channels <= 4
            && (2..=MOST_COLUMNS).contains(&conv.kernel[1])
            && conv.dilation[1] == 1;
        let geometry = Geometry::from(conv);
        is_possible.then_some(Self { packing, channels: conv.in_channels, geometry })
    }

    /// Returns the number of words for the elements of a channel below a row of the kernel.
    pub(crate) fn words(&self) -> usize {
        self.geometry.kernel[1].div_ceil(self.packing.channels())
    }

    /// Returns the words of some channels below a row of the kernel, among those of all channels.
    pub(crate) fn taps(&self, channels: &Range<usize>) -> Range<usize> {
        channels.start * self.words()..channels.end * self.words()
    }

    /// Returns the column of the kernel and the channel of an element of a word, if there is one.
    pub(crate) fn element(&self, word: usize, element: usize) -> Option<(usize, usize)> {
        let column = word % self.words() * self.packing.channels() + element;
        (column < self.geometry.kernel[1]).then_some((column, word / self.words()))
    }

    /// Returns the size of what is stored for an operand.
    pub(crate) fn size(&self, size: &OperandSize, output: [usize; 2]) -> OperandSize {
        OperandSize {
            height: size.height,
            width: output[1],
            channels: self.channels * self.words(),
            padding: [size.padding[0], 0],
        }
    }

    /// Returns the shape of the convolution of what is stored.
    pub(crate) fn geometry(&self) -> Geometry {
        let Geometry { kernel, stride, padding, dilation } = self.geometry;
        Geometry {
            kernel: [kernel[0], 1],
            stride: [stride[0], 1],
            padding: [padding[0], 0],
            dilation: [dilation[0], 1],
        }
    }

    /// Stores an operand again.
    pub(crate) fn store(
        &self,
        set: InstructionSet,
        operand: &[u32],
        (size, output): (&OperandSize, [usize; 2]),
        row: &mut Vec<u32>,
        to: &mut [u32],
    ) {
        set.vectorize(
            #[inline(always)]
            || match self.packing {
                Packing::Bytes => {
                    let all = (operand, (size, output), (row, to));
                    // The usual kernels have 3, 5 or 7 columns.
                    match self.words() {
                        1 => self.store_as::<u8, 4, 1>(all, |x| x as u8),
                        2 => self.store_as::<u8, 4, 2>(all, |x| x as u8),
                        _ => self.store_as::<u8, 4, 0>(all, |x| x as u8),
                    }
                }
                _ => {
                    let all = (operand, (size, output), (row, to));
                    self.store_as::<u16, 2, 0>(all, |x| x as u16);
                }
            },
        );
    }

    /// `WORDS` is the number of words, or 0 for any number.
    #[inline(always)]
    fn store_as<T: Pod, const ELEMENTS: usize, const WORDS: usize>(
        &self,
        (operand, (size, output), (row, to)): Stores<'_>,
        convert: impl Fn(u32) -> T,
    ) {
        let words = if WORDS == 0 { self.words() } else { WORDS };
        let skipped = size.padding[1] - self.geometry.padding[1];
        let length = (size.width + words * ELEMENTS).next_multiple_of(ELEMENTS);
        row.clear();
        row.resize(self.channels * length / ELEMENTS, 0);
        // The last word may have elements that belong to no column of the kernel.
        let mut mask = [0; 4];
        let in_last = self.geometry.kernel[1] - (words - 1) * ELEMENTS;
        mask[..in_last * size_of::<T>()].fill(u8::MAX);
        let mask = u32::from_ne_bytes(mask);
        let rows = operand.chunks_exact(size.width * size.channels);
        let each = rows.zip(to.chunks_exact_mut(output[1] * self.channels * words));
        for (operand, to) in each {
            let planes: &mut [T] = bytemuck::cast_slice_mut(row);
            for (channel, plane) in planes.chunks_exact_mut(length).enumerate() {
                // Elements lie in memory in this order, whatever the processor's byte order is.
                let shift = (channel % ELEMENTS * 32 / ELEMENTS) as u32;
                let words = &operand[channel / ELEMENTS..];
                if size.channels == 1 {
                    for (to, word) in plane.iter_mut().zip(words) {
                        *to = convert(word.to_le() >> shift);
                    }
                } else {
                    for (to, word) in plane.iter_mut().zip(words.iter().step_by(size.channels)) {
                        *to = convert(word.to_le() >> shift);
                    }
                }
            }
            let planes: &[T] = bytemuck::cast_slice(row);
            for (column, to) in to.chunks_exact_mut(self.channels * words).enumerate() {
                let first = column * self.geometry.stride[1] + skipped;
                for (channel, to) in to.chunks_exact_mut(words).enumerate() {
                    let elements = &planes[channel * length + first..][..words * ELEMENTS];
                    for (to, elements) in to.iter_mut().zip(elements.chunks_exact(ELEMENTS)) {
                        *to = bytemuck::pod_read_unaligned(bytemuck::cast_slice(elements));
                    }
                    to[words - 1] &= mask;
                }
            }
        }
    }
}
