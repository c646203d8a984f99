//! Image classification data for training on [Burn](https://burn.dev): data sets, augmentation, and
//! a loader whose order is a function of (seed, epoch) alone.
//!
//! - [`dataset`]: folders in ImageNet's layout, CIFAR's binary files, and a rendered set that needs
//!   no download.
//! - [`transform`]: random resized crop, flip, resize, centre crop, padded crop.
//! - [`loader`]: worker threads, bounded prefetch, batches of bytes.
//!
//! Images are RGB bytes throughout; normalising to floats is left to the device, a batch at a time.

pub mod dataset;
pub mod error;
pub mod image;
pub mod loader;
pub mod random;
pub mod transform;

pub use dataset::{Dataset, cifar::Cifar, image_folder::ImageFolder};
pub use error::DataError;
pub use image::RgbImage;
pub use loader::{Batch, Loader, LoaderConfig};
pub use transform::{Pipeline, Transform};
