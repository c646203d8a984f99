//! An epoch in progress: worker threads, and batches handed out in order.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::{Batch, Loader, Share};
use crate::{error::DataError, random::Random};

impl Loader {
    /// The batches of an epoch, beginning with number `first_batch`.
    pub fn epoch(&self, epoch: usize, first_batch: usize) -> Epoch {
        let work = Arc::new(Work {
            loader: self.clone(),
            order: self.order(epoch),
            epoch,
            state: Mutex::new(State {
                claimed: first_batch,
                next: first_batch,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let workers = (0..self.config.workers.max(1))
            .map(|_| {
                let work = Arc::clone(&work);
                std::thread::spawn(move || work.run())
            })
            .collect();
        Epoch { work, workers, broken: 0, first_broken: Vec::new(), skipped: Vec::new() }
    }
}

/// What the workers of an epoch share.
struct Work {
    loader: Loader,
    order: Vec<usize>,
    epoch: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The next batch that no worker has taken.
    claimed: usize,
    /// The next batch that is to be handed out.
    next: usize,
    /// Finished batches, and what makes an epoch fail at once.
    ready: BTreeMap<usize, Result<Batch, DataError>>,
    /// Whether the epoch was given up.
    stopped: bool,
}

impl Work {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(number) = self.claim() {
            let batch = self.load(number);
            self.state().ready.insert(number, batch);
            self.changed.notify_all();
        }
    }

    /// A batch to work on, once there is room for it.
    fn claim(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.stopped || state.claimed >= self.loader.batches() {
                return None;
            }
            if state.claimed < state.next + self.loader.config.prefetch.max(1) {
                state.claimed += 1;
                return Some(state.claimed - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn load(&self, number: usize) -> Result<Batch, DataError> {
        let size = self.loader.config.batch_size;
        let Share { rank, of } = self.loader.config.share;
        let start = (number * of + rank) * size;
        let indices = &self.order[start..(start + size).min(self.order.len())];
        let mut batch = Batch::empty(number);
        for index in indices {
            let label = self.label(*index)?;
            // A decoder's panic is a broken image like another.
            let image = catch_unwind(AssertUnwindSafe(|| self.sample(*index, &mut batch)));
            match image {
                Ok(Ok(())) => batch.labels.push(label),
                Ok(Err(error)) => batch.skipped.push(error.to_string()),
                Err(_) => batch.skipped.push(format!("image {index}: the decoder failed")),
            }
        }
        Ok(batch)
    }

    /// The label of an image, checked here for every data set: a loss would take another class's
    /// score, or memory that is not its own, for a label out of range.
    fn label(&self, index: usize) -> Result<usize, DataError> {
        let dataset = &self.loader.dataset;
        let (label, classes) = (dataset.label(index), dataset.classes().len());
        match label < classes {
            true => Ok(label),
            false => Err(DataError::UnknownLabel { image: dataset.name(index), label, classes }),
        }
    }

    fn sample(&self, index: usize, batch: &mut Batch) -> Result<(), DataError> {
        let seed = self.loader.config.seed;
        let mut random = Random::new(&[seed, 1, self.epoch as u64, index as u64]);
        let image = self.loader.dataset.image(index)?;
        let image = self.loader.pipeline.apply(image, &mut random);
        batch.size = image.width;
        let plane = image.width * image.height;
        let start = batch.pixels.len();
        batch.pixels.resize(start + 3 * plane, 0);
        let (red, rest) = batch.pixels[start..].split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let planes = red.iter_mut().zip(green).zip(blue);
        for (((r, g), b), rgb) in planes.zip(image.pixels.as_chunks::<3>().0) {
            (*r, *g, *b) = (rgb[0], rgb[1], rgb[2]);
        }
        Ok(())
    }
}

/// Unusable images that an error names.
const NAMED: usize = 5;

/// An epoch in progress. Dropping it stops its workers.
pub struct Epoch {
    work: Arc<Work>,
    workers: Vec<JoinHandle<()>>,
    broken: usize,
    /// The first of them, and why.
    first_broken: Vec<String>,
    /// Images of batches that had no other, and why they could not be used.
    skipped: Vec<String>,
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    /// The next batch that has an image, with the images that were skipped since the one before; at
    /// the end, a batch without images where some were skipped after the last. An error once more than
    /// 1 % of the data set's images have proven unusable, and for a label that none of the classes has.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut batch = match self.next_batch() {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    self.stop();
                    return Some(Err(error));
                }
                None if self.skipped.is_empty() => return None,
                None => {
                    let skipped = std::mem::take(&mut self.skipped);
                    return Some(Ok(Batch { skipped, ..Batch::empty(self.work.loader.batches()) }));
                }
            };
            self.broken += batch.skipped.len();
            let room = NAMED.saturating_sub(self.first_broken.len());
            self.first_broken.extend(batch.skipped.iter().take(room).cloned());
            self.skipped.append(&mut batch.skipped);
            let (broken, total) = (self.broken, self.work.loader.dataset.len());
            if broken * 100 > total {
                self.stop();
                self.skipped.clear();
                let first = std::mem::take(&mut self.first_broken);
                return Some(Err(DataError::TooManyBroken { broken, total, first }));
            }
            if !batch.labels.is_empty() {
                batch.skipped = std::mem::take(&mut self.skipped);
                return Some(Ok(batch));
            }
        }
    }
}

impl Epoch {
    fn next_batch(&mut self) -> Option<Result<Batch, DataError>> {
        let mut state = self.work.state();
        loop {
            if state.stopped || state.next >= self.work.loader.batches() {
                return None;
            }
            let next = state.next;
            if let Some(batch) = state.ready.remove(&next) {
                state.next += 1;
                self.work.changed.notify_all();
                return Some(batch);
            }
            state = self.work.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        self.work.state().stopped = true;
        self.work.changed.notify_all();
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to say.
            let _ = worker.join();
        }
    }
}
