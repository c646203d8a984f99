//! MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018).

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    builder::{Builder, Conv, Value},
    error::NetworkError,
    graph::Op,
    layers::{activation::ActivationKind, norm::NormKind},
    network::{Network, NetworkConfig, check_data},
    resnet::{Order, PointReshape, Quantization},
};

/// What skips of a MobileNet v1 lead over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV1Config {
    /// Number of classes.
    pub classes: usize,
    /// Side of the input images, in pixels.
    pub input_size: usize,
    /// All channels are times this.
    #[serde(default = "one")]
    pub width_alpha: f64,
    /// Whether the first convolution has stride 2.
    pub strided_stem: bool,
    /// Order inside a block: `cbas`, `cbsa` or `bacs`.
    #[serde(default)]
    pub order: Order,
    /// Skips.
    #[serde(default)]
    pub skip: MobileSkip,
    /// With layer-wise skips: whether channels double by two point-wise convolutions side by side, each with
    /// a skip of its own (ReActNet), instead of one.
    #[serde(default)]
    pub double_by_concatenation: bool,
    /// Whether depthwise convolutions are ordinary 3x3 ones.
    #[serde(default)]
    pub normal_3x3: bool,
    /// Whether depthwise convolutions stay in full precision.
    #[serde(default)]
    pub real_depthwise: bool,
    /// Whether point-wise convolutions stay in full precision.
    #[serde(default)]
    pub real_pointwise: bool,
    /// Whether the stem has no norm and activation, which then stand before the last pooling.
    #[serde(default)]
    pub pre_norm: bool,
    /// Point-wise-and-reshape in place of the depthwise convolutions.
    pub point_reshape: Option<PointReshape>,
    /// The normalisation inside of blocks.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers.
    #[serde(default)]
    pub quantization: Quantization,
}

/// MobileNet v2: inverted residuals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV2Config {
    /// Number of classes.
    pub classes: usize,
    /// Side of the input images, in pixels.
    pub input_size: usize,
    /// All channels are times this, the last ones only if it is above 1.
    #[serde(default = "one")]
    pub width_alpha: f64,
    /// Whether images are CIFAR's: the second stage then has stride 1.
    #[serde(default)]
    pub small_images: bool,
    /// Order inside a block: `cbas` or `bacs`.
    #[serde(default = "cbas")]
    pub order: Order,
    /// The normalisation inside of blocks.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function inside of blocks.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The quantizers.
    #[serde(default)]
    pub quantization: Quantization,
}

fn one() -> f64 {
    1.0
}

fn cbas() -> Order {
    Order::Cbas
}

fn scaled(channels: usize, alpha: f64) -> usize {
    (channels as f64 * alpha) as usize
}

/// Checks what both configurations have in common.
fn check(
    [classes, input_size]: [usize; 2],
    alpha: f64,
    quantization: &Quantization,
) -> Result<(), NetworkError> {
    check_data(classes, input_size)?;
    let field =
        |field, value: String, accepted| Err(NetworkError::Field { field, value, accepted });
    if !alpha.is_finite() || scaled(16, alpha) == 0 || alpha > 64.0 {
        return field("width_alpha", alpha.to_string(), "1/16 to 64");
    }
    quantization.validate()
}

fn order_error(order: Order, accepted: &'static str) -> NetworkError {
    NetworkError::Field { field: "order", value: order.letters().to_owned(), accepted }
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
            width_alpha: 1.0,
            strided_stem: input_size > 32,
            order: Order::Cbas,
            skip: MobileSkip::None,
            double_by_concatenation: false,
            normal_3x3: false,
            real_depthwise: false,
            real_pointwise: false,
            pre_norm: false,
            point_reshape: None,
            norm: NormKind::default(),
            activation: ActivationKind::default(),
            quantization: Quantization::default(),
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
        let stem = Conv {
            quantized: self.quantization.first_last,
            ..Conv::new(scaled(32, self.width_alpha), 3, 1 + usize::from(self.strided_stem))
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
            width_alpha: 1.0,
            small_images: input_size <= 32,
            order: Order::Cbas,
            norm: NormKind::default(),
            activation: ActivationKind::default(),
            quantization: Quantization::default(),
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
        let mut index = 1;
        for (stage, (expansion, channels, blocks, stride)) in V2.into_iter().enumerate() {
            let stride = if stage == 1 && self.small_images { 1 } else { stride };
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
