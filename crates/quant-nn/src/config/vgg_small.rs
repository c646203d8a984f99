//! VGG-small, the CIFAR network of low-bit papers: six 3x3 convolutions and a linear layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{quantization::Quantization, range::check_data},
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// In which order convolution (c), norm (b) and activation (a) stand.
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
    /// The letters.
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
    /// Number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// Side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// In which order convolution (c), norm (b) and activation (a) of a layer stand. Choose what
    /// the paper says for binary networks.
    #[serde(default)]
    pub order: PlainOrder,
    /// The normalisation. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers; the first convolution and the linear layer stay in full precision unless
    /// `first_last` says otherwise.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl VggSmallConfig {
    /// In full precision.
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

    /// Checks the fields that types leave open. [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`NetworkError::Field`] naming the field, and the quantizers' own errors.
    pub fn validate(&self) -> Result<(), NetworkError> {
        check_data(self.classes, self.input_size)?;
        self.quantization.validate()
    }
}
