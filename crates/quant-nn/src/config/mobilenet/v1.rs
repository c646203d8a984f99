//! MobileNet v1 (Howard et al. 2017).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{cbas, check, full};
use crate::{
    config::{
        quantization::Quantization,
        range::check_field,
        resnet::{Order, PointReshape},
    },
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// What skips of a MobileNet v1 lead over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MobileSkip {
    /// There are none.
    #[default]
    None,
    /// Each convolution: average-pooled, where channels double twice over.
    Layer,
    /// Each block, with a branch as in residual networks.
    Block,
}

/// MobileNet v1: a convolution and 13 blocks of a depthwise and a point-wise convolution.
///
/// What a description leaves out has the defaults of [`new`](Self::new). The documentation of the
/// fields is that of `[model]` in a recipe too, which has all of them but classes, input size and
/// quantizers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV1Config {
    /// Number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// Side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// Factor on all numbers of channels. Numbers below 1 are for quick trials and small devices.
    #[serde(default = "full")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// Whether the first convolution has stride 2. By default it has for images of more than 32
    /// pixels, and stride 1 for smaller ones.
    pub strided_stem: Option<bool>,
    /// In which order a block's convolutions (c), norms (b), activations (a) and skips (s) stand:
    /// `cbas`, `cbsa` or `bacs`. Choose `bacs` for binary networks.
    #[serde(default = "cbas")]
    pub order: Order,
    /// What skips lead over. Choose `layer` for binary networks.
    #[serde(default)]
    pub skip: MobileSkip,
    /// With the skip `layer`: whether channels double by two point-wise convolutions side by side,
    /// each with a skip of its own, instead of one. Set it for ReActNet.
    #[serde(default)]
    pub double_by_concatenation: bool,
    /// Whether depthwise convolutions are ordinary 3x3 ones, which cost far more.
    #[serde(default)]
    pub normal_3x3: bool,
    /// Whether depthwise convolutions stay in full precision. They have few weights: set it where
    /// the score falls too much.
    #[serde(default)]
    pub real_depthwise: bool,
    /// Whether point-wise convolutions stay in full precision. They have most of the weights: set
    /// it to see what quantizing the others costs.
    #[serde(default)]
    pub real_pointwise: bool,
    /// Whether the stem has no norm and activation, which then stand before the last pooling. Set
    /// it with the order `bacs`, whose blocks begin with a norm.
    #[serde(default)]
    pub pre_norm: bool,
    /// Point-wise-and-reshape in place of the depthwise convolutions. By default these stay.
    pub point_reshape: Option<PointReshape>,
    /// The normalisation inside of blocks. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl MobileNetV1Config {
    /// Full precision and full width, without skips.
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

    /// Checks the fields that types leave open. [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`NetworkError::Field`] naming the field, and the quantizers' own errors.
    pub fn validate(&self) -> Result<(), NetworkError> {
        let has = matches!(self.order, Order::Cbas | Order::Cbsa | Order::Bacs);
        check_field(has, "order", self.order.letters(), "cbas, cbsa or bacs")?;
        check([self.classes, self.input_size], self.width_alpha, &self.quantization)
    }
}
