//! MobileNet v2 (Sandler et al. 2018).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{cbas, full, validate};
use crate::{
    config::{quantization::Quantization, range::check_field, resnet::Order},
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// MobileNet v2: inverted residuals.
///
/// Fields that a description leaves out have the defaults of [`new`](Self::new). Recipes have the
/// same fields in `[model]`, except classes, input size and quantizers; their page is printed from
/// these comments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV2Config {
    /// The number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// The side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// The factor on all numbers of channels. It acts on the channels of the last convolution only
    /// if it is above 1. Use numbers below 1 for quick trials and small devices.
    #[serde(default = "full")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// Whether images are as small as CIFAR's, so that the second stage has stride 1. By default
    /// images of up to 32 pixels are.
    pub small_images: Option<bool>,
    /// The order of a block's convolutions (c), norms (b), activations (a) and skips (s): `cbas` or
    /// `bacs`. Choose `bacs` for pre-activation.
    #[serde(default = "cbas")]
    pub order: Order,
    /// The normalisation inside blocks. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function inside blocks. Choose `relu6` for weights that were trained with it.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Which layers are quantized, and by which quantizers.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl MobileNetV2Config {
    /// Returns the configuration with full precision and full width.
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

    /// Checks the values that the types of the fields do not exclude. [`init`](Self::init) calls
    /// it.
    ///
    /// # Errors
    /// [`NetworkError::Field`], which names the field, and the errors of the quantizers.
    pub fn validate(&self) -> Result<(), NetworkError> {
        let has = matches!(self.order, Order::Cbas | Order::Bacs);
        check_field(has, "order", self.order.letters(), "cbas or bacs")?;
        validate([self.classes, self.input_size], self.width_alpha, &self.quantization)
    }
}
