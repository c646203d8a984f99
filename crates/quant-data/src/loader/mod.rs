//! Batches from worker threads, in an order that (seed, epoch) alone decide.

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
    /// Its number in the epoch, from 0.
    pub number: usize,
    /// `[images, 3, size, size]`, row-major.
    pub pixels: Vec<u8>,
    /// Label of every image. There are none where no image of the batch is usable, or where the
    /// images ran out before this process of several had its batch.
    pub labels: Vec<usize>,
    /// Side of the images; 0 without images.
    pub size: usize,
    /// Images that could not be used, and why.
    pub skipped: Vec<String>,
}

impl Batch {
    /// A batch without images.
    fn empty(number: usize) -> Self {
        Self { number, pixels: Vec::new(), labels: Vec::new(), size: 0, skipped: Vec::new() }
    }
}

/// Loads a data set batch by batch.
#[derive(Clone)]
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    pipeline: Pipeline,
    config: LoaderConfig,
    size: usize,
}

impl Loader {
    /// Loads `dataset` through `pipeline`, which must fix the size of its squares.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a number of `config` or of `pipeline` out of its range;
    /// [`DataError::NoOutputSize`] where images of several sizes would come out;
    /// [`DataError::UnknownLabel`] for a label that none of the classes has;
    /// [`DataError::TooSmall`] where no batch would come out.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        pipeline: Pipeline,
        config: LoaderConfig,
    ) -> Result<Self, DataError> {
        config.check()?;
        pipeline.check()?;
        check_labels(dataset.as_ref())?;
        let size = pipeline.output_size().ok_or(DataError::NoOutputSize)?;
        let loader = Self { dataset, pipeline, config, size };
        match loader.batches() {
            0 => Err(DataError::TooSmall {
                images: loader.dataset.len(),
                batch_size: loader.config.batch_size,
            }),
            _ => Ok(loader),
        }
    }

    /// How it works.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// The data set.
    pub fn dataset(&self) -> &dyn Dataset {
        self.dataset.as_ref()
    }

    /// Side of the images, in pixels.
    pub fn image_size(&self) -> usize {
        self.size
    }

    /// Batches of an epoch: as many in every process that shares it.
    pub fn batches(&self) -> usize {
        let (images, config) = (self.dataset.len(), &self.config);
        let of_all_processes = config.batch_size.saturating_mul(config.share.of);
        match (config.training, config.last_batch) {
            (true, LastBatch::Drop) => images / of_all_processes,
            (true, LastBatch::Keep) | (false, _) => images.div_ceil(of_all_processes),
        }
    }

    /// Images that one process reads in an epoch, rounded up: the share of unusable images is one
    /// of these.
    fn images_of_a_process(&self) -> usize {
        self.dataset.len().div_ceil(self.config.share.of)
    }

    /// The first batch of the first epoch that has images, or the error that comes before it.
    pub fn first_images(&self) -> Option<Result<Batch, DataError>> {
        let is_empty = |batch: &Batch| batch.labels.is_empty();
        self.epoch(0, 0).find(|batch| !batch.as_ref().is_ok_and(is_empty))
    }

    /// The indices of an epoch's images, in order.
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

/// Blocks whose images are shuffled among each other.
const NEIGHBOURS: usize = 16;

/// Checks the label of every image: a loss would take another class's score, or memory that is not
/// its own, for a label out of range.
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
