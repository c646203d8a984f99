//! Lowers networks that were trained with `quant-nn` to the form in which `quant-infer` serves
//! them, and evaluates what was lowered.
//!
//! - [`lower`](lower()) makes a [`Model`](quant_infer::model::Model) of a network: each quantizer
//!   of activations becomes thresholds, each quantized weight becomes codes, and the values of both
//!   become integers times scales where they are that. [`Lowering`] does the same layer by layer,
//!   for structures that a program describes itself, also with Burn's own layers.
//! - [`Lowered::explanation`] says what each layer became, and why a layer stayed in floats.
//! - [`raise`](raise()) makes a network of a model whose structure is that of a network of
//!   `quant-nn`, so that it can be trained further.
//! - [`Served`] evaluates a lowered network with Burn's tensors, step by step as the documentation
//!   of [`quant_infer::model`] says. It is slower than the engine of `quant-infer`, shares no code
//!   with it, and must give the same bits.
//! - [`compare`](compare()) compares it with the usual evaluation of the network.
//!
//! The crate does not touch the file system.

mod compare;
mod error;
mod explain;
mod lower;
mod raise;
mod served;

pub use compare::{Compared, Comparison, LayerComparison, compare};
pub use error::LowerError;
pub use explain::{Became, Explained, FileParts};
pub use lower::{Lowered, Lowering, Options, input, lower};
pub use raise::{RaiseError, RaiseOptions, Raised, Statistics, Verified, describe, raise};
pub use served::{NodeCodes, Served};

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
