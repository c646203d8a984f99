//! VGG-small, the CIFAR network of low-bit papers: six 3x3 convolutions and a linear layer.

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
    fn letters(self) -> &'static str {
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
    /// `first_last`.
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

    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the quantizers' errors.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let first_last = self.quantization.first_last;
        let mut x = b.input();
        for (index, channels) in [128, 128, 256, 256, 512, 512].into_iter().enumerate() {
            let number = index + 1;
            for letter in self.order.letters().chars() {
                // Where the norm stands first, the images pass as they are.
                let first = number == 1 && self.order != PlainOrder::Cba;
                x = match letter {
                    'c' => {
                        let quantized = number > 1 || first_last;
                        let conv = Conv { quantized, ..Conv::new(channels, 3, 1) };
                        b.conv(x, &format!("conv{number}"), conv)?
                    }
                    _ if first => x,
                    'b' => b.norm(x, &format!("bn{number}"))?,
                    _ => b.activation(x, &format!("relu{number}")),
                };
            }
            if number % 2 == 0 {
                x = b.op(x, Op::MaxPool { kernel: 2, stride: 2, padding: 0, ceil: false });
            }
        }
        x = b.norm(x, "bn7")?;
        x = b.activation(x, "relu7");
        b.linear(x, "classifier", self.classes, first_last)?;
        Ok(Network::new(builder, NetworkConfig::VggSmall(self.clone())))
    }
}
