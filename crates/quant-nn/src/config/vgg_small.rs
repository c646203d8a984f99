//! VGG-small, the CIFAR network of low-bit papers: six 3x3 convolutions and a linear layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{quantization::Quantization, range::check_data},
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// The order of convolution (c), norm (b) and activation (a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlainOrder {
    /// Convolution, norm, activation.
    #[default]
    Cba,
    /// Norm, activation, convolution.
    Bac,
    /// Activation, norm, convolution.
    Abc,
}

impl PlainOrder {
    /// Returns the letters of the order.
    pub(crate) fn letters(self) -> &'static str {
        match self {
            PlainOrder::Cba => "cba",
            PlainOrder::Bac => "bac",
            PlainOrder::Abc => "abc",
        }
    }
}

/// VGG-small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VggSmallConfig {
    /// The number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// The side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// The order of a layer's convolution (c), norm (b) and activation (a). Choose the order of the
    /// paper for binary networks.
    #[serde(default)]
    pub order: PlainOrder,
    /// The normalisation. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers. The first convolution and the linear layer stay in full precision unless
    /// `first_last` says otherwise.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl VggSmallConfig {
    /// Returns the configuration in full precision.
    pub fn new(classes: usize, input_size: usize) -> Self {
        Self {
            classes,
            input_size,
            order: Default::default(),
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
        check_data(self.classes, self.input_size)?;
        self.quantization.validate()
    }
}
