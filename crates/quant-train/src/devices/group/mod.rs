//! Processes that train one network together: each sees its own part of every batch, and gradients
//! are averaged.
//!
//! [`Alone`] is one process, [`Threads`] are several in one program, [`Devices`] the same with a
//! device each, and `Mpi` (feature `mpi`) are the ranks of `mpirun`, on one machine or on many.

mod bytes;
mod network;
mod shared_statistics;
#[cfg(test)]
mod tests;
mod threads;

use std::{fmt::Debug, time::Duration};

use burn::tensor::{Tensor, TensorData};

pub use self::{
    bytes::{broadcast, gather_texts},
    network::{mean_gradients, same_network, same_running},
    shared_statistics::SharedStatistics,
    threads::{Devices, Threads},
};
use crate::error::TrainError;

/// The processes, as one of them sees them. All of them call the same methods in the same order.
pub trait Group: Debug + Send + Sync {
    /// Number of this process, from 0. Number 0 writes and reports.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// The sums of `values` over all processes, which have as many each.
    ///
    /// # Errors
    /// [`TrainError::Lost`] where a process does not answer for a minute.
    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError>;

    /// The same in 32 bits.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError>;

    /// The same of a tensor, where the devices can do it among themselves.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_tensor(&self, x: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        let (shape, device) = (x.shape(), x.device());
        let sums = self.sum_f32(x.into_data().iter::<f32>().collect())?;
        Ok(Tensor::from_data(TensorData::new(sums, shape), &device))
    }

    /// Tells the others that this process cannot go on, and why: their sums end with
    /// [`TrainError::Peer`] instead of waiting for it.
    fn fail(&self, message: &str);
}

/// How long a process is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError> {
        Ok(values)
    }

    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        Ok(values)
    }

    fn fail(&self, _: &str) {}
}

/// Tells the group what a process fails with, unless the others know it already.
///
/// # Errors
/// The error that came in.
pub fn tell<T>(group: &dyn Group, result: Result<T, TrainError>) -> Result<T, TrainError> {
    result.inspect_err(|error| {
        use TrainError::{Lost, Peer, Stopped};
        if !matches!(error, Lost { .. } | Peer { .. } | Stopped { .. }) {
            group.fail(&error.to_string());
        }
    })
}
