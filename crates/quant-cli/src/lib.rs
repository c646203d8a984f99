//! The command lines of the `quant` program and of other programs that train.
//!
//! - [`networks`], [`recipes`] and [`data`] are the commands of the `quant` program.
//! - [`train`] is the command line of a training program that brings its own recipe and data.
//! - [`machine`] chooses the devices for both kinds of programs, and [`memory`] keeps the memory
//!   that a training step frees for the next one.

pub mod bench;
pub mod data;
pub mod evaluation;
pub mod import;
pub mod machine;
pub mod memory;
pub mod networks;
pub mod packed;
pub mod recipes;
pub mod train;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
