//! Work that is shared among the processors.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// The share of one of several threads.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The number of the thread.
    pub thread: usize,
    /// The number of threads.
    pub threads: usize,
}

impl Share {
    /// Returns whether the item at this place belongs to the thread.
    pub fn has(self, at: usize) -> bool {
        at % self.threads == self.thread
    }
}

/// CubeCL's compilers call themselves recursively, with large frames in builds for debugging.
const STACK: usize = 64 << 20;

/// Calls `work` on as many threads as there are processors, and returns its results.
///
/// # Panics
/// If a thread cannot start, or if one panics.
pub fn on_all<T: Send>(work: impl Fn(Share) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = &work;
    thread::scope(|scope| {
        let start = |thread| {
            let share = Share { thread, threads };
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || work(share)).expect("a thread starts")
        };
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// Tells how much is done, each time that a hundredth of the work is.
pub struct Progress {
    what: &'static str,
    of: usize,
    done: AtomicUsize,
}

impl Progress {
    pub fn new(what: &'static str, of: usize) -> Self {
        Self { what, of, done: AtomicUsize::new(0) }
    }

    /// Counts one more.
    pub fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(self.of.div_ceil(100)) || done == self.of {
            eprintln!("{done} of {} {}", self.of, self.what);
        }
    }
}
