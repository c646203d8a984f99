//! The command lines of the `quant` program and of other programs that train.
//!
//! - [`networks`], [`recipes`], [`data`], [`evaluation`], [`inspect`], [`packed`], [`bench`]
//!   and [`import`] are commands of the `quant` program.
//! - [`train`] is the command line of a training program that brings its own recipe and data.
//! - [`runs`] starts, continues and stops runs for both kinds of programs.
//! - [`machine`] chooses the devices for both kinds of programs, and [`memory`] keeps the memory
//!   that a training step frees for the next one.

#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod evaluation;
#[doc(hidden)]
pub mod import;
#[doc(hidden)]
pub mod inspect;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod memory;
#[doc(hidden)]
pub mod networks;
#[doc(hidden)]
pub mod packed;
#[doc(hidden)]
pub mod recipes;
#[doc(hidden)]
pub mod runs;
mod score;
pub mod train;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
