//! Image classification data for training on [Burn](https://burn.dev): data sets, augmentation, and
//! a loader whose order of images depends on the seed and the epoch alone.
//!
//! - [`dataset`]: data sets in ImageNet's folder layout, tar shards, CIFAR's and MNIST's files, a
//!   rendered set that needs no download, and random noise.
//! - [`transform`]: random resized crop, flip, resize, centre crop, padded crop, changes of colour,
//!   TrivialAugment.
//! - `download` (feature `download`): downloads of CIFAR's archives and of sets in MNIST's format.
//! - [`loader`]: worker threads that prefetch a bounded number of batches, as bytes.
//!
//! Images are RGB bytes throughout. The device converts them to normalised floats, one batch at a
//! time.

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
