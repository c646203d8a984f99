//! Writes packed low-bit networks as ONNX and QONNX files, and reads such files.
//!
//! [`export`] writes a [`Model`](quant_infer::model::Model) in one of three [`Format`]s, and says
//! which layers it had to leave in floats. [`import`] reads a convolutional classifier, with the
//! quantizers of QONNX (`Quant`, `BipolarQuant`, `Trunc`, `MultiThreshold`) or of ONNX
//! (`QuantizeLinear`, `DequantizeLinear`), and makes a model of it.
//!
//! Neither needs a compiler for protobuf, and reading refuses damaged files with an error.

mod error;
mod export;
mod external;
mod import;
mod pixels;
mod proto;
mod tensor;

pub use error::OnnxError;
pub use export::{Exported, Format, export};
pub use external::external_files;
pub use import::{BatchNorm, ImportOptions, Imported, import};
pub use pixels::Pixels;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
