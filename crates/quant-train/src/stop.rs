//! A request that a run stops.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A request that a run stops. The run finishes its current step, saves its state, and ends with
/// [`TrainError::Stopped`](crate::TrainError::Stopped). Clones are requests to the same run.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Requests the stop. Returns whether it had been requested before.
    pub fn ask(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }

    /// Returns whether the stop has been requested.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
