//! Changes of colour: jitter, AlexNet's lighting, and the colour operations of TrivialAugment.

use crate::{image::RgbImage, random::Random};

/// Strengths of the colour jitter: each factor is uniform in max(0, 1 - x)..1 + x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jitter {
    pub(super) brightness: f64,
    pub(super) contrast: f64,
    pub(super) saturation: f64,
}

impl Jitter {
    /// Applies the three changes in random order.
    pub(super) fn apply(self, mut image: RgbImage, random: &mut Random) -> RgbImage {
        let mut order = [0, 1, 2];
        random.shuffle(&mut order);
        let strength = [self.brightness, self.contrast, self.saturation];
        for kind in order {
            let factor = random.uniform((1.0 - strength[kind]).max(0.0), 1.0 + strength[kind]);
            match kind {
                0 => brightness(&mut image, factor),
                1 => contrast(&mut image, factor),
                _ => saturation(&mut image, factor),
            }
        }
        image
    }
}

/// The principal components of ImageNet's colours, as columns, and their standard deviations, for
/// colours in 0..1, from AlexNet (Krizhevsky et al. 2012).
const COMPONENTS: [[f64; 3]; 3] =
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];
const DEVIATIONS: [f64; 3] = [0.2175, 0.0188, 0.0045];

/// Adds each principal component times its standard deviation times a normally distributed number
/// with standard deviation `std`.
pub(super) fn lighting(mut image: RgbImage, std: f64, random: &mut Random) -> RgbImage {
    let along: [f64; 3] = std::array::from_fn(|k| random.normal() * std * DEVIATIONS[k]);
    let added =
        COMPONENTS.map(|row| 255.0 * (row[0] * along[0] + row[1] * along[1] + row[2] * along[2]));
    let tables = added.map(|added| table(|x| x + added));
    each_channel(&mut image, &tables);
    image
}

/// Multiplies every value x: x·factor.
pub(super) fn brightness(image: &mut RgbImage, factor: f64) {
    each_channel(image, &[table(|x| x * factor); 3]);
}

/// Changes the contrast: mean + factor·(x - mean), where mean is that of the grey image.
pub(super) fn contrast(image: &mut RgbImage, factor: f64) {
    let pixels = image.pixels.as_chunks::<3>().0;
    let sum: f64 = pixels.iter().map(grey).sum();
    let mean = (sum / pixels.len().max(1) as f64).round();
    each_channel(image, &[table(|x| mean + factor * (x - mean)); 3]);
}

/// Changes the saturation: grey + factor·(x - grey), where grey is that of the pixel.
pub(super) fn saturation(image: &mut RgbImage, factor: f64) {
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        let grey = grey(pixel).round();
        *pixel = pixel.map(|x| byte(grey + factor * (f64::from(x) - grey)));
    }
}

/// Keeps the `bits` highest bits of every value.
pub(super) fn posterize(image: &mut RgbImage, bits: u32) {
    let mask = !(0xffu32 >> bits.min(8)) as u8;
    image.pixels.iter_mut().for_each(|x| *x &= mask);
}

/// Inverts the values that are at or above `threshold`.
pub(super) fn solarize(image: &mut RgbImage, threshold: f64) {
    let inverted = |x: f64| if x >= threshold { 255.0 - x } else { x };
    each_channel(image, &[table(inverted); 3]);
}

/// Stretches the values of every channel to 0..255.
pub(super) fn autocontrast(image: &mut RgbImage) {
    let histograms = histograms(image);
    let tables = histograms.map(|counts| {
        let low = counts.iter().position(|count| *count > 0).unwrap_or(0) as f64;
        let high = counts.iter().rposition(|count| *count > 0).unwrap_or(255) as f64;
        if high > low { table(|x| (x - low) * 255.0 / (high - low)) } else { table(|x| x) }
    });
    each_channel(image, &tables);
}

/// Equalises the histogram of every channel.
pub(super) fn equalize(image: &mut RgbImage) {
    let tables = histograms(image).map(|counts| {
        let last = counts.iter().rfind(|count| **count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<usize>() - last) / 255;
        let mut seen = step / 2;
        std::array::from_fn(|x| {
            let value = match step {
                0 => x,
                step => (seen / step).min(255),
            };
            seen += counts[x];
            value as u8
        })
    });
    each_channel(image, &tables);
}

