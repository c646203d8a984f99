//! Evaluation: loss, top-1 and top-5 accuracy.

use burn::{
    nn::loss::CrossEntropyLossConfig,
    tensor::{Device, Int, Tensor},
};
use quant_data::{DataError, Loader};
use quant_nn::Classifier;
use serde::{Deserialize, Serialize};

use crate::{
    batches::upload::{ImageNormalizer, Uploads},
    devices::group::Group,
    error::TrainError,
    output::plural,
};

/// The score of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean cross-entropy over the images.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub loss: f64,
    /// The share of images whose best class is right, in percent.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub top1: f64,
    /// The share of images whose right class is among the five best, in percent.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub top5: f64,
    /// The number of images in the score.
    pub images: usize,
    /// The number of images that could not be used, which are not in the score.
    #[serde(default)]
    pub skipped: usize,
}

/// Returns text such as " on 990 images, 10 skipped", or an empty text if no image was skipped.
pub(crate) fn skipped_note(score: &Score) -> String {
    match score.skipped {
        0 => String::new(),
        skipped => {
            format!(" on {}, {skipped} skipped", plural(score.images, "image", "images"))
        }
    }
}

impl Score {
    /// Returns the score over the images of all processes of a group, from the score of this
    /// process.
    ///
    /// # Errors
    /// The errors of [`Group::sum`]; [`TrainError::Data`] if no process had a usable image.
    pub fn of_all(self, group: &dyn Group) -> Result<Self, TrainError> {
        if group.size() == 1 {
            return Ok(self);
        }
        let images = self.images as f64;
        let skipped = self.skipped as f64;
        // Right answers are whole numbers, so that the sum is that of a single process.
        let right = |percent: f64| (percent * images / 100.0).round();
        let sums = [self.loss * images, right(self.top1), right(self.top5), images, skipped];
        let sums = group.sum(sums.to_vec())?;
        let (images, skipped) = (sums[3], sums[4] as usize);
        if images == 0.0 && skipped > 0 {
            return Err(DataError::NoneUsable { images: skipped, first: Vec::new() }.into());
        }
        let percent = 100.0 / images.max(1.0);
        let (loss, top1, top5) = (sums[0] / images.max(1.0), sums[1] * percent, sums[2] * percent);
        Ok(Self { loss, top1, top5, images: images as usize, skipped })
    }
}

/// Returns the number of images whose label is among the `best` classes with the highest scores, on
/// the device. The scores are `[batch, classes]`, and the labels `[batch]`.
pub(crate) fn right_answers(
    scores: Tensor<2>,
    labels: Tensor<1, Int>,
    best: usize,
) -> Tensor<1, Int> {
    let [_, classes] = scores.dims();
    let best = best.min(classes);
    let (_, indices) = scores.topk_with_indices(best, 1);
    indices.equal(labels.unsqueeze_dim::<2>(1).repeat_dim(1, best)).int().sum()
}

/// Evaluates a network on all images of `loader`. `skipped` is called with a message for each
/// unusable image.
///
/// # Errors
/// The errors of the loader.
pub fn evaluate<M: Classifier>(
    network: &M,
    loader: &Loader,
    normalizer: &ImageNormalizer,
    device: &Device,
    mut skipped: impl FnMut(String),
) -> Result<Score, TrainError> {
    let cross_entropy = CrossEntropyLossConfig::new().init(device);
    // The weights do not change during the evaluation, so they are quantized once.
    let network = network.folded();
    let mut score = Score::default();
    for batch in Uploads::new(loader.epoch(0, 0), device)? {
        let mut batch = batch?;
        score.skipped += batch.skipped.len();
        batch.skipped.drain(..).for_each(&mut skipped);
        if batch.count == 0 {
            continue;
        }
        let scores = network.forward(normalizer.images(&batch));
        let (count, labels) = (batch.count, batch.labels);
        let loss: f64 = cross_entropy.forward(scores.clone(), labels.clone()).into_scalar();
        let hits = |best| -> f64 {
            right_answers(scores.clone(), labels.clone(), best).into_scalar::<i64>() as f64
        };
        score.loss += loss * count as f64;
        score.top1 += hits(1);
        score.top5 += hits(5);
        score.images += count;
    }
    let images = score.images.max(1) as f64;
    score.loss /= images;
    score.top1 *= 100.0 / images;
    score.top5 *= 100.0 / images;
    Ok(score)
}
