//! Loads batches in worker threads, in an order that depends on the seed and the epoch alone.

mod config;
mod epoch;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{dataset::Dataset, error::DataError, random::Random, transform::Pipeline};
pub use config::{LastBatch, LoaderConfig, Share};
pub use epoch::Epoch;

/// A batch of images as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of the batch in the epoch, from 0.
    pub number: usize,
    /// Bytes of shape `[images, 3, size, size]`, row-major.
    pub pixels: Vec<u8>,
    /// Label of every image. Empty if no image of the batch is usable, or if several processes
    /// share the epoch and no image was left for this one.
    pub labels: Vec<usize>,
    /// Side of the images in pixels; 0 if there are no images.
    pub size: usize,
    /// The unusable images, with the reasons.
    pub skipped: Vec<String>,
}

impl Batch {
    /// Creates a batch without images.
    fn empty(number: usize) -> Self {
        Self { number, pixels: Vec::new(), labels: Vec::new(), size: 0, skipped: Vec::new() }
    }
}

/// Loads a data set in batches.
///
/// ```
/// use std::sync::Arc;
///
/// use quant_data::{Fake, LastBatch, Loader, LoaderConfig, Pipeline, Share};
///
/// let config = LoaderConfig {
///     batch_size: 4,
///     training: false,
///     last_batch: LastBatch::Keep,
///     seed: 1,
///     workers: 1,
///     prefetch: 1,
///     share: Share::ALL,
///     max_broken: LoaderConfig::MAX_BROKEN,
/// };
/// let images = Arc::new(Fake::new(10, 40, 3, 1));
/// let loader = Loader::new(images, Pipeline::imagenet_eval(32), config)?;
/// let batches = loader.epoch(0, 0).collect::<Result<Vec<_>, _>>()?;
/// let counts: Vec<usize> = batches.iter().map(|batch| batch.labels.len()).collect();
/// assert_eq!(counts, [4, 4, 2]);
/// # Ok::<(), quant_data::DataError>(())
/// ```
#[derive(Clone)]
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    pipeline: Pipeline,
    config: LoaderConfig,
    size: usize,
}

impl Loader {
    /// Creates a loader that prepares the images of `dataset` with `pipeline`, which must fix the
    /// size of the squares it produces.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a number of `config` or `pipeline` that is out of range;
    /// [`DataError::NoOutputSize`] if the images would have different sizes;
    /// [`DataError::UnknownLabel`] for a label without a class; [`DataError::TooSmall`] if an epoch
    /// would have no batch.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        pipeline: Pipeline,
        config: LoaderConfig,
    ) -> Result<Self, DataError> {
        config.validate()?;
        pipeline.validate()?;
        check_labels(dataset.as_ref())?;
        let size = pipeline.output_size().ok_or(DataError::NoOutputSize)?;
        let loader = Self { dataset, pipeline, config, size };
        match loader.batches() {
            0 => Err(DataError::TooSmall {
                images: loader.dataset.len(),
                batch_size: loader.config.batch_size,
                processes: loader.config.share.of,
            }),
            _ => Ok(loader),
        }
    }

    /// Returns the configuration that the loader was made with.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// Returns the data set.
    pub fn dataset(&self) -> &dyn Dataset {
        self.dataset.as_ref()
    }

    /// Returns the side of the images, in pixels.
    pub fn image_size(&self) -> usize {
        self.size
    }

    /// Returns the number of batches per epoch, which is the same in every process that shares it.
    pub fn batches(&self) -> usize {
        let (images, config) = (self.dataset.len(), &self.config);
        let of_all_processes = config.batch_size.saturating_mul(config.share.of);
        match (config.training, config.last_batch) {
            (true, LastBatch::Drop) => images / of_all_processes,
            (true, LastBatch::Keep) | (false, _) => images.div_ceil(of_all_processes),
        }
    }

    /// Returns the number of images that this process reads in an epoch. The share of unusable
    /// images that are accepted is a share of this number.
    fn images_of_this_process(&self) -> usize {
        // Only the last batch may have fewer images.
        let Some(full) = self.batches().checked_sub(1) else { return 0 };
        full * self.config.batch_size + self.config.images_of_batch(full, self.dataset.len()).len()
    }

    /// Returns the first batch of epoch 0 that has images, or the error that comes before it.
    pub fn first_images(&self) -> Option<Result<Batch, DataError>> {
        let is_empty = |batch: &Batch| batch.labels.is_empty();
        self.epoch(0, 0).find(|batch| !batch.as_ref().is_ok_and(is_empty))
    }

    /// Returns the indices of an epoch's images in order.
    pub fn order(&self, epoch: usize) -> Vec<usize> {
        if !self.config.training {
            return (0..self.dataset.len()).collect();
        }
        let mut random = Random::new(&[self.config.seed, 0, epoch as u64]);
        let blocks = self.dataset.blocks();
        if blocks.is_empty() {
            let mut order: Vec<usize> = (0..self.dataset.len()).collect();
            random.shuffle(&mut order);
            return order;
        }
        let mut blocks = blocks.to_vec();
        random.shuffle(&mut blocks);
        let mut order = Vec::with_capacity(self.dataset.len());
        for neighbours in blocks.chunks(NEIGHBOURS) {
            let start = order.len();
            order.extend(neighbours.iter().cloned().flatten());
            random.shuffle(&mut order[start..]);
        }
        order
    }
}

/// Number of neighbouring blocks whose images are shuffled together.
const NEIGHBOURS: usize = 16;

/// Checks the label of every image. With a label that is out of range, a loss would read the score
/// of another class, or memory outside its buffer.
fn check_labels(dataset: &dyn Dataset) -> Result<(), DataError> {
    let classes = dataset.classes().len();
    let mut labels = (0..dataset.len()).map(|index| (index, dataset.label(index)));
    match labels.find(|(_, label)| *label >= classes) {
        None => Ok(()),
        Some((index, label)) => {
            Err(DataError::UnknownLabel { image: dataset.name(index), label, classes })
        }
    }
}
