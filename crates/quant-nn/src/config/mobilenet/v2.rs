//! MobileNet v2 (Sandler et al. 2018).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{cbas, check, full};
use crate::{
    config::{quantization::Quantization, range::check_field, resnet::Order},
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// MobileNet v2: inverted residuals.
///
/// What a description leaves out has the defaults of [`new`](Self::new). The documentation of the
/// fields is that of `[model]` in a recipe too, which has all of them but classes, input size and
/// quantizers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV2Config {
    /// Number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// Side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// Factor on all numbers of channels, on the last ones only if it is above 1. Numbers below 1
    /// are for quick trials and small devices.
    #[serde(default = "full")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// Whether images are as small as CIFAR's: the second stage then has stride 1. By default those
    /// of up to 32 pixels are.
    pub small_images: Option<bool>,
    /// In which order a block's convolutions (c), norms (b), activations (a) and skips (s) stand:
    /// `cbas` or `bacs`. Choose `bacs` for pre-activation.
    #[serde(default = "cbas")]
    pub order: Order,
    /// The normalisation inside of blocks. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function inside of blocks. Choose `relu6` for weights that were trained with
    /// it.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl MobileNetV2Config {
    /// Full precision and full width.
    pub fn new(classes: usize, input_size: usize) -> Self {
        Self {
            classes,
            input_size,
            width_alpha: full(),
            small_images: None,
            order: cbas(),
            norm: Default::default(),
            activation: Default::default(),
            quantization: Default::default(),
        }
    }

    /// Checks the fields that types leave open. [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`NetworkError::Field`] naming the field, and the quantizers' own errors.
    pub fn validate(&self) -> Result<(), NetworkError> {
        let has = matches!(self.order, Order::Cbas | Order::Bacs);
        check_field(has, "order", self.order.letters(), "cbas or bacs")?;
        check([self.classes, self.input_size], self.width_alpha, &self.quantization)
    }
}
