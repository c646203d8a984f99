//! Transforms for training (augmentation) and for evaluation: a list of steps. Each sample has its
//! own random generator.

mod color;
mod resample;
mod trivial;

use serde::{Deserialize, Serialize};

use crate::{
    error::DataError,
    image::{RgbImage, check_size},
    random::Random,
};
use color::Jitter;
use resample::{Window, resample};

/// One step of a pipeline, from image to image.
///
/// ```
/// use quant_data::{Pipeline, RgbImage, Transform, random::Random};
///
/// let steps = vec![Transform::Resize { size: 32 }, Transform::CenterCrop { size: 28 }];
/// let image = Pipeline(steps).apply(RgbImage::new(64, 48), &mut Random::new(&[1]));
/// assert_eq!((image.width, image.height), (28, 28));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// Crops a random part of the image and resizes it to a square. The share of the area is
    /// uniform within `scale`, and the aspect ratio is log-uniform in 3/4..4/3 (Szegedy et al.
    /// 2015; as in torchvision).
    RandomResizedCrop {
        /// Side of the square, in pixels.
        size: usize,
        /// Smallest and largest share of the image's area.
        scale: [f64; 2],
    },
    /// Mirrors the image horizontally with probability 1/2.
    HorizontalFlip,
    /// Resizes the image with antialiasing so that its shorter side has `size` pixels.
    Resize {
        /// Length of the shorter side, in pixels.
        size: usize,
    },
    /// Crops the central square. Where the image is smaller, missing pixels are black.
    CenterCrop {
        /// Side of the square, in pixels.
        size: usize,
    },
    /// Extends the image on every side by reflection and crops a random square (CIFAR's
    /// augmentation).
    PaddedCrop {
        /// Side of the square, in pixels.
        size: usize,
        /// Number of pixels added on every side; it must be smaller than the image.
        padding: usize,
    },
    /// Changes brightness, contrast and saturation in random order, each by a factor that is
    /// uniform in max(0, 1 - x)..1 + x (as in torchvision).
    ColorJitter {
        /// The x of the brightness factor.
        brightness: f64,
        /// The x of the contrast factor.
        contrast: f64,
        /// The x of the saturation factor.
        saturation: f64,
    },
    /// Adds the principal components of ImageNet's colours, each times its standard deviation times
    /// a normally distributed number (Krizhevsky et al. 2012).
    Lighting {
        /// Standard deviation of the normally distributed number.
        std: f64,
    },
    /// Applies one random operation of random strength, such as a shear, a shift, a rotation or a
    /// change of colour (TrivialAugment with the wide space; Müller and Hutter 2021).
    TrivialAugment,
}

/// The largest side that a step may produce, in pixels. A square of this side takes 805 MB.
const LARGEST_SIDE: usize = 16_384;

/// Steps that are applied in order.
///
/// ```
/// use quant_data::{Pipeline, RgbImage, random::Random};
///
/// let pipeline = Pipeline::imagenet_eval(224);
/// assert_eq!(pipeline.output_size(), Some(224));
/// let image = pipeline.apply(RgbImage::new(640, 480), &mut Random::new(&[1]));
/// assert_eq!((image.width, image.height), (224, 224));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pipeline(pub Vec<Transform>);

impl Pipeline {
    /// Returns the steps of ImageNet training: a random resized crop (8 % to 100 % of the area) and
    /// a flip.
    pub fn imagenet_train(size: usize) -> Self {
        Self(vec![
            Transform::RandomResizedCrop { size, scale: [0.08, 1.0] },
            Transform::HorizontalFlip,
        ])
    }

