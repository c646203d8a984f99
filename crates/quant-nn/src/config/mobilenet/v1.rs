//! MobileNet v1 (Howard et al. 2017).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{cbas, full, validate};
use crate::{
    config::{
        quantization::Quantization,
        range::check_field,
        resnet::{Order, PointReshape},
    },
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// What each skip connection spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MobileSkip {
    /// No skips.
    #[default]
    None,
    /// Each convolution. The skip is average-pooled if the convolution has a stride. Where channels
    /// double, the channels of the skip are repeated.
    Layer,
    /// Each block, with a branch as in residual networks.
    Block,
}

/// MobileNet v1: a convolution and 13 blocks of a depthwise and a point-wise convolution.
///
/// Fields that a description leaves out have the defaults of [`new`](Self::new). Recipes have the
/// same fields in `[model]`, except classes, input size and quantizers; their page is printed from
/// these comments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV1Config {
    /// The number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// The side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// The factor on all numbers of channels. Use numbers below 1 for quick trials and small
    /// devices.
    #[serde(default = "full")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// Whether the first convolution has stride 2. By default it has stride 2 for images of more
    /// than 32 pixels, and stride 1 for smaller ones.
    pub strided_stem: Option<bool>,
    /// The order of a block's convolutions (c), norms (b), activations (a) and skips (s): `cbas`,
    /// `cbsa` or `bacs`. Choose `bacs` for binary networks.
    #[serde(default = "cbas")]
    pub order: Order,
    /// What each skip connection spans. Choose `layer` for binary networks.
    #[serde(default)]
    pub skip: MobileSkip,
    /// With the skip `layer`: whether channels double by two point-wise convolutions side by side,
    /// each with its own skip, instead of one. Set it for ReActNet.
    #[serde(default)]
    pub double_by_concatenation: bool,
    /// Whether depthwise convolutions are replaced by ordinary 3x3 convolutions, which cost far
    /// more.
    #[serde(default)]
    pub normal_3x3: bool,
    /// Whether depthwise convolutions stay in full precision. They have few weights. Set it if the
    /// score falls too much.
    #[serde(default)]
    pub real_depthwise: bool,
    /// Whether point-wise convolutions stay in full precision. They have most of the weights. Set
    /// it to measure what quantizing the others costs.
    #[serde(default)]
    pub real_pointwise: bool,
    /// Whether the norm and the activation of the stem are moved in front of the last pooling. Set
    /// it with the order `bacs`, whose blocks begin with a norm.
    #[serde(default)]
    pub pre_norm: bool,
    /// Point-wise-and-reshape blocks that replace the depthwise convolutions. By default the
    /// depthwise convolutions stay.
    pub point_reshape: Option<PointReshape>,
    /// The normalisation inside blocks. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Which layers are quantized, and by which quantizers.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl MobileNetV1Config {
    /// Returns the configuration with full precision and full width, without skips.
    pub fn new(classes: usize, input_size: usize) -> Self {
        Self {
            classes,
            input_size,
            width_alpha: full(),
            strided_stem: None,
            order: cbas(),
            skip: Default::default(),
            double_by_concatenation: Default::default(),
            normal_3x3: Default::default(),
            real_depthwise: Default::default(),
            real_pointwise: Default::default(),
            pre_norm: Default::default(),
            point_reshape: None,
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
        let has = matches!(self.order, Order::Cbas | Order::Cbsa | Order::Bacs);
        check_field(has, "order", self.order.letters(), "cbas, cbsa or bacs")?;
        validate([self.classes, self.input_size], self.width_alpha, &self.quantization)
    }
}
