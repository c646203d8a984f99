//! Random noise of any size, for trials and for measuring speed without data.

use super::{Dataset, Fingerprint};
use crate::{error::DataError, image::RgbImage, random::Random};

/// A data set of images with random pixels and random labels. An image is the same each time it is
/// read.
#[derive(Debug, Clone)]
pub struct Fake {
    images: usize,
    side: usize,
    classes: Vec<String>,
    seed: u64,
}

impl Fake {
    /// Creates a data set of `images` squares of `side` pixels in `classes` classes.
    pub fn new(images: usize, side: usize, classes: usize, seed: u64) -> Self {
        let classes = (0..classes.max(1)).map(|class| class.to_string()).collect();
        Self { images, side, classes, seed }
    }
}

impl Dataset for Fake {
    fn len(&self) -> usize {
        self.images
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        Random::new(&[self.seed, 0, index as u64]).below(self.classes.len())
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        let mut random = Random::new(&[self.seed, 1, index as u64]);
        let mut image = RgbImage::new(self.side, self.side);
        for bytes in image.pixels.chunks_mut(8) {
            bytes.copy_from_slice(&random.next_u64().to_le_bytes()[..bytes.len()]);
        }
        Ok(image)
    }

    /// Hashes the parameters, which determine everything else.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self, |hash| {
            hash.text(b"fake");
            for number in [self.images as u64, self.side as u64, self.seed] {
                hash.number(number);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_differ_and_repeat() {
        let fake = Fake::new(40, 5, 3, 9);
        assert_eq!(fake.image(3).unwrap(), fake.image(3).unwrap());
        assert_ne!(fake.image(3).unwrap(), fake.image(4).unwrap());
        assert!((0..3).all(|class| (0..40).any(|index| fake.label(index) == class)));
    }
}
