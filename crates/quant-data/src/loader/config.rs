//! What a loader is asked to do.

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// How a [`Loader`](super::Loader) works.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch, at least 1.
    pub batch_size: usize,
    /// Whether the images are in random order, as in training, or in the data set's, as in
    /// evaluation.
    pub training: bool,
    /// What becomes of an incomplete last batch in training. Evaluation sees every image.
    pub last_batch: LastBatch,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Worker threads, at most [`MOST_WORKERS`](Self::MOST_WORKERS); 0 counts as 1.
    pub workers: usize,
    /// Batches that may be ready or in work ahead of the one in use, at most
    /// [`MOST_PREFETCH`](Self::MOST_PREFETCH); 0 counts as 1.
    pub prefetch: usize,
    /// Which batches are loaded, where several processes share the epoch.
    pub share: Share,
    /// Share of the images that may be unusable, 0 to 1: an epoch ends with an error once more are.
    /// Whatever the share is, [`ALWAYS_ACCEPTED`](Self::ALWAYS_ACCEPTED) images may be, as a share
    /// of a small data set is less than an image; only where it is 0 none may be.
    ///
    /// Processes that share an epoch do not know of each other's images. Each judges the ones that
    /// it reads, which are 1/`of` of the data set, so that all of them together accept no larger
    /// share than one process would. Where unusable images gather in the batches of one process,
    /// it may end the epoch although the share of the whole data set is lower.
    pub max_broken: f64,
}

impl LoaderConfig {
    /// The usual [`max_broken`](Self::max_broken): one image in a hundred.
    pub const MAX_BROKEN: f64 = 0.01;

    /// Unusable images that are accepted in a data set of any size.
    pub const ALWAYS_ACCEPTED: usize = 5;

    /// Worker threads at most.
    pub const MOST_WORKERS: usize = 1024;

    /// Batches ahead at most.
    pub const MOST_PREFETCH: usize = 1024;

    /// Checks every number.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub(super) fn check(&self) -> Result<(), DataError> {
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

    /// How many of so many images may be unusable.
    pub(super) fn accepted(&self, images: usize) -> usize {
        if self.max_broken == 0.0 {
            return 0;
        }
        // A product such as 0.29 * 100 comes out a little too low.
        let share = (self.max_broken * images as f64 + 1e-6).floor() as usize;
        share.max(Self::ALWAYS_ACCEPTED)
    }
}

/// What becomes of the last batch of a training epoch where the images do not fill it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastBatch {
    /// It is left out, so that all batches have the same number of images. Where several processes
    /// share the epoch, so is the last round that does not fill the batch of every process. An
    /// epoch has images/(`batch_size`·processes) batches, rounded down.
    #[default]
    Drop,
    /// It is trained on: an epoch has every image, in images/(`batch_size`·processes) batches,
    /// rounded up. Where several processes share the epoch, the last batch of some may have fewer
    /// images, or none.
    Keep,
}

/// One process of several that share an epoch: of the epoch's batches, in order, it gets number
/// `rank`, and then every `of`-th.
///
/// All processes see as many batches, with the same numbers, in training and in evaluation: batch n
/// of all of them together has the images of batch n of a single process whose batches are `of`
/// times as large. A process for which no image is left gets a batch without images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Processes, at least 1.
    pub of: usize,
}

impl Share {
    /// One process has all.
    pub const ALL: Self = Self { rank: 0, of: 1 };
}
