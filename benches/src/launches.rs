//! Counts and times what a task launches on a GPU.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use burn_cubecl::cubecl::logging::{
    Duration, LaunchObservation, LaunchObserver, TimingMethod, TimingRequest,
};

/// The launches of one kernel.
#[derive(Clone, Copy, Default)]
pub(crate) struct Launches {
    /// How many there were.
    pub(crate) count: usize,
    /// How long they took together.
    pub(crate) seconds: f64,
}

/// The launches of each kernel, by its name.
type Kernels = BTreeMap<&'static str, Launches>;

#[derive(Default)]
struct Observer(Mutex<Kernels>);

impl Observer {
    fn change(&self, kernel: &'static str, change: impl FnOnce(&mut Launches)) {
        let mut kernels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(kernels.entry(kernel).or_default());
    }
}

impl LaunchObserver for Observer {
    fn launched(&self, kernel: &'static str) {
        self.change(kernel, |launches| launches.count += 1);
    }

    fn timing(&self) -> TimingRequest {
        TimingRequest::Resolved
    }

    fn timed(&self, kernel: &'static str, duration: Duration, _method: TimingMethod) {
        self.change(kernel, |launches| launches.seconds += duration.as_secs_f64());
    }
}

/// Performs a task, and returns what it launched. Its kernels run one at a time.
pub(crate) fn launches<E>(task: impl FnOnce() -> Result<(), E>) -> Result<Kernels, E> {
    let observer = Arc::new(Observer::default());
    let watching = LaunchObservation::new(observer.clone());
    let result = task();
    drop(watching);
    let kernels = mem::take(&mut *observer.0.lock().unwrap_or_else(PoisonError::into_inner));
    result.map(|()| kernels)
}

/// Returns whether a kernel is one of this project.
pub(crate) fn is_ours(kernel: &str) -> bool {
    kernel.contains("quant_cube")
}

/// Returns the sum of these launches.
pub(crate) fn sum<'a>(kernels: impl IntoIterator<Item = &'a Launches>) -> Launches {
    kernels.into_iter().fold(Launches::default(), |sum, kernel| Launches {
        count: sum.count + kernel.count,
        seconds: sum.seconds + kernel.seconds,
    })
}

/// Returns the last part of the path that names a kernel, without its parameters.
pub(crate) fn short(kernel: &str) -> &str {
    let path = kernel.split('<').next().unwrap_or(kernel);
    path.rsplit("::").next().unwrap_or(path)
}
