//! Turns coefficients into pixels: the inverse transform, upsampling of chroma, and conversion of
//! colours. Values are rounded as in libjpeg.

use super::{
    frame::{Component, Frame},
    idct, smooth,
};
use crate::image::limits::filled;

/// The colour space of the components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Grey,
    Rgb,
    YCbCr,
    /// CMYK with inverted values, as Adobe's programs write it.
    Cmyk,
    /// CMYK whose cyan, magenta and yellow are inverted and coded as YCbCr.
    Ycck,
}

/// Returns the pixels, three bytes each.
pub(super) fn pixels(frame: &Frame, color: Color) -> Result<Vec<u8>, String> {
    let smooth = smooth::applies(frame);
    let planes = frame.components.iter().map(|component| Plane::new(frame, component, smooth));
    let planes = planes.collect::<Result<Vec<_>, String>>()?;
    let mut pixels = Vec::new();
    let bytes = frame.width * frame.height * 3;
    pixels.try_reserve_exact(bytes).map_err(|error| error.to_string())?;
    let mut rows = vec![vec![0; frame.width + 8]; planes.len()];
    for y in 0..frame.height {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.row(y, row);
        }
        (0..frame.width).for_each(|x| match color {
            Color::Grey => pixels.extend([rows[0][x]; 3]),
            Color::Rgb => pixels.extend([rows[0][x], rows[1][x], rows[2][x]]),
            Color::YCbCr => pixels.extend(rgb(rows[0][x], rows[1][x], rows[2][x])),
            Color::Cmyk => {
                let ink = [rows[0][x], rows[1][x], rows[2][x]].map(|value| 255 - value);
                pixels.extend(ink_to_rgb(ink, 255 - rows[3][x]));
            }
            Color::Ycck => {
                let ink = rgb(rows[0][x], rows[1][x], rows[2][x]);
                pixels.extend(ink_to_rgb(ink, 255 - rows[3][x]));
            }
        });
    }
    Ok(pixels)
}

/// Converts JFIF's YCbCr to RGB in fixed-point arithmetic with 16 fractional bits.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    const HALF: i32 = 1 << 15;
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Converts cyan, magenta, yellow and black to RGB with Pillow's formula.
fn ink_to_rgb(ink: [u8; 3], black: u8) -> [u8; 3] {
    let light = 255 - i32::from(black);
    ink.map(|ink| {
        let product = i32::from(ink) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

/// How the samples of a component are brought to the size of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upsampling {
    /// The component has half the width: each value is 3/4 of the nearest sample and 1/4 of the
    /// next.
    Horizontal,
    /// The component has half the height: the same weights, vertically.
    Vertical,
    /// The component has half the width and height: the same weights in both directions.
    Both,
    /// Every sample is repeated this many times horizontally and vertically.
    Repeat(usize, usize),
}

/// The samples of a component.
struct Plane {
    samples: Vec<u8>,
    /// Number of samples from the start of one row to the start of the next.
    stride: usize,
    width: usize,
    height: usize,
    upsampling: Upsampling,
}

impl Plane {
    fn new(frame: &Frame, component: &Component, smooth: bool) -> Result<Self, String> {
        let (h, v) = (component.horizontal, component.vertical);
        if !frame.horizontal.is_multiple_of(h) || !frame.vertical.is_multiple_of(v) {
            return Err("the sampling factors are not multiples of each other".into());
        }
        // In a component that is too narrow, samples have no neighbours to interpolate with.
        let wide = component.width > 2;
        let upsampling = match (frame.horizontal / h, frame.vertical / v) {
            (2, 1) if wide => Upsampling::Horizontal,
            (1, 2) => Upsampling::Vertical,
            (2, 2) if wide => Upsampling::Both,
            (h, v) => Upsampling::Repeat(h, v),
        };
        let stride = component.blocks_wide * 8;
        let mut samples = filled(0, stride * component.blocks_high * 8)?;
        // A component that no scan has described is grey.
        let quantization = component.quantization.unwrap_or([0; 64]);
        for row in 0..component.blocks_high {
            for column in 0..component.blocks_wide {
                let estimated;
                let block = if smooth {
                    estimated = smooth::block(frame, component, column, row);
                    &estimated
                } else {
                    component.block(column, row)
                };
                let to = &mut samples[row * 8 * stride + column * 8..];
                idct::inverse(block, &quantization, to, stride);
            }
        }
        Ok(Self { samples, stride, width: component.width, height: component.height, upsampling })
    }

    fn samples(&self, row: usize) -> &[u8] {
        let start = row.min(self.height - 1) * self.stride;
        &self.samples[start..start + self.width]
    }

    /// Returns the row of samples nearest to row `y` of the picture, and the next nearest, for a
    /// component of half the height.
    fn near_and_far(&self, y: usize) -> (&[u8], &[u8]) {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
        (self.samples(near), self.samples(far))
    }

    /// Writes row `y` of the picture to the start of `row`.
    fn row(&self, y: usize, row: &mut [u8]) {
        match self.upsampling {
            Upsampling::Repeat(h, v) => {
                let samples = self.samples(y / v).iter();
                for (to, sample) in row.chunks_mut(h).zip(samples) {
                    to.fill(*sample);
                }
            }
            Upsampling::Vertical => {
                let (near, far) = self.near_and_far(y);
                let rounding = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((to, near), far) in row.iter_mut().zip(near).zip(far) {
                    *to = ((3 * u32::from(*near) + u32::from(*far) + rounding) >> 2) as u8;
                }
            }
            Upsampling::Horizontal => {
                let samples = self.samples(y);
                double(row, samples.len(), |x| u32::from(samples[x]), 2, [1, 2]);
            }
            Upsampling::Both => {
                let (near, far) = self.near_and_far(y);
                let sum = |x: usize| 3 * u32::from(near[x]) + u32::from(far[x]);
                double(row, near.len(), sum, 4, [8, 7]);
            }
        }
    }
}

/// Doubles the number of values: each is 3/4 of the nearest value and 1/4 of the next, and the
/// outermost values are kept. Input values are scaled by 2^`shift`. Left and right values are
/// rounded differently, so that no bias remains.
fn double(
    row: &mut [u8],
    count: usize,
    value: impl Fn(usize) -> u32,
    shift: u32,
    rounding: [u32; 2],
) {
    for (x, pair) in row.chunks_exact_mut(2).take(count).enumerate() {
        let near = value(x);
        let left = if x > 0 { value(x - 1) } else { near };
        let right = if x + 1 < count { value(x + 1) } else { near };
        pair[0] = ((3 * near + left + rounding[0]) >> shift) as u8;
        pair[1] = ((3 * near + right + rounding[1]) >> shift) as u8;
    }
}
