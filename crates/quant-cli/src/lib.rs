//! Command lines: [`networks`], [`recipes`] and [`data`] are what the `quant` program tells,
//! [`train`] a training program for those that bring a recipe and data of their own, [`machine`]
//! the devices that both work on.

pub mod data;
pub mod machine;
pub mod memory;
pub mod networks;
pub mod recipes;
pub mod train;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
