//! MobileNet v1 (Howard et al. 2017).

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
    resnet::{Order, PointReshape, Quantization},
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

/// Output channels and stride of the blocks.
const V1: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

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
        if !matches!(self.order, Order::Cbas | Order::Cbsa | Order::Bacs) {
            return Err(order_error(self.order, "cbas, cbsa or bacs"));
        }
        check([self.classes, self.input_size], self.width_alpha, &self.quantization)
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
        let strided = self.strided_stem.unwrap_or(!is_small(self.input_size));
        let stem = Conv {
            quantized: self.quantization.first_last,
            ..Conv::new(scaled(32, self.width_alpha), 3, 1 + usize::from(strided))
        };
        let mut x = b.conv(b.input(), "root.0", stem)?;
        if !self.pre_norm {
            x = b.batch_norm(x, "root.1")?;
            x = b.activation(x, "root.2");
        }
        for (index, (channels, stride)) in V1.into_iter().enumerate() {
            let name = format!("model.{index}");
            b.enter(&name);
            x = self.block(b, &name, x, (scaled(channels, self.width_alpha), stride))?;
        }
        b.enter("");
        if self.pre_norm {
            x = b.batch_norm(x, "bn.0")?;
            x = b.activation(x, "bn.1");
        }
        x = b.op(x, Op::GlobalPool);
        b.linear(x, "classifier.0", self.classes, self.quantization.first_last)?;
        Ok(Network::new(builder, NetworkConfig::MobilenetV1(self.clone())))
    }

    fn block(
        &self,
        b: &mut Builder<'_>,
        name: &str,
        x: Value,
        (outputs, stride): (usize, usize),
    ) -> Result<Value, NetworkError> {
        let inputs = b.channels(x);
        let layer_wise = self.skip == MobileSkip::Layer;
        let residual = match self.skip {
            MobileSkip::Block => Some(self.skip_branch(b, name, x, (outputs, stride))?),
            _ => None,
        };
        let depthwise = Conv {
            groups: if self.normal_3x3 { 1 } else { inputs },
            quantized: !self.real_depthwise,
            ..Conv::new(inputs, 3, stride)
        };
        let skip = layer_wise.then(|| b.average_pool(x, stride));
        let middle = self.half(b, (name, 1, 0), x, depthwise, skip)?;
        let pointwise = Conv { quantized: !self.real_pointwise, ..Conv::new(outputs, 1, 1) };
        let y = match layer_wise && outputs != inputs {
            true if self.double_by_concatenation => {
                let halves = (0..outputs / inputs)
                    .map(|half| {
                        let conv = Conv { outputs: inputs, ..pointwise };
                        self.half(b, (name, 2, half), middle, conv, Some(middle))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                b.concatenate(&halves)
            }
            true => {
                let doubled = b.op(middle, Op::Repeat(outputs / inputs));
                self.half(b, (name, 2, 0), middle, pointwise, Some(doubled))?
            }
            false => {
                let skip = layer_wise.then_some(middle);
                self.half(b, (name, 2, 0), middle, pointwise, skip)?
            }
        };
        match residual {
            Some(residual) => b.add(&[y, residual], name),
            None => Ok(y),
        }
    }

    fn skip_branch(
        &self,
        b: &mut Builder<'_>,
        name: &str,
        x: Value,
        (outputs, stride): (usize, usize),
    ) -> Result<Value, NetworkError> {
        let pooled = b.average_pool(x, stride);
        if b.channels(x) == outputs {
            return Ok(pooled);
        }
        let y = b.conv(pooled, &format!("{name}.skip.1"), Conv::new(outputs, 1, 1))?;
        let y = b.norm(y, &format!("{name}.skip.2"))?;
        Ok(b.activation(y, &format!("{name}.skip.3")))
    }

    /// A convolution with its norm, activation and skip: the first or second half of a block.
    fn half(
        &self,
        b: &mut Builder<'_>,
        (name, number, branch): (&str, usize, usize),
        mut x: Value,
        conv: Conv,
        skip: Option<Value>,
    ) -> Result<Value, NetworkError> {
        let conv_name = if number == 1 { "depth_conv" } else { "point_conv" };
        let conv_name = format!("{name}.{conv_name}.{branch}");
        for letter in self.order.letters().chars() {
            x = match (letter, skip) {
                ('c', _) => match self.point_reshape.filter(|_| number == 1) {
                    Some(reshape) if !(reshape.keep_downsample && conv.stride != 1) => {
                        b.point_reshape(x, &conv_name, conv, reshape)?
                    }
                    _ => b.conv(x, &conv_name, conv)?,
                },
                ('b', _) => b.norm(x, &format!("{name}.bn{number}.{branch}"))?,
                ('a', _) => b.activation(x, &format!("{name}.relu{number}.{branch}")),
                (_, Some(skip)) => b.add(&[x, skip], name)?,
                (_, None) => x,
            };
        }
        Ok(x)
    }
}
