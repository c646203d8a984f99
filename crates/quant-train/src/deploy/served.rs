//! Evaluation of a network by the served arithmetic, next to the usual evaluation.

use burn::tensor::{Device, Tensor};
use quant_data::Loader;
use quant_export::{Comparison, Lowered, Served, compare};
use quant_nn::Classifier;

use super::tally::Tally;
use crate::{
    batches::upload::{ImageNormalizer, Uploads},
    error::TrainError,
    measure::evaluate::Score,
};

/// The number of images that are compared at once: the inputs of all their quantizers are in memory
/// together.
const IMAGES: usize = 32;

/// The scores of the usual evaluation and of the served arithmetic, and how they differ.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedEvaluation {
    /// The score of the usual evaluation.
    pub usual: Score,
    /// The score of the served arithmetic, which a packed network has too.
    pub served: Score,
    /// The decisions and codes that differ.
    pub comparison: Comparison,
}

/// Evaluates a network in both ways on all images of `loader`. `lowered` is the network after
/// [`lower`](super::lower()) or [`Lowering`](super::Lowering). `skipped` is called with a message
/// for each unusable image.
///
/// # Errors
/// The errors of the loader.
pub fn evaluate_served<M: Classifier>(
    network: &M,
    lowered: &Lowered,
    loader: &Loader,
    normalizer: &ImageNormalizer,
    device: &Device,
    mut skipped: impl FnMut(String),
) -> Result<ServedEvaluation, TrainError> {
    let arithmetic = Served::new(&lowered.model, device)?;
    let (mut usual, mut served) = (Tally::default(), Tally::default());
    let mut comparison = Comparison::default();
    for batch in Uploads::new(loader.epoch(0, 0), device)? {
        let mut batch = batch?;
        usual.skip(batch.skipped.len());
        served.skip(batch.skipped.len());
        batch.skipped.drain(..).for_each(&mut skipped);
        if batch.count == 0 {
            continue;
        }
        let labels: Vec<i64> = batch.labels.clone().into_data().iter().collect();
        let images = normalizer.images(&batch);
        for (index, labels) in labels.chunks(IMAGES).enumerate() {
            let images = images.clone().narrow(0, index * IMAGES, labels.len());
            let compared = compare(network, lowered, &arithmetic, images);
            comparison.add(&compared.comparison);
            add(&mut usual, compared.usual, labels);
            add(&mut served, compared.served, labels);
        }
    }
    Ok(ServedEvaluation { usual: usual.score(), served: served.score(), comparison })
}

/// Adds images by their scores, `[batch, classes]`.
fn add(tally: &mut Tally, scores: Tensor<2>, labels: &[i64]) {
    let classes = scores.dims()[1];
    let scores: Vec<f32> = scores.into_data().iter().collect();
    for (scores, label) in scores.chunks(classes.max(1)).zip(labels) {
        tally.add(scores, *label as usize);
    }
}