    /// Returns the steps of [`imagenet_train`](Self::imagenet_train), with colour jitter of 0.4 for
    /// each property and lighting of 0.1.
    pub fn imagenet_train_color(size: usize) -> Self {
        let mut steps = Self::imagenet_train(size).0;
        let jitter = Transform::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4 };
        steps.extend([jitter, Transform::Lighting { std: 0.1 }]);
        Self(steps)
    }

    /// Returns the steps of ImageNet evaluation: the shorter side is resized to 8/7 of `size` (256
    /// for 224), and the centre is cropped.
    pub fn imagenet_eval(size: usize) -> Self {
        Self(vec![
            Transform::Resize { size: (size * 8).div_ceil(7) },
            Transform::CenterCrop { size },
        ])
    }

    /// Returns the steps of CIFAR training: a flip, and a random crop of the image extended by 4
    /// pixels.
    pub fn cifar_train(size: usize) -> Self {
        Self(vec![Transform::HorizontalFlip, Transform::PaddedCrop { size, padding: 4 }])
    }

    /// Checks that no step makes an image of this size larger than images may be. Resizing a long
    /// and narrow image by its shorter side multiplies its number of pixels.
    ///
    /// # Errors
    /// If an image would become too large: a text with that size.
    pub(crate) fn check_image(&self, width: usize, height: usize) -> Result<(), String> {
        let mut size = (width, height);
        for step in &self.0 {
            match step {
                Transform::Resize { size: side } => {
                    size = resized(size, *side);
                    let resized = |reason| format!("too narrow: resized, it has {reason}");
                    check_size(size.0, size.1).map_err(resized)?;
                }
                // From this step on, sizes do not depend on the image.
                Transform::RandomResizedCrop { .. }
                | Transform::CenterCrop { .. }
                | Transform::PaddedCrop { .. } => return Ok(()),
                Transform::HorizontalFlip
                | Transform::ColorJitter { .. }
                | Transform::Lighting { .. }
                | Transform::TrivialAugment => {}
            }
        }
        Ok(())
    }

    /// Applies the steps to an image.
    pub fn apply(&self, image: RgbImage, random: &mut Random) -> RgbImage {
        self.0.iter().fold(image, |image, step| step.apply(image, random))
    }

    /// Returns the side of the square that the steps produce, in pixels, if they fix it.
    pub fn output_size(&self) -> Option<usize> {
        self.0.iter().fold(None, |side, step| match step {
            Transform::RandomResizedCrop { size, .. }
            | Transform::CenterCrop { size }
            | Transform::PaddedCrop { size, .. } => Some(*size),
            // A square stays a square.
            Transform::Resize { size } => side.map(|_| *size),
            Transform::HorizontalFlip
            | Transform::ColorJitter { .. }
            | Transform::Lighting { .. }
            | Transform::TrivialAugment => side,
        })
    }

    /// Checks that the steps produce squares of one size, and that no step makes images too large.
    ///
    /// # Errors
    /// [`DataError::NoOutputSize`]; [`DataError::Setting`] for a size or a padding that is out of
    /// range.
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        let range = |field, value: usize, least| {
            if (least..=LARGEST_SIDE).contains(&value) {
                Ok(())
            } else {
                let accepted = format!("{least} to {LARGEST_SIDE} pixels");
                Err(DataError::Setting { field, value: value.to_string(), accepted })
            }
        };
        for step in &self.0 {
            match step {
                Transform::RandomResizedCrop { size, .. } => {
                    range("size of random-resized-crop", *size, 1)?;
                }
                Transform::Resize { size } => range("size of resize", *size, 1)?,
                Transform::CenterCrop { size } => range("size of center-crop", *size, 1)?,
                Transform::PaddedCrop { size, padding } => {
                    range("size of padded-crop", *size, 1)?;
                    range("padding of padded-crop", *padding, 0)?;
                }
                Transform::HorizontalFlip
                | Transform::ColorJitter { .. }
                | Transform::Lighting { .. }
                | Transform::TrivialAugment => {}
            }
        }
        self.output_size().map(drop).ok_or(DataError::NoOutputSize)
    }
}

