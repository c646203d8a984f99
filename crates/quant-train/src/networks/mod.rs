//! Where a run's networks come from: its recipe, files of weights, or a program that brings its
//! own.

mod named;
pub(crate) mod source;
pub mod weights;

pub use source::{Build, BuildError};