/// Changes the sharpness by blending with a smoothed image: smooth + factor·(x - smooth). The
/// border is not changed.
pub(super) fn sharpness(image: &mut RgbImage, factor: f64) {
    let (width, height) = (image.width, image.height);
    if width < 3 || height < 3 {
        return;
    }
    let source = image.pixels.clone();
    let at = |x: usize, y: usize, c: usize| f64::from(source[(y * width + x) * 3 + c]);
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            for c in 0..3 {
                let around = (0..9).map(|i| at(x + i % 3 - 1, y + i / 3 - 1, c)).sum::<f64>();
                let own = at(x, y, c);
                let smooth = ((around + 4.0 * own) / 13.0).round();
                image.pixels[(y * width + x) * 3 + c] = byte(smooth + factor * (own - smooth));
            }
        }
    }
}

/// Returns the grey value, which is the luma of ITU-R 601, as in Pillow.
fn grey(pixel: &[u8; 3]) -> f64 {
    let [r, g, b] = pixel.map(f64::from);
    0.299 * r + 0.587 * g + 0.114 * b
}

fn byte(x: f64) -> u8 {
    x.round().clamp(0.0, 255.0) as u8
}

fn table(f: impl Fn(f64) -> f64) -> [u8; 256] {
    std::array::from_fn(|x| byte(f(x as f64)))
}

fn each_channel(image: &mut RgbImage, tables: &[[u8; 256]; 3]) {
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        for (x, table) in pixel.iter_mut().zip(tables) {
            *x = table[usize::from(*x)];
        }
    }
}

fn histograms(image: &RgbImage) -> [[usize; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.pixels.as_chunks::<3>().0 {
        for (counts, x) in counts.iter_mut().zip(pixel) {
            counts[usize::from(*x)] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pixels: &[u8]) -> RgbImage {
        RgbImage { width: pixels.len() / 3, height: 1, pixels: pixels.to_vec() }
    }

    fn after(pixels: &[u8], change: impl Fn(&mut RgbImage)) -> Vec<u8> {
        let mut image = image(pixels);
        change(&mut image);
        image.pixels
    }

    #[test]
    fn factors_of_1_change_nothing() {
        let pixels = [10, 200, 30, 250, 0, 7];
        for change in [brightness, contrast, saturation, sharpness] {
            assert_eq!(after(&pixels, |image| change(image, 1.0)), pixels);
        }
    }

    #[test]
    fn factors_of_0_leave_black_grey_and_the_mean() {
        let pixels = [100, 100, 100, 200, 200, 200];
        assert_eq!(after(&pixels, |image| brightness(image, 0.0)), [0; 6]);
        assert_eq!(after(&pixels, |image| contrast(image, 0.0)), [150; 6]);
        // The grey value is 0.299·255 = 76.2.
        assert_eq!(after(&[255, 0, 0], |image| saturation(image, 0.0)), [76; 3]);
    }

    #[test]
    fn tables_are_their_formulas() {
        assert_eq!(after(&[255, 127, 3], |image| posterize(image, 2)), [192, 64, 0]);
        assert_eq!(after(&[255, 128, 3], |image| solarize(image, 128.0)), [0, 127, 3]);
        assert_eq!(
            after(&[50, 9, 0, 100, 9, 51, 150, 9, 255], autocontrast),
            [0, 9, 0, 128, 9, 51, 255, 9, 255]
        );
    }

    #[test]
    fn equalizing_evens_out_the_histogram() {
        let dark: Vec<u8> = (0..2550).map(|i| (i / 3 % 64) as u8).collect();
        let even = after(&dark, equalize);
        assert!(even.iter().max() > Some(&240) && even.iter().min() < Some(&10));
    }

    #[test]
    fn lighting_shifts_all_pixels_alike() {
        let mut random = Random::new(&[2]);
        let lit = lighting(image(&[100, 110, 120, 50, 60, 70]), 0.1, &mut random).pixels;
        let shift: Vec<i32> =
            lit.iter().zip([100, 110, 120, 50, 60, 70]).map(|(a, b)| i32::from(*a) - b).collect();
        assert_eq!(shift[..3], shift[3..]);
        assert!(shift.iter().any(|x| *x != 0) && shift.iter().all(|x| x.abs() < 30), "{shift:?}");
        assert_eq!(lighting(image(&[1, 2, 3]), 0.0, &mut random).pixels, [1, 2, 3]);
    }
}
