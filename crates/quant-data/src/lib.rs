//! Image classification data for training on [Burn](https://burn.dev): data sets, augmentation, and
//! a loader whose order is a function of (seed, epoch) alone.
//!
//! - [`dataset`]: folders in ImageNet's layout, tar shards, CIFAR's binary files, a rendered set that needs no
//!   download, and noise.
//! - [`transform`]: random resized crop, flip, resize, centre crop, padded crop, changes of colour,
//!   TrivialAugment.
//! - `download` (feature `download`): CIFAR's archives.
//! - [`loader`]: worker threads, bounded prefetch, batches of bytes.
//!
//! Images are RGB bytes throughout; normalising to floats is left to the device, a batch at a time.

pub mod dataset;
#[cfg(feature = "download")]
pub mod download;
pub mod error;
mod files;
pub mod image;
pub mod loader;
pub mod names;
mod parallel;
pub mod random;
pub mod transform;

pub use dataset::{
    Dataset, Fingerprint, cifar::Cifar, fake::Fake, idx::Idx, image_folder::ImageFolder,
    shards::Shards,
};
pub use error::DataError;
pub use image::{RgbImage, Truncated};
pub use loader::{Batch, Epoch, LastBatch, Loader, LoaderConfig, Share};
pub use transform::{Pipeline, Transform};

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
