//! Devices by their names, and several devices or processes that train together.

pub mod device;
pub mod group;
#[cfg(feature = "mpi")]
pub mod mpi;
