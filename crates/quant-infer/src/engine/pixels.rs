//! The bytes of an image as the operand of a convolution: each byte has the word of its code.

use alloc::vec::Vec;
use core::ops::Range;

use quant_kernels::simd::InstructionSet;

use super::{coder::Coder, conv::OperandSize, integers::Integers, store};
use crate::{Image, image::Pixels, model::Input};

/// The words of all bytes, for a term of a quantizer that reads the image.
#[derive(Debug, Clone)]
pub(super) struct ByteWords {
    /// For each channel the index of its first word.
    places: Vec<usize>,
    /// The words of each byte, `[channels, planes]`. The words of a position are the bits of those
    /// of its channels, since no two channels share a bit.
    words: Vec<[u32; 256]>,
}

impl ByteWords {
    /// Finds the words of all bytes of an input.
    pub(super) fn new(input: &Input, coder: &Coder, term: &Integers) -> Self {
        let packing = term.packing();
        let planes = packing.words();
        let (mut places, mut words) = (Vec::new(), Vec::new());
        for channel in 0..input.scale.len() {
            let first = channel / packing.channels() * planes;
            places.push(first);
            let first_word = words.len();
            words.extend((0..planes).map(|_| [0; 256]));
            for byte in 0..=u8::MAX {
                let code = coder.code(channel, input.number(channel, byte));
                let number = term.of_code(coder, channel, code);
                let of_byte = term.words(|other| if other == channel { number } else { 0 });
                for plane in 0..planes {
                    words[first_word + plane][usize::from(byte)] = of_byte[first + plane];
                }
            }
        }
        Self { places, words }
    }

    /// Stores the words of a range of positions. The image must have bytes.
    pub(super) fn store(
        &self,
        set: InstructionSet,
        image: &Image<'_>,
        (size, positions): (&OperandSize, Range<usize>),
        storage: &mut [u32],
    ) {
        let channels = self.places.len();
        let planes = self.words.len() / channels;
        let pixels = image.size()[0] * image.size()[1];
        let (bytes, of_position, of_channel) = match image.pixels {
            Pixels::Interleaved(bytes) => (bytes, channels, 1),
            Pixels::Planar(bytes) => (bytes, 1, pixels),
            Pixels::Floats(_) => return,
        };
        let start = positions.start;
        set.vectorize(
            #[inline(always)]
            || {
                store::rows(
                    size,
                    positions,
                    #[inline(always)]
                    |position, count, at| {
                        let to = &mut storage[at..][..count * size.channels];
                        if let ([red, green, blue], 1) = (&self.words[..], size.channels) {
                            // Nearly every image is of this kind.
                            let first = (start + position) * of_position;
                            for (index, to) in to.iter_mut().enumerate() {
                                let byte = |channel: usize| {
                                    let place = first + index * of_position + channel * of_channel;
                                    usize::from(bytes[place])
                                };
                                *to = red[byte(0)] | green[byte(1)] | blue[byte(2)];
                            }
                            return;
                        }
                        to.fill(0);
                        for (index, to) in to.chunks_exact_mut(size.channels).enumerate() {
                            for (channel, place) in self.places.iter().enumerate() {
                                let place_in_image =
                                    (start + position + index) * of_position + channel * of_channel;
                                let byte = usize::from(bytes[place_in_image]);
                                for plane in 0..planes {
                                    to[place + plane] |= self.words[channel * planes + plane][byte];
                                }
                            }
                        }
                    },
                );
            },
        );
    }
}
