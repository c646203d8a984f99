//! Quantizers for quantization-aware training on [Burn](https://burn.dev): learn networks whose
//! weights and activations take 1 to 8 bits.
//!
//! A quantizer maps a float tensor to one of a few levels. Forward, it rounds; backward, it lets
//! gradients through by a *gradient estimator*, to its input and to its own parameters. Its words:
//!
//! | word | type |
//! |---|---|
//! | activation, weight and output quantizer | [`Role`] |
//! | levels: 2^bits, or 3 | [`Levels`] |
//! | signed and unsigned range | [`Range`] |
//! | granularity: elements that share a clipping value | [`Granularity`] |
//! | gradient estimator at the clamp | [`Estimator`] |
//! | gradient scale of the clipping value | [`GradientScale`] |
//! | calibration: initial values from data | [`Calibration`] |
//!
//! | method | activations | weights | outputs | learns |
//! |---|---|---|---|---|
//! | [LSQ](methods::lsq) | yes | yes | yes | clipping value per group |
//! | [DoReFa](methods::dorefa) | yes | yes | yes | nothing |
//! | [PACT](methods::pact) | yes | as DoReFa | yes | clipping value |
//! | [XNOR](methods::xnor) | yes | yes | yes | factor per group, if asked |
//! | [FATNN](methods::fatnn) | yes | ternary | yes | thresholds per group |
//! | [LQ-Nets](methods::lq_nets) | yes | yes | yes | basis per group, without gradient |
//!
//! Quantize a tensor and train through it:
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
//! Backends are features: `flex` (CPU), `wgpu`, `vulkan`, `metal`, `cuda`, `rocm`. None is on by
//! default. Turn them on here rather than on Burn: the operations of this crate need to know.

pub mod calibrate;
pub mod codes;
pub mod config;
pub mod error;
pub mod gradient;
pub mod methods;
mod normalize;
pub mod ops;
pub mod qtool;
pub mod quantizer;
pub mod reparameterize;
pub mod site;

pub use calibrate::{Calibration, CalibrationInfo};
pub use codes::{Affine, Codes, Decoding, Table};
pub use config::{
    Granularity, Levels, Method, Normalization, QuantizerConfig, Range, Role, SignScale,
};
pub use error::QuantizerError;
pub use gradient::{Estimator, GradientScale, GradientScaleRule};
pub use quantizer::Quantizer;
pub use reparameterize::quantize_weights;
pub use site::Site;
