//! An epoch in progress: worker threads, and batches handed out in order.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::{Batch, Loader, Share};
use crate::{error::DataError, image::RgbImage, random::Random};

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
        let is_whole = first_batch == 0;
        Epoch { work, workers, is_whole, used: 0, broken: 0, first_broken: Vec::new() }
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
    /// Finished batches.
    ready: BTreeMap<usize, Batch>,
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

    fn load(&self, number: usize) -> Batch {
        let (size, images) = (self.loader.config.batch_size, self.order.len());
        let Share { rank, of } = self.loader.config.share;
        // The last round of several processes may leave some without images.
        let start = (number * of + rank).saturating_mul(size).min(images);
        let end = start.saturating_add(size).min(images);
        let mut batch = Batch::empty(number);
        for index in &self.order[start..end] {
            // A decoder's panic is a broken image like another.
            match catch_unwind(AssertUnwindSafe(|| self.sample(*index))) {
                Ok(Ok(image)) => batch.push(&image, self.loader.dataset.label(*index)),
                Ok(Err(error)) => batch.skipped.push(error.to_string()),
                Err(_) => {
                    let name = self.loader.dataset.name(*index);
                    batch.skipped.push(format!("{name}: the decoder failed"));
                }
            }
        }
        batch
    }

    fn sample(&self, index: usize) -> Result<RgbImage, DataError> {
        let seed = self.loader.config.seed;
        let mut random = Random::new(&[seed, 1, self.epoch as u64, index as u64]);
        let image = self.loader.dataset.image(index)?;
        let fits = self.loader.pipeline.check_image(image.width, image.height);
        fits.map_err(|reason| DataError::Image { path: self.loader.dataset.name(index), reason })?;
        Ok(self.loader.pipeline.apply(image, &mut random))
    }
}

impl Batch {
    /// Appends an image, whose planes of colours follow one another.
    fn push(&mut self, image: &RgbImage, label: usize) {
        self.size = image.width;
        let plane = image.width * image.height;
        let start = self.pixels.len();
        self.pixels.resize(start + 3 * plane, 0);
        let (red, rest) = self.pixels[start..].split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let planes = red.iter_mut().zip(green).zip(blue);
        for (((r, g), b), rgb) in planes.zip(image.pixels.as_chunks::<3>().0) {
            (*r, *g, *b) = (rgb[0], rgb[1], rgb[2]);
        }
        self.labels.push(label);
    }
}

/// Unusable images that an error names.
const NAMED: usize = 5;

/// An epoch in progress. Dropping it stops its workers.
pub struct Epoch {
    work: Arc<Work>,
    workers: Vec<JoinHandle<()>>,
    /// Whether it began with the first batch.
    is_whole: bool,
    /// Images handed out.
    used: usize,
    /// Images that could not be used.
    broken: usize,
    /// The first of them, and why.
    first_broken: Vec<String>,
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    /// The next batch, with the images of it that could not be used. It has no images where none of
    /// them could be, or where other processes have the last ones.
    ///
    /// [`DataError::TooManyBroken`] once more images than `max_broken` allows are unusable, and
    /// [`DataError::NoneUsable`] behind the last batch where all of them were; the epoch then ends.
    fn next(&mut self) -> Option<Self::Item> {
        let Some(batch) = self.next_batch() else {
            return self.none_usable().map(Err);
        };
        self.used += batch.labels.len();
        self.broken += batch.skipped.len();
        let room = NAMED.saturating_sub(self.first_broken.len());
        self.first_broken.extend(batch.skipped.iter().take(room).cloned());
        let loader = &self.work.loader;
        let total = loader.images_of_a_process();
        let accepted = loader.config.accepted(total);
        if self.broken <= accepted {
            return Some(Ok(batch));
        }
        let max_broken = loader.config.max_broken;
        let (broken, first) = self.give_up();
        Some(Err(DataError::TooManyBroken { broken, total, accepted, max_broken, first }))
    }
}

impl Epoch {
    /// The error of an epoch that has images, of which none is usable. One process of several does
    /// not judge: others may have usable ones.
    fn none_usable(&mut self) -> Option<DataError> {
        let alone = self.work.loader.config.share == Share::ALL;
        let is_so = alone && self.is_whole && self.used == 0 && self.broken > 0;
        is_so.then(|| {
            let (images, first) = self.give_up();
            DataError::NoneUsable { images, first }
        })
    }

    /// Ends the epoch; how many images could not be used, and the first of them.
    fn give_up(&mut self) -> (usize, Vec<String>) {
        self.stop();
        (std::mem::take(&mut self.broken), std::mem::take(&mut self.first_broken))
    }

    fn next_batch(&mut self) -> Option<Batch> {
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
