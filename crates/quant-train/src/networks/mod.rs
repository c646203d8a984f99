//! The networks of a run: they come from its recipe, from files of weights, or from a program that
//! makes them.

mod named;
mod pytorch;
pub(crate) mod source;
pub mod weights;

pub use source::{Build, BuildError};
