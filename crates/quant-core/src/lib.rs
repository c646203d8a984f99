//! Quantizers for quantization-aware training on [Burn](https://burn.dev): they train networks
//! whose weights and activations take 1 to 8 bits.
//!
//! A quantizer maps every element of a float tensor to one of a few levels. The forward pass
//! rounds. The backward pass uses a *gradient estimator*, which passes gradients to the quantizer's
//! input and to its own parameters. The terms of the field and the types that stand for them:
//!
//! | term | type |
//! |---|---|
//! | activation, weight and output quantizer | [`Role`] |
//! | levels: 2 to 256, such as 2^bits or 3 | [`Levels`] |
//! | signed and unsigned range | [`Range`] |
//! | granularity: elements that share a clipping value | [`Granularity`] |
//! | gradient estimator at the clamp | [`Estimator`] |
//! | gradient scale of the clipping value | [`GradientScale`] |
//! | calibration: initial values from data | [`Calibration`] |
//!
//! | method | activations, outputs | weights | learns |
//! |---|---|---|---|
//! | [LSQ](methods::lsq) | yes | yes | clipping value |
//! | [LSQ as in its paper](methods::lsq_step) | yes | yes | step size |
//! | [LSQ+](methods::lsq_plus) | yes | no: use LSQ | step size, offset |
//! | [PACT](methods::pact) | yes | no: use DoReFa | clipping value |
//! | [DoReFa](methods::dorefa) | yes | yes | nothing |
//! | [APoT](methods::apot) | yes | yes | clipping value |
//! | [N2UQ](methods::n2uq) | yes | yes | thresholds; clipping value |
//! | [LQ-Nets](methods::lq_nets) | yes | yes | basis, without gradient |
//! | [FATNN](methods::fatnn) | up to 4 levels | ternary | thresholds |
//! | [TTQ](methods::ttq) | no | ternary | positive and negative value |
//! | [XNOR](methods::xnor) | binary | binary | shift and factor, where the options ask for them |
//!
//! [`methods_table`] lists which options each method supports. Configurations are checked against
//! the same facts.
//!
//! This example quantizes a tensor and trains through it:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use quant_core::{Levels, Method, QuantizerConfig, Role, Site};
//!
//! let device = Device::flex().autodiff();
//! let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
//! let quantizer = config.init(&Site::activation("conv1", 3), &device)?;
//!
//! let x = Tensor::<1>::from_floats([-0.5, 0.2, 0.6, 2.0], &device).require_grad();
//! let y = quantizer.forward(x.clone());
//! let third = 1.0 / 3.0;
//! y.clone().into_data().assert_approx_eq::<f32>(
//!     &[0.0, third, 2.0 * third, 1.0].into(),
//!     Default::default(),
//! );
//!
//! let gradients = y.sum().backward();
//! let passed = x.grad(&gradients).map(|grad| grad.into_data());
//! assert_eq!(passed, Some([0.0f32, 1.0, 1.0, 0.0].into()));
//! assert!(quantizer.clipping_value().and_then(|clip| clip.val().grad(&gradients)).is_some());
//! # Ok::<(), quant_core::QuantizerError>(())
//! ```
//!
//! The backends are Cargo features, such as `flex` (CPU) and `cuda`; the README lists them. None is
//! on by default. Turn on the features of this crate, not those of Burn, because the features of
//! this crate also compile its own operations for the backend.

pub mod calibrate;
pub mod capability;
pub mod change;
pub mod check;
pub mod codes;
pub mod config;
pub mod error;
pub mod gradient;
mod gradient_scale;
#[doc(hidden)]
pub mod host;
mod image_scale;
mod learned;
pub mod method;
pub mod methods;
mod normalize;
#[doc(hidden)]
pub mod number;
#[doc(hidden)]
pub mod ops;
pub mod options;
pub mod parameter;
mod per_group;
pub mod qtool;
pub mod quantizer;
pub mod reach;
pub mod reparameterize;
mod scope;
mod serving;
mod settings;
mod signature;
pub mod site;
mod staircase;
mod table;
mod text;
mod training;
mod validate;
mod watch;
mod weight_codes;
mod written;

pub use calibrate::{Calibration, CalibrationInfo, Percentile};
pub use capability::{Capability, LevelSet};
pub use change::{QuantizerChange, Rescaled};
pub use codes::{Affine, Codes, Decoding, Table};
pub use config::{Granularity, Levels, Normalization, QuantizerConfig, Range};
pub use error::QuantizerError;
pub use gradient::{Estimator, GradientScale, GradientScaleRule};
pub use image_scale::ImageScale;
pub use learned::Learned;
pub use method::{FatnnOptions, LqNetsOptions, Method, Role, SignScale, TtqOptions, XnorOptions};
pub use methods::{OwnMethod, register};
pub use options::{Accepted, OptionInfo, OptionValue};
pub use parameter::{Parameter, ParameterKind};
pub use quantizer::Quantizer;
pub use reach::{
    QuantizedWeight, Reached, change_quantizers, name_quantizers, quantized_weights, quantizers,
};
pub use reparameterize::{ReportedWeight, WeightQuantization, WeightReport, quantize_weights};
pub use scope::{TrainingCall, training_call};
pub use signature::Signature;
pub use site::{GroupFallback, Site};
pub use staircase::Staircase;
pub use table::{capability, methods_table};
pub use training::QuantizationLoss;
pub use watch::{
    Probe, Recorded, calibrate, calibrate_in_training, calibrate_where, probe, record,
    training_loss,
};
pub use weight_codes::{WeightCodes, weight_codes};

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
