//! An epoch in progress: worker threads that prepare batches, and an iterator that returns them in
//! order.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::{Batch, Loader, Share};
use crate::{error::DataError, image::RgbImage, random::Random};

impl Loader {
    /// Starts an epoch at batch number `first_batch`, and returns the iterator over its batches.
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
        let started: Vec<_> = (0..self.config.workers.max(1))
            .map(|_| {
                let work = Arc::clone(&work);
                std::thread::Builder::new().spawn(move || work.run())
            })
            .collect();
        // Some of the threads suffice: the batches are the same.
        let (mut workers, mut failed) = (Vec::new(), None);
        for thread in started {
            match thread {
                Ok(thread) => workers.push(thread),
                Err(source) => failed = Some(DataError::NoThread { source }),
            }
        }
        let no_worker = failed.filter(|_| workers.is_empty());
        let is_whole = first_batch == 0;
        Epoch { work, workers, no_worker, is_whole, used: 0, broken: 0, first_broken: Vec::new() }
    }
}

/// The data that the workers of an epoch share.
struct Work {
    loader: Loader,
    order: Vec<usize>,
    epoch: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Number of the next batch that no worker has taken.
    claimed: usize,
    /// Number of the next batch to return.
    next: usize,
    /// Finished batches by their number, or the reason why one cannot be finished.
    ready: BTreeMap<usize, Result<Batch, DataError>>,
    /// Whether the epoch was stopped early.
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

    /// Waits until the prefetch limit allows another batch, and returns its number. `None` if there
    /// are no more batches to load.
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

    /// Returns a batch, in which unusable images are left out.
    ///
    /// # Errors
    /// An error that does not come from an image, but from the process or the system. Images that
    /// are usable must not be left out because of it.
    fn load(&self, number: usize) -> Result<Batch, DataError> {
        let images = self.loader.config.images_of_batch(number, self.order.len());
        let mut batch = Batch::empty(number);
        for index in &self.order[images] {
            // If the decoder panics, the image counts as unusable.
            match catch_unwind(AssertUnwindSafe(|| self.sample(*index))) {
                Ok(Ok(image)) => batch.push(&image, self.loader.dataset.label(*index)),
                Ok(Err(error)) if error.is_of_system() => return Err(error),
                Ok(Err(error)) => batch.skipped.push(error.to_string()),
                Err(_) => {
                    let name = self.loader.dataset.name(*index);
                    batch.skipped.push(format!("{name}: the decoder failed"));
                }
            }
        }
        Ok(batch)
    }

    fn sample(&self, index: usize) -> Result<RgbImage, DataError> {
        let seed = self.loader.config.seed;
        let mut random = Random::new(&[seed, 1, self.epoch as u64, index as u64]);
        let image = self.loader.dataset.image(index)?;
        let fits = check_length(&image)
            .and_then(|()| self.loader.pipeline.check_image(image.width, image.height));
        fits.map_err(|reason| DataError::Image { path: self.loader.dataset.name(index), reason })?;
        Ok(self.loader.pipeline.apply(image, &mut random))
    }
}

/// Checks that an image, which may come from a data set of a program's own, has the bytes of all
/// its pixels, and at least one pixel.
fn check_length(image: &RgbImage) -> Result<(), String> {
    let RgbImage { width, height, pixels } = image;
    let bytes = width.checked_mul(*height).and_then(|count| count.checked_mul(3));
    match bytes {
        Some(0) => Err("it has no pixel".into()),
        Some(bytes) if bytes == pixels.len() => Ok(()),
        _ => Err(format!(
            "{width} x {height} pixels take 3 bytes each, and there are {} bytes",
            pixels.len()
        )),
    }
}

impl Batch {
    /// Appends an image in planar form: all red bytes, then green, then blue.
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

/// Number of unusable images that an error lists.
const NAMED: usize = 5;

/// An epoch in progress. Dropping it stops its workers.
pub struct Epoch {
    work: Arc<Work>,
    workers: Vec<JoinHandle<()>>,
    /// Why no worker could be started, if none was.
    no_worker: Option<DataError>,
    /// Whether the epoch was started at its first batch.
    is_whole: bool,
    /// Number of images returned so far.
    used: usize,
    /// Number of unusable images so far.
    broken: usize,
    /// The first unusable images, with the reasons.
    first_broken: Vec<String>,
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    /// Returns the next batch, which lists its unusable images. The batch has no images if none of
    /// its images is usable, or if the remaining images belong to other processes.
    ///
    /// # Errors
    /// [`DataError::TooManyBroken`] as soon as more images are unusable than `max_broken` allows;
    /// [`DataError::Io`] for an image that could not be read for want of memory or of open files;
    /// [`DataError::NoThread`];
    /// [`DataError::NoneUsable`] after the last batch if no image was usable. The epoch ends after
    /// an error.
    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.next_batch() {
            Some(Ok(batch)) => batch,
            Some(Err(error)) => {
                self.give_up();
                return Some(Err(error));
            }
            None => return self.none_usable().map(Err),
        };
        self.used += batch.labels.len();
        self.broken += batch.skipped.len();
        let room = NAMED.saturating_sub(self.first_broken.len());
        self.first_broken.extend(batch.skipped.iter().take(room).cloned());
        let loader = &self.work.loader;
        let total = loader.images_of_this_process();
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
    /// Returns the error for an epoch that has images but no usable one. If several processes share
    /// the epoch, there is no such error, because others may have usable images.
    fn none_usable(&mut self) -> Option<DataError> {
        let alone = self.work.loader.config.share == Share::ALL;
        let is_so = alone && self.is_whole && self.used == 0 && self.broken > 0;
        is_so.then(|| {
            let (images, first) = self.give_up();
            DataError::NoneUsable { images, first }
        })
    }

    /// Ends the epoch. Returns the number of unusable images, and the first of them.
    fn give_up(&mut self) -> (usize, Vec<String>) {
        self.stop();
        (std::mem::take(&mut self.broken), std::mem::take(&mut self.first_broken))
    }

    fn next_batch(&mut self) -> Option<Result<Batch, DataError>> {
        if let Some(error) = self.no_worker.take() {
            return Some(Err(error));
        }
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
            // The result of a worker that panicked is not needed.
            let _ = worker.join();
        }
    }
}
