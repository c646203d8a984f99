//! Evaluation of a packed network by the engine that serves it.

use std::thread;

use quant_data::{Batch, Loader};
use quant_infer::{Error, Image, Network};

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
        let part = batch.labels.len().div_ceil(threads.max(1)).max(1);
        let parts = thread::scope(|scope| {
            let starts = (0..batch.labels.len()).step_by(part);
            let batch = &batch;
            let threads: Vec<_> = starts
                .map(|start| scope.spawn(move || evaluate_part(network, batch, start, part)))
                .collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Result<Vec<Tally>, Error>>()
        })?;
        parts.into_iter().for_each(|part| tally.merge(part));
    }
    Ok(tally.score())
}

/// Evaluates `count` images of a batch, from the image `start` on.
fn evaluate_part(
    network: &Network,
    batch: &Batch,
    start: usize,
    count: usize,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut session = network.session();
    let pixels = batch.pixels.len() / batch.labels.len();
    let images = batch.pixels.chunks_exact(pixels).zip(&batch.labels);
    for (bytes, label) in images.skip(start).take(count) {
        let scores = session.run(&Image::planar(bytes, [batch.size; 2]))?;
        tally.add(scores, *label);
    }
    Ok(tally)
}
