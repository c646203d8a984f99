//! Statistics of batch norms over the images of all processes.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use quant_nn::SumOverProcesses;

use super::Group;
use crate::error::TrainError;

/// The batch statistics over a group. Layers cannot return errors, so an error is stored, and
/// [`check`](Self::check) returns it.
#[derive(Debug, Clone)]
pub(crate) struct SharedStatistics {
    group: Arc<dyn Group>,
    failure: Arc<Mutex<Option<TrainError>>>,
    /// Whether this process has no images and adds nothing to the sums.
    absent: Arc<AtomicBool>,
}

impl SharedStatistics {
    /// Returns the statistics over `group`.
    pub(crate) fn new(group: Arc<dyn Group>) -> Self {
        Self { group, failure: Arc::default(), absent: Arc::default() }
    }

    /// Sets whether the next computations of this process are without images. The process then
    /// takes part in the sums and adds nothing to them.
    pub(crate) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
    }

    /// Returns the function with which the layers compute sums.
    pub(crate) fn sums(&self) -> SumOverProcesses {
        let shared = self.clone();
        SumOverProcesses::new(move |mut values| {
            if shared.absent.load(Ordering::Relaxed) {
                values.fill(0.0);
            }
            let mut failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
            // After a failure, no process is waited for again.
            if failure.is_some() {
                return values;
            }
            shared.group.sum_f32(values.clone()).unwrap_or_else(|error| {
                *failure = Some(error);
                values
            })
        })
    }

    /// Checks that no sum has failed since the last check.
    ///
    /// # Errors
    /// The first failure, if there was one.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}
