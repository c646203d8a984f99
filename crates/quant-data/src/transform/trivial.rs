//! TrivialAugment (Müller and Hutter, ICCV 2021): one operation of random strength per image.

use super::color;
use crate::{image::RgbImage, random::Random};

/// Applies one of 14 operations with equal probability. The strength is one of 31 levels, and
/// operations that have a sign get a random one. This is the paper's wide space.
pub(super) fn trivial_augment(mut image: RgbImage, random: &mut Random) -> RgbImage {
    let operation = random.below(14);
    let strength = random.below(31) as f64 / 30.0;
    let sign = if random.chance(0.5) { 1.0 } else { -1.0 };
    // The factors of colour, contrast, brightness and sharpness lie between 0.01 and 1.99.
    let factor = 1.0 + sign * 0.99 * strength;
    match operation {
        0 => {}
        1 => return affine(&image, [1.0, sign * 0.99 * strength, 0.0, 1.0], [0.0, 0.0]),
        2 => return affine(&image, [1.0, 0.0, sign * 0.99 * strength, 1.0], [0.0, 0.0]),
        3 => return affine(&image, IDENTITY, [sign * 32.0 * strength, 0.0]),
        4 => return affine(&image, IDENTITY, [0.0, sign * 32.0 * strength]),
        5 => {
            let (sin, cos) = (sign * 135.0 * strength).to_radians().sin_cos();
            return affine(&image, [cos, sin, -sin, cos], [0.0, 0.0]);
        }
        6 => color::brightness(&mut image, factor),
        7 => color::saturation(&mut image, factor),
        8 => color::contrast(&mut image, factor),
        9 => color::sharpness(&mut image, factor),
        10 => color::posterize(&mut image, 8 - (6.0 * strength).round() as u32),
        11 => color::solarize(&mut image, 255.0 * (1.0 - strength)),
        12 => color::autocontrast(&mut image),
        _ => color::equalize(&mut image),
    }
    image
}

const IDENTITY: [f64; 4] = [1.0, 0.0, 0.0, 1.0];

/// Maps an image: with coordinates relative to the image's centre, the pixel at p becomes the
/// nearest pixel to M·p + shift of the input, or black if that lies outside.
fn affine(image: &RgbImage, [a, b, c, d]: [f64; 4], shift: [f64; 2]) -> RgbImage {
    let (width, height) = (image.width, image.height);
    let (middle_x, middle_y) = ((width as f64 - 1.0) / 2.0, (height as f64 - 1.0) / 2.0);
    let mut out = RgbImage::new(width, height);
    for (index, pixel) in out.pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let x = (index % width) as f64 - middle_x;
        let y = (index / width) as f64 - middle_y;
        let from_x = (a * x + b * y + shift[0] + middle_x).round();
        let from_y = (c * x + d * y + shift[1] + middle_y).round();
        if (0.0..width as f64).contains(&from_x) && (0.0..height as f64).contains(&from_y) {
            let from = (from_y as usize * width + from_x as usize) * 3;
            pixel.copy_from_slice(&image.pixels[from..from + 3]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: usize, height: usize) -> RgbImage {
        let pixels = (0..width * height).flat_map(|i| [i as u8 + 1; 3]).collect();
        RgbImage { width, height, pixels }
    }

    fn greys(image: &RgbImage) -> Vec<u8> {
        image.pixels.iter().copied().step_by(3).collect()
    }

    #[test]
    fn an_affine_map_moves_pixels() {
        let image = numbered(3, 3);
        assert_eq!(affine(&image, IDENTITY, [0.0, 0.0]), image);
        assert_eq!(greys(&affine(&image, IDENTITY, [1.0, 0.0])), [2, 3, 0, 5, 6, 0, 8, 9, 0]);
        // The matrix is a quarter turn.
        let turned = affine(&image, [0.0, 1.0, -1.0, 0.0], [0.0, 0.0]);
        assert_eq!(greys(&turned), [7, 4, 1, 8, 5, 2, 9, 6, 3]);
    }

    #[test]
    fn every_operation_keeps_the_size_and_most_change_something() {
        let mut image = numbered(12, 9);
        for (index, pixel) in image.pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [index as u8 * 2, 255 - index as u8, (index * 7 % 256) as u8];
        }
        let changed = (0..300).filter(|seed| {
            let after = trivial_augment(image.clone(), &mut Random::new(&[*seed]));
            assert_eq!((after.width, after.height), (12, 9));
            assert_eq!(after.pixels.len(), image.pixels.len());
            after != image
        });
        assert!(changed.count() > 200);
    }
}
