#![doc = include_str!("../README.md")]

mod walk;

#[cfg(feature = "cube")]
pub mod batch_norm;
#[cfg(feature = "cube")]
mod block;
#[cfg(feature = "cube")]
mod launch;
#[cfg(feature = "cube")]
pub mod quantize;
#[cfg(feature = "cube")]
pub mod update;

#[cfg(feature = "cube")]
#[doc(hidden)]
pub use block::PathLaunch;
#[cfg(feature = "cube")]
pub use launch::{Groups, Operand, Output};
#[cfg(feature = "cube")]
#[doc(hidden)]
pub use launch::{Lanes, Limits, Sums, Tiling};
pub use walk::Walk;
