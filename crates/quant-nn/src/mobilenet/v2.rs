//! MobileNet v2 (Sandler et al. 2018).

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cbas, check, full, is_small, order_error, scaled};
use crate::{
    builder::{Builder, Conv, Value},
    error::NetworkError,
    graph::Op,
    layers::{activation::ActivationKind, norm::NormKind},
    network::{Network, NetworkConfig},
    resnet::{Order, Quantization},
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

/// Expansion, channels, blocks, stride of the stages.
const V2: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

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
        if !matches!(self.order, Order::Cbas | Order::Bacs) {
            return Err(order_error(self.order, "cbas or bacs"));
        }
        check([self.classes, self.input_size], self.width_alpha, &self.quantization)
    }

    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the quantizers' errors.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let alpha = self.width_alpha;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let quantized = self.quantization.first_last;
        let stem = Conv { quantized, ..Conv::new(scaled(32, alpha), 3, 2) };
        let mut x = b.conv(b.input(), "features.0.0", stem)?;
        x = b.batch_norm(x, "features.0.1")?;
        x = b.relu(x);
        let small_images = self.small_images.unwrap_or(is_small(self.input_size));
        let mut index = 1;
        for (stage, (expansion, channels, blocks, stride)) in V2.into_iter().enumerate() {
            let stride = if stage == 1 && small_images { 1 } else { stride };
            for block in 0..blocks {
                let name = format!("features.{index}");
                b.enter(&name);
                let stride = if block == 0 { stride } else { 1 };
                x = self.block(b, &name, x, (expansion, scaled(channels, alpha), stride))?;
                index += 1;
            }
        }
        b.enter("");
        let last = if alpha > 1.0 { scaled(1280, alpha) } else { 1280 };
        x = b.conv(x, &format!("features.{index}.0"), Conv::new(last, 1, 1))?;
        x = b.norm(x, &format!("features.{index}.1"))?;
        x = b.activation(x, &format!("features.{index}.2"));
        x = b.op(x, Op::GlobalPool);
        b.linear(x, "classifier.0", self.classes, quantized)?;
        Ok(Network::new(builder, NetworkConfig::MobilenetV2(self.clone())))
    }

    fn block(
        &self,
        b: &mut Builder<'_>,
        name: &str,
        input: Value,
        (expansion, outputs, stride): (usize, usize, usize),
    ) -> Result<Value, NetworkError> {
        let inputs = b.channels(input);
        let inner = inputs * expansion;
        let expand = (expansion != 1).then(|| Conv::new(inner, 1, 1));
        let depthwise = Conv { groups: inner, ..Conv::new(inner, 3, stride) };
        let convs: Vec<Conv> =
            expand.into_iter().chain([depthwise, Conv::new(outputs, 1, 1)]).collect();
        let mut x = input;
        for (index, conv) in convs.iter().enumerate() {
            let number = index + 1;
            let last = number == convs.len();
            let letters = if self.order == Order::Bacs { "bac" } else { "cba" };
            for letter in letters.chars() {
                x = match letter {
                    'c' => b.conv(x, &format!("{name}.conv{number}"), *conv)?,
                    'b' => b.norm(x, &format!("{name}.bn{number}"))?,
                    'a' if last && self.order == Order::Cbas => x,
                    _ => b.activation(x, &format!("{name}.relu{number}")),
                };
            }
        }
        if stride != 1 || inputs != outputs {
            return Ok(x);
        }
        if self.order == Order::Bacs {
            let skip = b.norm(input, &format!("{name}.skip_bn"))?;
            let x = b.norm(x, &format!("{name}.fix_bn"))?;
            return b.add(&[x, skip], name);
        }
        b.add(&[x, input], name)
    }
}
