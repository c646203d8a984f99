//! Data sets: images with labels, read one at a time from any thread.

pub mod cifar;
pub mod fake;
pub mod idx;
pub mod image_folder;
pub mod shapes;
pub mod shards;

use std::ops::Range;

use crate::{error::DataError, image::RgbImage};

/// Labelled images.
pub trait Dataset: Send + Sync {
    /// How many images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes; a label is an index into them.
    fn classes(&self) -> &[String];

    /// Label of image `index`.
    fn label(&self, index: usize) -> usize;

    /// Image `index`.
    ///
    /// # Errors
    /// Where it cannot be read or decoded.
    fn image(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Ranges of images that are stored together, if reading them in order is faster: random orders then
    /// shuffle the blocks, and the images within several neighbouring ones.
    fn blocks(&self) -> &[Range<usize>] {
        &[]
    }
}
