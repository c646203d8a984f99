#![doc = include_str!("../README.md")]

mod walk;

#[cfg(feature = "cube")]
pub mod basis;
#[cfg(feature = "cube")]
pub mod batch_norm;
#[cfg(feature = "cube")]
mod block;
#[cfg(feature = "cube")]
mod launch;
#[cfg(feature = "cube")]
mod path;
#[cfg(feature = "cube")]
pub mod quantize;
#[cfg(feature = "cube")]
pub mod update;

#[cfg(feature = "cube")]
pub use launch::{Groups, Operand, Output};
#[cfg(feature = "cube")]
#[doc(hidden)]
pub use launch::{Lanes, Limits, Sums, Tiling};
#[cfg(feature = "cube")]
#[doc(hidden)]
pub use path::PathLaunch;
pub use walk::Walk;
