//! Evaluation of a packed network by the engine that serves it.

use quant_data::Loader;
use quant_infer::{Image, Network};

use super::tally::Tally;
use crate::{error::TrainError, measure::evaluate::Score};

/// Evaluates a packed network on all images of `loader`, on this many threads. The scores of an
/// image do not depend on the number of threads. `skipped` is called with a message for each
/// unusable image.
///
/// # Errors
/// The errors of the loader, and [`TrainError::Packed`] where the network does not take the images.
pub fn evaluate_packed(
    network: &Network,
    loader: &Loader,
    threads: usize,
    mut skipped: impl FnMut(String),
) -> Result<Score, TrainError> {
    let mut tally = Tally::default();
    for batch in loader.epoch(0, 0) {
        let mut batch = batch?;
        tally.skip(batch.skipped.len());
        batch.skipped.drain(..).for_each(&mut skipped);
        let pixels = batch.pixels.len() / batch.labels.len().max(1);
        let images = batch.pixels.chunks_exact(pixels.max(1));
        let images: Vec<Image<'_>> =
            images.map(|bytes| Image::planar(bytes, [batch.size; 2])).collect();
        let scores = network.run_batch(&images, threads)?;
        scores.iter().zip(&batch.labels).for_each(|(scores, label)| tally.add(scores, *label));
    }
    Ok(tally.score())
}
