//! Processes that train one network together. Each of them has its own part of every batch, and the
//! gradients are averaged.
//!
//! [`Alone`] is a single process. [`Threads`] are several threads of one program. [`Devices`] are
//! threads with one device each. `Mpi` (feature `mpi`) are the ranks of `mpirun`, on one machine or
//! on several.

mod bytes;
mod network;
mod shared_statistics;
#[cfg(test)]
mod tests;
mod threads;

use std::{fmt::Debug, time::Duration};

use burn::tensor::{Tensor, TensorData};

pub use self::threads::{Devices, Threads};
pub(crate) use self::{
    bytes::{broadcast, gather_texts},
    network::{mean_gradients, same_network, same_running},
    shared_statistics::SharedStatistics,
};
use crate::error::TrainError;

/// The group of processes, as one of them uses it. All processes have to call the same methods in
/// the same order.
pub trait Group: Debug + Send + Sync {
    /// Returns the number of this process, from 0. Number 0 writes files and reports.
    fn rank(&self) -> usize;

    /// Returns the number of processes.
    fn size(&self) -> usize;

    /// Returns the sums of `values` over all processes, which have the same number of values.
    ///
    /// # Errors
    /// [`TrainError::Lost`] where a process does not answer for a minute; [`TrainError::Peer`]
    /// where a process has failed.
    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError>;

    /// Returns the sums of values in 32 bits.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError>;

    /// Returns the sums of a tensor. The devices may compute them without the host.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_tensor(&self, x: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        let (shape, device) = (x.shape(), x.device());
        let sums = self.sum_f32(x.into_data().iter::<f32>().collect())?;
        Ok(Tensor::from_data(TensorData::new(sums, shape), &device))
    }

    /// Tells the other processes that this process cannot continue, and why. Their sums then end
    /// with [`TrainError::Peer`] instead of waiting for this process.
    fn fail(&self, message: &str);
}

/// The time that a process is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A group of a single process.
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

/// Tells the group the error of a process, unless the other processes already know it.
///
/// # Errors
/// The error of `result`.
pub fn tell<T>(group: &dyn Group, result: Result<T, TrainError>) -> Result<T, TrainError> {
    result.inspect_err(|error| {
        use TrainError::{Lost, Peer, Stopped};
        if !matches!(error, Lost { .. } | Peer { .. } | Stopped { .. }) {
            group.fail(&error.to_string());
        }
    })
}
