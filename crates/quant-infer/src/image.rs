//! Images.

use alloc::format;
use core::ops::Range;

use crate::{Error, model::Input};

/// The pixels of an image, which are borrowed.
///
/// ```
/// # use quant_infer::Image;
/// // Three pixels of a red line, as image decoders return them.
/// let image = Image::interleaved(&[255, 0, 0, 255, 0, 0, 255, 0, 0], [1, 3]);
/// assert_eq!(image.size(), [1, 3]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Image<'a> {
    pub(crate) pixels: Pixels<'a>,
    size: [usize; 2],
}

/// The numbers of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pixels<'a> {
    /// Bytes, `[height, width, channels]`.
    Interleaved(&'a [u8]),
    /// Bytes, `[channels, height, width]`.
    Planar(&'a [u8]),
    /// Floats that were normalised, `[channels, height, width]`.
    Floats(&'a [f32]),
}

impl<'a> Image<'a> {
    /// Returns an image of bytes `[height, width, channels]`: the channels of a pixel follow each
    /// other, as image decoders return them. `size` is the height and the width.
    pub fn interleaved(bytes: &'a [u8], size: [usize; 2]) -> Self {
        Self { pixels: Pixels::Interleaved(bytes), size }
    }

    /// Returns an image of bytes `[channels, height, width]`.
    pub fn planar(bytes: &'a [u8], size: [usize; 2]) -> Self {
        Self { pixels: Pixels::Planar(bytes), size }
    }

    /// Returns an image of floats `[channels, height, width]` that were normalised already: they
    /// are the numbers that the network reads.
    pub fn floats(values: &'a [f32], size: [usize; 2]) -> Self {
        Self { pixels: Pixels::Floats(values), size }
    }

    /// Returns the height and the width.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Returns whether the pixels are bytes.
    pub(crate) fn has_bytes(&self) -> bool {
        !matches!(self.pixels, Pixels::Floats(_))
    }

    /// Checks that the image has the input's channels.
    pub(crate) fn check(&self, input: &Input) -> Result<(), Error> {
        let length = match self.pixels {
            Pixels::Interleaved(bytes) | Pixels::Planar(bytes) => bytes.len(),
            Pixels::Floats(values) => values.len(),
        };
        let ([height, width], channels) = (self.size, input.scale.len());
        let wanted = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
        if wanted == Some(length) && length > 0 {
            return Ok(());
        }
        Err(Error::Image(format!(
            "has {length} numbers for {height} x {width} pixels, and the network takes {channels} \
             channels for each pixel"
        )))
    }

    /// Writes the numbers of a range of positions, `[positions, channels]`. `bytes` has the numbers
    /// of each channel's bytes.
    pub(crate) fn write(&self, bytes: &[[f32; 256]], positions: Range<usize>, out: &mut [f32]) {
        let (channels, pixels) = (bytes.len(), self.size[0] * self.size[1]);
        let of_channel = |channel: usize| channel * pixels + positions.start;
        match self.pixels {
            Pixels::Interleaved(pixels) => {
                let pixels = pixels[positions.start * channels..].chunks_exact(channels);
                for (out, pixel) in out.chunks_exact_mut(channels).zip(pixels) {
                    for ((out, byte), numbers) in out.iter_mut().zip(pixel).zip(bytes) {
                        *out = numbers[usize::from(*byte)];
                    }
                }
            }
            Pixels::Planar(pixels) => {
                for (channel, numbers) in bytes.iter().enumerate() {
                    let out = out[channel..].iter_mut().step_by(channels);
                    let pixels = &pixels[of_channel(channel)..];
                    out.zip(pixels).for_each(|(out, byte)| *out = numbers[usize::from(*byte)]);
                }
            }
            Pixels::Floats(values) => {
                for channel in 0..channels {
                    let out = out[channel..].iter_mut().step_by(channels);
                    out.zip(&values[of_channel(channel)..]).for_each(|(out, x)| *out = *x);
                }
            }
        }
    }

    /// Returns the number of a channel at a position, counted by row and column.
    #[inline(always)]
    pub(crate) fn number(&self, input: &Input, channel: usize, position: usize) -> f32 {
        let (channels, positions) = (input.scale.len(), self.size[0] * self.size[1]);
        let byte = match self.pixels {
            Pixels::Interleaved(bytes) => bytes[position * channels + channel],
            Pixels::Planar(bytes) => bytes[channel * positions + position],
            Pixels::Floats(values) => return values[channel * positions + position],
        };
        input.number(channel, byte)
    }
}

impl Input {
    /// Returns the number that a byte of a channel stands for.
    pub fn number(&self, channel: usize, byte: u8) -> f32 {
        f32::from(byte) * self.scale[channel] + self.shift[channel]
    }
}
