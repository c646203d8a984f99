//! The configuration of a loader.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// The configuration of a [`Loader`](super::Loader).
///
/// ```
/// use quant_data::{LastBatch, LoaderConfig, Share};
///
/// let training = LoaderConfig {
///     batch_size: 64,
///     training: true,
///     last_batch: LastBatch::Drop,
///     seed: 1,
///     workers: 4,
///     prefetch: 8,
///     share: Share::ALL, // all batches, and not those of one of several processes
///     max_broken: LoaderConfig::MAX_BROKEN,
/// };
/// let evaluation = LoaderConfig { training: false, ..training.clone() };
/// assert!(training.training && !evaluation.training);
/// ```
///
/// [`Loader`](super::Loader) has an example that loads images.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Number of images per batch, at least 1.
    pub batch_size: usize,
    /// Whether the images are in random order, as in training, or in the data set's order, as in
    /// evaluation.
    pub training: bool,
    /// What to do with an incomplete last batch in training. In evaluation, every image is loaded.
    pub last_batch: LastBatch,
    /// Seed of the order and the augmentation.
    pub seed: u64,
    /// Number of worker threads, at most [`MOST_WORKERS`](Self::MOST_WORKERS); 0 counts as 1.
    pub workers: usize,
    /// Number of batches that may be finished or in work ahead of the one in use, at most
    /// [`MOST_PREFETCH`](Self::MOST_PREFETCH); 0 counts as 1.
    pub prefetch: usize,
    /// Which batches to load if several processes share the epoch.
    pub share: Share,
    /// Share of the images that may be unusable, 0 to 1. When more are, the epoch ends with an
    /// error. For any share above 0, up to [`ALWAYS_ACCEPTED`](Self::ALWAYS_ACCEPTED) images may be
    /// unusable, because in a small data set the share may be less than one image. If the share is
    /// 0, every image must be usable.
    ///
    /// Processes that share an epoch do not know about each other's images. Each applies the share
    /// to the images that it reads, which are 1/`of` of the data set, so all of them together
    /// accept no larger share than one process would. If the unusable images happen to be in the
    /// batches of one process, that process may end the epoch although the share in the whole data
    /// set is lower.
    pub max_broken: f64,
}

impl LoaderConfig {
    /// The default of [`max_broken`](Self::max_broken): one image in a hundred.
    pub const MAX_BROKEN: f64 = 0.01;

    /// Number of unusable images that are accepted in a data set of any size.
    pub const ALWAYS_ACCEPTED: usize = 5;

    /// Largest number of worker threads.
    pub const MOST_WORKERS: usize = 1024;

    /// Largest number of batches to prefetch.
    pub const MOST_PREFETCH: usize = 1024;

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// [`DataError::Setting`] for the first number that is not.
    pub(super) fn validate(&self) -> Result<(), DataError> {
        let Share { rank, of } = self.share;
        let up_to = |most: usize| format!("{most} at most");
        let settings = [
            (self.batch_size > 0, "batch_size", "0".to_owned(), "at least 1".to_owned()),
            (
                self.workers <= Self::MOST_WORKERS,
                "workers",
                self.workers.to_string(),
                up_to(Self::MOST_WORKERS),
            ),
            (
                self.prefetch <= Self::MOST_PREFETCH,
                "prefetch",
                self.prefetch.to_string(),
                up_to(Self::MOST_PREFETCH),
            ),
            (
                rank < of,
                "share",
                format!("process {rank} of {of}"),
                "at least 1 process, numbered from 0".to_owned(),
            ),
            (
                (0.0..=1.0).contains(&self.max_broken),
                "max_broken",
                self.max_broken.to_string(),
                "a share, 0 to 1".to_owned(),
            ),
        ];
        match settings.into_iter().find(|(good, ..)| !good) {
            None => Ok(()),
            Some((_, field, value, accepted)) => Err(DataError::Setting { field, value, accepted }),
        }
    }

    /// Returns the places of this process's images of a batch in the order of an epoch with
    /// `images` images. In the last batch, some of several processes may have none.
    pub(super) fn images_of_batch(&self, number: usize, images: usize) -> Range<usize> {
        let Share { rank, of } = self.share;
        let start = (number * of + rank).saturating_mul(self.batch_size).min(images);
        start..start.saturating_add(self.batch_size).min(images)
    }

    /// Returns how many of `images` images may be unusable.
    pub(super) fn accepted(&self, images: usize) -> usize {
        if self.max_broken == 0.0 {
            return 0;
        }
        // Rounding makes a product such as 0.29 * 100 slightly too small.
        let share = (self.max_broken * images as f64 + 1e-6).floor() as usize;
        share.max(Self::ALWAYS_ACCEPTED)
    }
}

/// What to do with the last batch of a training epoch if there are not enough images to fill it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastBatch {
    /// The batch is left out, so that all batches have the same number of images. If several
    /// processes share the epoch, the last round of batches is left out unless it is full for every
    /// process. An epoch has images/(`batch_size`·processes) batches, rounded down.
    #[default]
    Drop,
    /// The batch is used, so that an epoch has every image, in images/(`batch_size`·processes)
    /// batches, rounded up. If several processes share the epoch, the last batch of some may have
    /// fewer images, or none.
    Keep,
}

/// The share of one process in an epoch: it gets batch number `rank` of the epoch, and then every
/// `of`-th batch.
///
/// All processes have the same number of batches, with the same numbers, in training and in
/// evaluation. Together, the batches with number n of all processes have the images of batch n of a
/// single process with a batch size that is `of` times as large. A process for which no image is
/// left gets a batch without images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes, at least 1.
    pub of: usize,
}

impl Share {
    /// The share of a single process: all batches.
    pub const ALL: Self = Self { rank: 0, of: 1 };
}