impl Transform {
    fn apply(self, image: RgbImage, random: &mut Random) -> RgbImage {
        match self {
            Transform::RandomResizedCrop { size, scale } => {
                let window = random_window(image.width, image.height, scale, random);
                resample(&image, window, size, size)
            }
            Transform::HorizontalFlip => {
                if random.chance(0.5) {
                    flipped(image)
                } else {
                    image
                }
            }
            Transform::Resize { size } => {
                let (width, height) = resized((image.width, image.height), size);
                resample(&image, Window::whole(&image), width, height)
            }
            Transform::CenterCrop { size } => {
                let offset = |side: usize| {
                    // Python rounds half to even too.
                    ((side as f64 - size as f64) / 2.0).round_ties_even() as isize
                };
                let (left, top) = (offset(image.width), offset(image.height));
                crop(&image, left, top, size, |_, _| None)
            }
            Transform::ColorJitter { brightness, contrast, saturation } => {
                Jitter { brightness, contrast, saturation }.apply(image, random)
            }
            Transform::Lighting { std } => color::lighting(image, std, random),
            Transform::TrivialAugment => trivial::trivial_augment(image, random),
            Transform::PaddedCrop { size, padding } => {
                let range = |side: usize| (side + 2 * padding + 1).saturating_sub(size).max(1);
                let left = random.below(range(image.width)) as isize - padding as isize;
                let top = random.below(range(image.height)) as isize - padding as isize;
                let reflect = |at: isize, side: usize| {
                    let last = side as isize - 1;
                    let inside = if at < 0 {
                        -at
                    } else if at > last {
                        2 * last - at
                    } else {
                        at
                    };
                    inside.clamp(0, last)
                };
                crop(&image, left, top, size, |x, y| {
                    Some((reflect(x, image.width), reflect(y, image.height)))
                })
            }
        }
    }
}

/// Returns the width and height of an image whose shorter side becomes `size` pixels. The longer
/// side is rounded down, as in torchvision.
fn resized((width, height): (usize, usize), size: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| (size.saturating_mul(long) / short).max(1);
    if width <= height { (size, longer(height, width)) } else { (longer(width, height), size) }
}

/// Returns the part of the image that a random resized crop takes.
fn random_window(width: usize, height: usize, scale: [f64; 2], random: &mut Random) -> Window {
    let (w, h) = (width as f64, height as f64);
    let (low, high) = (3.0f64 / 4.0, 4.0f64 / 3.0);
    for _ in 0..10 {
        let area = w * h * random.uniform(scale[0], scale[1]);
        let ratio = random.uniform(low.ln(), high.ln()).exp();
        let crop_w = (area * ratio).sqrt().round();
        let crop_h = (area / ratio).sqrt().round();
        if (1.0..=w).contains(&crop_w) && (1.0..=h).contains(&crop_h) {
            return Window {
                left: random.below((w - crop_w) as usize + 1) as f64,
                top: random.below((h - crop_h) as usize + 1) as f64,
                width: crop_w,
                height: crop_h,
            };
        }
    }
    let ratio = (w / h).clamp(low, high);
    let (crop_w, crop_h) = match w / h {
        given if given < low => (w, (w / ratio).round().min(h)),
        given if given > high => ((h * ratio).round().min(w), h),
        _ => (w, h),
    };
    Window {
        left: ((w - crop_w) / 2.0).floor(),
        top: ((h - crop_h) / 2.0).floor(),
        width: crop_w,
        height: crop_h,
    }
}

fn flipped(mut image: RgbImage) -> RgbImage {
    for row in image.pixels.chunks_exact_mut(image.width * 3) {
        let pixels = row.as_chunks_mut::<3>().0;
        pixels.reverse();
    }
    image
}

