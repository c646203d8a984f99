//! Batches from worker threads, in an order that (seed, epoch) alone decide.

mod epoch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{dataset::Dataset, error::DataError, random::Random, transform::Pipeline};
pub use epoch::Epoch;

/// How a [`Loader`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch_size: usize,
    /// Whether the images are in random order, as in training, or in the data set's, as in
    /// evaluation.
    pub training: bool,
    /// What becomes of an incomplete last batch in training. Evaluation sees every image.
    pub last_batch: LastBatch,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Batches that may be ready or in work ahead of the one in use, at least 1.
    pub prefetch: usize,
    /// Which batches are loaded, where several processes share the epoch.
    pub share: Share,
}

/// What becomes of the last batch of a training epoch where the images do not fill it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastBatch {
    /// It is left out, so that all batches have the same number of images. An epoch has images/`batch_size` batches,
    /// rounded down.
    #[default]
    Drop,
    /// It is trained on: an epoch has every image, in images/`batch_size` batches, rounded up.
    /// Where several processes share the epoch, batches are handed out in rounds of one for each
    /// process, and a last round that does not reach every process is left out: all processes have
    /// as many batches.
    Keep,
}

/// One process of several that share an epoch: of the epoch's batches, in order, it gets number `rank`, and then
/// every `of`-th.
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

/// A batch of images as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number in the epoch, from 0.
    pub number: usize,
    /// `[images, 3, size, size]`, row-major.
    pub pixels: Vec<u8>,
    /// Label of every image.
    pub labels: Vec<usize>,
    /// Side of the images.
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
}

