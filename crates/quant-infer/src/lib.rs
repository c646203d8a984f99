//! Runs packed low-bit networks in integers, without a training framework.
//!
//! A [`Model`](model::Model) is a trained network as data. Its documentation says what each layer
//! computes, to the last rounding. A [`Network`] is a model that was prepared for running: its
//! results are those bits, on every processor and with every instruction set.
//!
//! ```
//! use quant_infer::{
//!     Image, Network,
//!     model::{Input, Model, Node, Op},
//! };
//!
//! // A network that averages each of two channels.
//! let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
//! let model = Model {
//!     name: "average".into(),
//!     producer: "example".into(),
//!     classes: vec!["red".into(), "green".into()],
//!     input: Input { size: [1, 2], shorter_side: None, scale: vec![0.5; 2], shift: vec![0.0; 2] },
//!     nodes: vec![
//!         node("input", Op::Input, vec![]),
//!         node("pool", Op::GlobalPool, vec![0]),
//!     ],
//! };
//! let network = Network::new(&model)?;
//! let scores = network.run(&Image::interleaved(&[0, 8, 2, 8], [1, 2]))?;
//! assert_eq!(scores, [0.5, 4.0]);
//! assert_eq!(network.top_k(&scores, 1), [("green".into(), 4.0)]);
//! # Ok::<(), quant_infer::Error>(())
//! ```
//!
//! A [`Session`] runs many images, without allocating memory for each.
//!
//! # How a network is run
//!
//! Consecutive layers are computed together, for a few positions at a time, so that numbers stay in
//! the cache. A value that only quantizers of convolutions read is never stored as floats: its
//! integers are stored where it is produced, with the padding of the convolution that reads them.
//! Where nothing but comparisons follows a convolution's sum of integers, such as a batch norm, a
//! ReLU and a quantizer, the whole of it becomes a few thresholds for the sum. They are found by
//! bisection, by computing the very layers that they replace, so the codes are equal.
//!
//! # Features
//!
//! The crate is `no_std` with `alloc`. The feature `std`, which is on by default, detects
//! instruction sets when the program runs, and adds threads.

#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "std")]
pub mod bench;
mod engine;
mod error;
pub mod file;
mod grid;
mod image;
pub mod inspect;
pub mod model;
#[doc(hidden)]
pub mod reference;
mod scores;

#[doc(hidden)]
pub use engine::ComparedThresholds;
pub use engine::{Network, Packing, Session};
pub use error::Error;
pub use image::Image;
pub use scores::top_k;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