/// Crops the square of side `size` whose upper left corner is at (left, top). For a pixel outside
/// the image, `outside` returns the pixel that replaces it, or `None` for black.
fn crop(
    image: &RgbImage,
    left: isize,
    top: isize,
    size: usize,
    outside: impl Fn(isize, isize) -> Option<(isize, isize)>,
) -> RgbImage {
    let mut out = RgbImage::new(size, size);
    let (width, height) = (image.width as isize, image.height as isize);
    for (row, bytes) in out.pixels.chunks_exact_mut(size * 3).enumerate() {
        let y = top + row as isize;
        if (0..height).contains(&y) && left >= 0 && left + size as isize <= width {
            let start = (y * width + left) as usize * 3;
            bytes.copy_from_slice(&image.pixels[start..start + size * 3]);
            continue;
        }
        for (column, pixel) in bytes.chunks_exact_mut(3).enumerate() {
            let x = left + column as isize;
            let inside = (0..width).contains(&x) && (0..height).contains(&y);
            let source = if inside { Some((x, y)) } else { outside(x, y) };
            if let Some((x, y)) = source {
                let start = (y * width + x) as usize * 3;
                pixel.copy_from_slice(&image.pixels[start..start + 3]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Creates an image in which every pixel holds its own coordinates.
    fn map(width: usize, height: usize) -> RgbImage {
        let mut image = RgbImage::new(width, height);
        for (index, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[(index % width) as u8, (index / width) as u8, 0]);
        }
        image
    }

    #[test]
    fn a_narrow_image_that_would_become_too_large_is_refused() {
        let steps = Pipeline::imagenet_eval(224);
        // Resized to 256·(256·3000) pixels, an image of 1 by 3000 has 197 million, which is too
        // many. With a ratio of 2700 it has 177 million.
        assert!(steps.check_image(1, 2700).is_ok() && steps.check_image(27_000, 10).is_ok());
        for (width, height) in [(1, 3000), (30_000, 10)] {
            let error = steps.check_image(width, height).unwrap_err();
            assert!(error.contains("768000") && error.contains("too narrow"), "{error}");
        }
        // After a crop as the first step, no image becomes too large.
        assert!(Pipeline::imagenet_train(224).check_image(1, 65_535).is_ok());
    }

    #[test]
    fn flipping_mirrors_every_row() {
        let image = flipped(map(3, 2));
        let columns: Vec<u8> = image.pixels.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(columns, [2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn the_centre_crop_takes_the_middle() {
        let step = Transform::CenterCrop { size: 2 };
        let image = step.apply(map(6, 4), &mut Random::new(&[]));
        assert_eq!(image.pixels, [2, 1, 0, 3, 1, 0, 2, 2, 0, 3, 2, 0]);
    }

    #[test]
    fn a_centre_crop_beyond_the_image_is_black_there() {
        let step = Transform::CenterCrop { size: 4 };
        let image = step
            .apply(RgbImage { width: 2, height: 2, pixels: vec![9; 12] }, &mut Random::new(&[]));
        let bright = image.pixels.iter().filter(|byte| **byte == 9).count();
        assert_eq!((image.width, bright), (4, 12));
    }

    #[test]
    fn padding_reflects_without_repeating_the_edge() {
        let step = Transform::PaddedCrop { size: 3, padding: 2 };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let image = step.apply(map(3, 3), &mut Random::new(&[seed]));
            let row: Vec<u8> = image.pixels[..9].chunks(3).map(|pixel| pixel[0]).collect();
            seen.insert(row);
        }
        let expected: [[u8; 3]; 5] = [[0, 1, 2], [1, 0, 1], [1, 2, 1], [2, 1, 0], [2, 1, 0]];
        let expected: std::collections::BTreeSet<_> = expected.map(Vec::from).into();
        assert_eq!(seen, expected);
    }

    proptest! {
        #[test]
        fn random_windows_lie_inside(width in 1usize..600, height in 1usize..600, seed: u64) {
            let window = random_window(width, height, [0.08, 1.0], &mut Random::new(&[seed]));
            prop_assert!(window.left >= 0.0 && window.left + window.width <= width as f64);
            prop_assert!(window.top >= 0.0 && window.top + window.height <= height as f64);
            prop_assert!(window.width >= 1.0 && window.height >= 1.0);
        }

        #[test]
        fn pipelines_make_squares(width in 1usize..80, height in 1usize..80, seed: u64) {
            let trivial = [Pipeline::imagenet_train(16).0, vec![Transform::TrivialAugment]];
            let trivial = Pipeline(trivial.concat());
            let color = Pipeline::imagenet_train_color(16);
            for pipeline in [color, trivial, Pipeline::imagenet_eval(16)] {
                let image = pipeline.apply(map(width, height), &mut Random::new(&[seed]));
                prop_assert_eq!((image.width, image.height), (16, 16));
            }
        }
    }
}