impl Loader {
    /// Loads `dataset` through `pipeline`, which must fix the size of its squares.
    ///
    /// # Errors
    /// [`DataError::TooSmall`] where no batch would come out; in evaluation, another process may have it.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        pipeline: Pipeline,
        config: LoaderConfig,
    ) -> Result<Self, DataError> {
        let loader = Self { dataset, pipeline, config };
        let alone = Share::ALL == loader.config.share;
        match loader.batches() {
            0 if alone || loader.config.training => Err(DataError::TooSmall {
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

    /// Batches of an epoch, in this process.
    pub fn batches(&self) -> usize {
        let (images, size) = (self.dataset.len(), self.config.batch_size.max(1));
        let Share { rank, of } = self.config.share;
        match (self.config.training, self.config.last_batch) {
            // All processes have as many.
            (true, LastBatch::Drop) => images / size / of,
            (true, LastBatch::Keep) => images.div_ceil(size) / of,
            (false, _) => images.div_ceil(size).saturating_sub(rank).div_ceil(of),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{image::RgbImage, transform::Transform};

    /// Image i is filled with i; those in `broken` do not decode.
    struct Numbers {
        count: usize,
        broken: Vec<usize>,
        classes: Vec<String>,
    }

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.count
        }
        fn classes(&self) -> &[String] {
            &self.classes
        }
        fn label(&self, index: usize) -> usize {
            index
        }
        fn image(&self, index: usize) -> Result<RgbImage, DataError> {
            if self.broken.contains(&index) {
                let (path, reason) = (format!("image {index}"), "broken".into());
                return Err(DataError::Image { path, reason });
            }
            Ok(RgbImage { width: 8, height: 8, pixels: vec![index as u8; 192] })
        }
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    fn loader(count: usize, broken: &[usize], training: bool, workers: usize) -> Loader {
        let dataset = Numbers { count, broken: broken.to_vec(), classes: numbered(count) };
        let pipeline = Pipeline(vec![Transform::PaddedCrop { size: 4, padding: 2 }]);
        let config = LoaderConfig {
            batch_size: 8,
            training,
            last_batch: LastBatch::Drop,
            seed: 3,
            workers,
            prefetch: 3,
            share: Share::ALL,
        };
        Loader::new(Arc::new(dataset), pipeline, config).unwrap()
    }

    fn all(loader: &Loader, epoch: usize, first: usize) -> Vec<Batch> {
        loader.epoch(epoch, first).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn order_and_pixels_do_not_depend_on_the_number_of_workers() {
        assert_eq!(all(&loader(50, &[], true, 1), 2, 0), all(&loader(50, &[], true, 5), 2, 0));
    }

    #[test]
    fn processes_share_the_batches_of_one() {
        for training in [true, false] {
            let shared = |rank| {
                let mut loader = loader(53, &[], training, 2);
                loader.config.share = Share { rank, of: 3 };
                all(&loader, 1, 0)
            };
            let whole = all(&loader(53, &[], training, 2), 1, 0);
            for (rank, batches) in [0, 1, 2].map(|rank| (rank, shared(rank))) {
                let labels: Vec<_> = batches.iter().map(|batch| &batch.labels).collect();
                let own = whole.iter().skip(rank).step_by(3).map(|batch| &batch.labels);
                assert_eq!(labels, own.take(labels.len()).collect::<Vec<_>>());
                // 6 whole batches in training; 7, of which the last has 5 images, in evaluation.
                assert_eq!(labels.len(), if training || rank > 0 { 2 } else { 3 });
            }
        }
    }

    #[test]
    fn a_kept_last_batch_has_the_images_that_are_left() {
        let mut loader = loader(50, &[], true, 2);
        let whole = all(&loader, 1, 0);
        loader.config.last_batch = LastBatch::Keep;
        let kept = all(&loader, 1, 0);
        // 50 images are 6 batches of 8, and 2 more.
        assert_eq!((loader.batches(), kept.len()), (7, 7));
        assert_eq!(kept[..6], whole);
        assert_eq!(kept[6].labels.len(), 2);
        let mut labels: Vec<usize> = kept.into_iter().flat_map(|batch| batch.labels).collect();
        labels.sort_unstable();
        assert_eq!(labels, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn processes_keep_a_last_batch_only_in_a_round_that_reaches_all() {
        let batches = |count: usize, of: usize| -> Vec<Vec<usize>> {
            let of_rank = |rank| {
                let mut loader = loader(count, &[], true, 2);
                loader.config.last_batch = LastBatch::Keep;
                loader.config.share = Share { rank, of };
                all(&loader, 0, 0).iter().map(|batch| batch.labels.len()).collect()
            };
            (0..of).map(of_rank).collect()
        };
        // 45 images are 5 batches of 8 and one of 5: two whole rounds of three processes.
        assert_eq!(batches(45, 3), [[8, 8], [8, 8], [8, 5]]);
        // 53 images are a batch more, which only the first process would get.
        assert_eq!(batches(53, 3), [[8, 8], [8, 8], [8, 8]]);
    }

    #[test]
    fn epochs_differ_and_repeat() {
        let loader = loader(50, &[], true, 2);
        assert_eq!(all(&loader, 0, 0), all(&loader, 0, 0));
        assert_ne!(all(&loader, 0, 0), all(&loader, 1, 0));
    }

    #[test]
    fn an_epoch_resumes_at_any_batch() {
        let loader = loader(50, &[], true, 3);
        assert_eq!(all(&loader, 4, 0)[4..], all(&loader, 4, 4));
    }

    #[test]
    fn evaluation_sees_every_image_once_in_order() {
        let batches = all(&loader(19, &[], false, 3), 0, 0);
        let labels: Vec<usize> = batches.into_iter().flat_map(|batch| batch.labels).collect();
        assert_eq!(labels, (0..19).collect::<Vec<_>>());
    }

    #[test]
    fn a_broken_image_is_named_and_skipped() {
        let batches = all(&loader(200, &[9, 10], false, 2), 0, 0);
        assert_eq!(batches[1].labels, [8, 11, 12, 13, 14, 15]);
        assert_eq!(batches[1].skipped.len(), 2);
        assert!(batches[1].skipped[0].contains("image 9"));
    }

    #[test]
    fn a_batch_without_a_usable_image_is_passed_over() {
        let batches = all(&loader(2000, &[8, 9, 10, 11, 12, 13, 14, 15], false, 2), 0, 0);
        assert_eq!((batches[0].number, batches[1].number), (0, 2));
        assert_eq!(batches[1].skipped.len(), 8, "the next batch tells what was skipped");
    }

    #[test]
    fn images_skipped_behind_the_last_batch_are_told_by_one_without_images() {
        // The last batch has image 800 alone.
        let batches = all(&loader(801, &[3, 800], false, 2), 0, 0);
        let last = batches.last().unwrap();
        assert!(last.labels.is_empty() && last.skipped[0].contains("image 800"), "{last:?}");
        let told: usize = batches.iter().map(|batch| batch.skipped.len()).sum();
        let used: usize = batches.iter().map(|batch| batch.labels.len()).sum();
        assert_eq!((told, used), (2, 799));
    }

    #[test]
    fn more_than_one_broken_image_in_a_hundred_stops() {
        let results: Vec<_> = loader(200, &[9, 10, 90], false, 2).epoch(0, 0).collect();
        let error = results.last().unwrap().as_ref().unwrap_err();
        assert!(matches!(error, DataError::TooManyBroken { broken: 3, total: 200, .. }), "{error}");
    }

    #[test]
    fn a_label_that_no_class_has_stops_the_epoch() {
        let dataset = Numbers { count: 20, broken: Vec::new(), classes: numbered(12) };
        let config = loader(20, &[], false, 2).config;
        let pipeline = Pipeline(vec![Transform::CenterCrop { size: 4 }]);
        let loader = Loader::new(Arc::new(dataset), pipeline, config).unwrap();
        let results: Vec<_> = loader.epoch(0, 0).collect();
        // Images 0 to 7 make the first batch; image 12 is in the second.
        assert_eq!(results.len(), 2);
        let error = results[1].as_ref().unwrap_err();
        let expected = ("image 12", 12, 12);
        assert!(
            matches!(error, DataError::UnknownLabel { image, label, classes }
                if (image.as_str(), *label, *classes) == expected),
            "{error}"
        );
    }

    #[test]
    fn an_epoch_can_be_left_early() {
        let loader = loader(500, &[], true, 2);
        assert!(loader.epoch(0, 0).next().is_some());
    }

    #[test]
    fn a_training_set_smaller_than_a_batch_is_refused() {
        let dataset = Numbers { count: 7, broken: Vec::new(), classes: Vec::new() };
        let config = LoaderConfig {
            batch_size: 8,
            training: true,
            last_batch: LastBatch::Drop,
            seed: 0,
            workers: 1,
            prefetch: 1,
            share: Share::ALL,
        };
        let loader = Loader::new(Arc::new(dataset), Pipeline::default(), config);
        assert!(matches!(loader.err(), Some(DataError::TooSmall { images: 7, batch_size: 8 })));
    }
}
