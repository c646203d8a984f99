//! NiN: network in network (Lin et al. 2014), for CIFAR.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{quantization::Quantization, range::check_data},
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// Network in network: nine convolutions, most of them 1x1, and no linear layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NinConfig {
    /// The number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// The side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// The normalisation. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers. The first and the last convolution stay in full precision unless
    /// `first_last` says otherwise.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

impl NinConfig {
    /// Returns the configuration in full precision.
    pub fn new(classes: usize, input_size: usize) -> Self {
        Self {
            classes,
            input_size,
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
