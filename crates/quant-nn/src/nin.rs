//! NiN: network in network (Lin et al. 2014), for CIFAR.

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    builder::{Builder, Conv},
    error::NetworkError,
    graph::Op,
    layers::{activation::ActivationKind, norm::NormKind},
    network::{Network, NetworkConfig, check_data},
    resnet::Quantization,
};

/// Network in network: nine convolutions, most of them 1x1, and no linear layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NinConfig {
    /// Number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// Side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// The normalisation. Choose `group` for batches of a few images.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers; the first and the last convolution stay in full precision unless `first_last`.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

/// Channels and kernel of the convolutions between the first and the last, and what follows them.
const LAYERS: [(usize, usize, Option<Op>); 7] = [
    (160, 1, None),
    (96, 1, Some(Op::MaxPool { kernel: 3, stride: 2, padding: 1, ceil: false })),
    (192, 5, None),
    (192, 1, None),
    (192, 1, Some(Op::AveragePool(2))),
    (192, 3, None),
    (192, 1, None),
];

impl NinConfig {
    /// In full precision.
    pub fn new(classes: usize, input_size: usize) -> Self {
        Self {
            classes,
            input_size,
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

    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the quantizers' errors.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let outermost = |conv: Conv| Conv { quantized: self.quantization.first_last, ..conv };
        let mut x = b.conv(b.input(), "conv1", outermost(Conv::new(192, 5, 1)))?;
        x = b.norm(x, "bn1")?;
        x = b.activation(x, "relu1");
        for (index, (channels, kernel, then)) in LAYERS.into_iter().enumerate() {
            let number = index + 2;
            x = b.conv(x, &format!("conv{number}"), Conv::new(channels, kernel, 1))?;
            x = b.norm(x, &format!("bn{number}"))?;
            x = b.activation(x, &format!("relu{number}"));
            if let Some(op) = then {
                x = b.op(x, op);
            }
        }
        x = b.conv(x, "conv9", outermost(Conv::new(self.classes, 1, 1)))?;
        b.op(x, Op::GlobalPool);
        Ok(Network::new(builder, NetworkConfig::Nin(self.clone())))
    }
}
