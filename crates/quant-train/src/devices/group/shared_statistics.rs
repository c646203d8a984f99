//! Statistics of batch norms over the images of all processes.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use quant_nn::SumOverProcesses;

use super::Group;
use crate::error::TrainError;

/// Batch statistics over a group. Layers cannot fail: what fails is kept, and told by
/// [`check`](Self::check).
#[derive(Debug, Clone)]
pub struct SharedStatistics {
    group: Arc<dyn Group>,
    failure: Arc<Mutex<Option<TrainError>>>,
    /// Whether this process has no images, and adds nothing.
    absent: Arc<AtomicBool>,
}

impl SharedStatistics {
    /// Statistics over `group`.
    pub fn new(group: Arc<dyn Group>) -> Self {
        Self { group, failure: Arc::default(), absent: Arc::default() }
    }

    /// Whether what this process computes next is of no images: it then takes part in the sums, and
    /// adds nothing to them.
    pub fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
    }

    /// What the layers sum by.
    pub fn sums(&self) -> SumOverProcesses {
        let shared = self.clone();
        SumOverProcesses::new(move |mut values| {
            if shared.absent.load(Ordering::Relaxed) {
                values.fill(0.0);
            }
            let mut failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
            // Once one is lost, nobody is waited for again.
            if failure.is_some() {
                return values;
            }
            shared.group.sum_f32(values.clone()).unwrap_or_else(|error| {
                *failure = Some(error);
                values
            })
        })
    }

    /// # Errors
    /// The first failure, if there was one.
    pub fn check(&self) -> Result<(), TrainError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}
