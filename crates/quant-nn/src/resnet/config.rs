//! The typed description of a residual network.

use burn::tensor::Device;
use quant_core::QuantizerConfig;
use serde::{Deserialize, Serialize};

use super::build;
use crate::{
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
    network::{Network, check_data, check_range},
};

/// How many blocks of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Basic blocks 3, 3, 3.
    ResNet20,
    /// Basic blocks 2, 2, 3, 2.
    #[serde(rename = "resnet20_")]
    ResNet20Wide,
    /// Basic blocks 5, 5, 5.
    ResNet32,
    /// Basic blocks 7, 7, 7.
    ResNet44,
    /// Basic blocks 9, 9, 9.
    ResNet56,
    /// Basic blocks 2, 2, 2, 2.
    ResNet18,
    /// Basic blocks 3, 4, 6, 3.
    ResNet34,
    /// Basic blocks 2 in each of eight stages behind an empty one.
    #[serde(rename = "resnet34_")]
    ResNet34Deep,
    /// Bottlenecks 3, 4, 6, 3.
    ResNet50,
    /// Bottlenecks 3, 4, 23, 3.
    ResNet101,
    /// Bottlenecks 3, 8, 36, 3.
    ResNet152,
}

/// The residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 with the stride, 1x1 to four times the channels.
    Bottleneck,
}

impl BlockKind {
    /// Output channels over the block's width.
    pub fn expansion(self) -> usize {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }
}

impl Depth {
    /// Blocks per stage.
    pub fn stages(self) -> &'static [usize] {
        match self {
            Depth::ResNet20 => &[3, 3, 3],
            Depth::ResNet32 => &[5, 5, 5],
            Depth::ResNet44 => &[7, 7, 7],
            Depth::ResNet56 => &[9, 9, 9],
            Depth::ResNet18 => &[2, 2, 2, 2],
            Depth::ResNet34 | Depth::ResNet50 => &[3, 4, 6, 3],
            Depth::ResNet101 => &[3, 4, 23, 3],
            Depth::ResNet152 => &[3, 8, 36, 3],
            Depth::ResNet20Wide => &[2, 2, 3, 2],
            Depth::ResNet34Deep => &[0, 2, 2, 2, 2, 2, 2, 2, 2],
        }
    }

    /// Kind of its blocks.
    pub fn block(self) -> BlockKind {
        match self {
            Depth::ResNet50 | Depth::ResNet101 | Depth::ResNet152 => BlockKind::Bottleneck,
            _ => BlockKind::Basic,
        }
    }
}

/// What stands before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 3x3 convolution.
    Cifar,
    /// 7x7 convolution of stride 2, and 3x3 maximum pooling of stride 2.
    ImageNet,
    /// 4x4 squares become channels, then a convolution with this kernel, 1 or 3 (TResNet; Ridnik et al.
    /// 2021).
    #[serde(rename = "space-to-depth")]
    SpaceToDepth(usize),
    /// 2x2 squares become channels, then a convolution with this kernel, 1 or 3, and 3x3 maximum pooling
    /// of stride 2.
    #[serde(rename = "space-to-depth-max-pool")]
    SpaceToDepthMaxPool(usize),
}

/// In which order a block's convolution (c), norm (b), activation (a) and addition of the skip (s) stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Convolution, norm, activation, addition.
    Cbas,
    /// Convolution, norm, addition, activation.
    #[default]
    Cbsa,
    /// Convolution, activation, norm, addition.
    Cabs,
    /// Norm, activation, convolution, addition.
    Bacs,
    /// Norm, convolution, activation, addition.
    Bcas,
}

impl Order {
    /// The letters.
    pub fn letters(self) -> &'static str {
        match self {
            Order::Cbas => "cbas",
            Order::Cbsa => "cbsa",
            Order::Cabs => "cabs",
            Order::Bacs => "bacs",
            Order::Bcas => "bcas",
        }
    }

    /// Whether the norm stands before the convolution.
    pub fn norm_first(self) -> bool {
        matches!(self, Order::Bacs | Order::Bcas)
    }
}

/// Over how much of a block a skip leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipSpan {
    /// The whole block.
    #[default]
    Block,
    /// Each convolution: bi-real (Liu et al., "Bi-Real Net", 2018).
    Layer,
}

/// Lossless downsampling: space-to-depth and a convolution in front of a block take its stride.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LosslessDownsample {
    /// What stands there, one letter each: c space-to-depth and convolution, b norm, a activation.
    pub order: String,
    /// Whether its convolution is 3x3 and stands for the whole block; else 1x1.
    #[serde(default)]
    pub whole_block: bool,
}

/// Point-wise-and-reshape blocks: space-to-depth, a 1x1 convolution and depth-to-space take the place of 3x3
/// convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointReshape {
    /// Whether strided convolutions stay 3x3.
    pub keep_downsample: bool,
    /// Whether the norm stands before depth-to-space.
    pub norm_before_restore: bool,
}

/// Fixup (Zhang et al., "Fixup Initialization: Residual Learning Without Normalization", 2019): no norms, a
/// learned scale in each block, weights that start small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixup {
    /// Whether learned biases stand around convolutions and activations.
    pub bias: bool,
}

/// A 3x3 convolution's kernel in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// As the structure has it.
    #[default]
    Usual,
    /// 1x1.
    One,
    /// 3x3.
    Three,
    /// The convolution, its norm and its activation are left out.
    None,
}

/// How the skip branch meets a smaller, wider block output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownsampleKind {
    /// 1x1 convolution with the stride.
    #[default]
    StridedConv,
    /// Average pooling of the stride, then 1x1 convolution.
    AveragePool,
    /// Average pooling of the stride, then the channels several times over.
    Repeat,
}

/// Under which PyTorch names the network's state is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameStyle {
    /// torchvision's: `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`.
    #[default]
    Torchvision,
    /// QTool's keyword networks: `layer1.0.conv1.0.weight`, `layer2.0.skip.1.weight`.
    Keyword,
}

/// Which layers are quantized, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantization {
    /// Quantizer of layer inputs.
    pub activation: Option<QuantizerConfig>,
    /// Quantizer of weights.
    pub weight: Option<QuantizerConfig>,
    /// Quantizer of layer outputs.
    pub output: Option<QuantizerConfig>,
    /// Whether the stem's convolution and the final linear layer are quantized too.
    pub first_last: bool,
    /// Whether the convolutions of skip branches stay in full precision.
    pub real_downsample: bool,
    /// Whether convolutions pad after quantizing their input; before it is the default.
    pub padding_after_quant: bool,
    /// Images that gradient scales of a batch count; by default those of each batch.
    pub batch_size: Option<usize>,
}

/// A residual network.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Levels, Method, QuantizerConfig, Role};
/// use quant_nn::resnet::{Depth, Quantization, ResNetConfig, Stem};
///
/// let bits = Levels::from_bits(2)?;
/// let config = ResNetConfig {
///     width_alpha: 0.25,
///     quantization: Quantization {
///         activation: Some(QuantizerConfig::new(Method::Lsq, Role::Activation, bits)),
///         weight: Some(QuantizerConfig::new(Method::Lsq, Role::Weight, bits)),
///         ..Quantization::default()
///     },
///     ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
/// };
/// let device = Device::flex();
/// let network = config.init(&device)?;
/// let logits = network.forward(Tensor::zeros([1, 3, 32, 32], &device));
/// assert_eq!(logits.dims(), [1, 10]);
/// # Ok::<(), quant_nn::NetworkError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// How many blocks of which kind.
    pub depth: Depth,
    /// What stands before them.
    pub stem: Stem,
    /// Number of classes.
    pub classes: usize,
    /// Side of the input images, in pixels.
    pub input_size: usize,
    /// The first stage has int(64·`width_alpha`) channels, each following stage twice as many.
    #[serde(default = "one")]
    pub width_alpha: f64,
    /// The skip branch.
    #[serde(default)]
    pub downsample: DownsampleKind,
    /// Whether the last norm of every block starts at scale 0, so that blocks start as identities.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Order inside a block.
    #[serde(default)]
    pub order: Order,
    /// What skips lead over.
    #[serde(default)]
    pub skip: SkipSpan,
    /// With `cbas` and `cbsa`: whether a block's last activation stands behind its final addition. With `bacs`
    /// and `bcas`: whether a norm stands before that. Skip branches then end with a norm.
    #[serde(default = "yes")]
    pub fix: bool,
    /// Whether the norm of the stem stands before its pooling.
    #[serde(default = "yes")]
    pub norm_before_pool: bool,
    /// Whether the stem ends without norm and activation, and a norm stands before the last pooling.
    #[serde(default)]
    pub pre_norm: bool,
    /// With `pre_norm`: whether an activation follows that norm, and norm and activation the stem's
    /// convolution, if they stand before its pooling.
    #[serde(default)]
    pub pre_norm_stem: bool,
    /// Whether the stem has no activation.
    #[serde(default)]
    pub linear_stem: bool,
    /// Whether skips without convolution have a norm too.
    #[serde(default)]
    pub identity_norm: bool,
    /// Parallel branches of each block, summed with learned scales (Group-Net; Zhuang et al. 2019).
    #[serde(default = "single")]
    pub branches: usize,
    /// Lossless downsampling.
    pub lossless_downsample: Option<LosslessDownsample>,
    /// Point-wise-and-reshape convolutions.
    pub point_reshape: Option<PointReshape>,
    /// The first convolution of blocks: of those with a stride where downsampling is lossless, of all that
    /// would be point-wise-and-reshape.
    #[serde(default)]
    pub first_kernel: Kernel,
    /// The second convolution of the same blocks.
    #[serde(default)]
    pub second_kernel: Kernel,
    /// Whether strided convolutions of 14x14 inputs are padded by one more.
    #[serde(default)]
    pub extra_padding: bool,
    /// Fixup instead of norms.
    pub fixup: Option<Fixup>,
    /// Maximum pooling of the stem without padding, in ceiling mode, as Caffe does.
    #[serde(default)]
    pub caffe_pooling: bool,
    /// Groups of the 3x3 convolutions of bottlenecks (ResNeXt).
    #[serde(default = "single")]
    pub groups: usize,
    /// Channels of each of those groups, in 64ths of a stage's width: 64 makes a plain bottleneck of one
    /// group.
    #[serde(default = "sixty_four")]
    pub width_per_group: usize,
    /// The normalisation.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Names of the state.
    #[serde(default)]
    pub names: NameStyle,
    /// The quantizers.
    #[serde(default)]
    pub quantization: Quantization,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

fn single() -> usize {
    1
}

fn sixty_four() -> usize {
    64
}

impl ResNetConfig {
    /// A full-precision network of full width under torchvision's names.
    pub fn new(depth: Depth, stem: Stem, classes: usize, input_size: usize) -> Self {
        Self {
            depth,
            stem,
            classes,
            input_size,
            width_alpha: 1.0,
            downsample: DownsampleKind::default(),
            zero_init_residual: false,
            order: Order::default(),
            skip: SkipSpan::default(),
            fix: true,
            norm_before_pool: true,
            pre_norm: false,
            pre_norm_stem: false,
            linear_stem: false,
            identity_norm: false,
            branches: 1,
            lossless_downsample: None,
            point_reshape: None,
            first_kernel: Kernel::Usual,
            second_kernel: Kernel::Usual,
            extra_padding: false,
            fixup: None,
            caffe_pooling: false,
            groups: 1,
            width_per_group: 64,
            norm: NormKind::default(),
            activation: ActivationKind::default(),
            names: NameStyle::default(),
            quantization: Quantization::default(),
        }
    }

    /// Channels of the first stage.
    pub fn width(&self) -> usize {
        (64.0 * self.width_alpha) as usize
    }

    /// The same network in full precision.
    pub fn full_precision(&self) -> Self {
        Self { quantization: Quantization::default(), ..self.clone() }
    }

    /// Checks the fields that types leave open. [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`NetworkError::Field`] naming the field, and the quantizers' own errors.
    pub fn validate(&self) -> Result<(), NetworkError> {
        let field =
            |field, value: String, accepted| Err(NetworkError::Field { field, value, accepted });
        check_data(self.classes, self.input_size)?;
        let smallest = self.smallest_input();
        if self.input_size < smallest {
            let (at, size) = ("input_size".to_owned(), self.input_size);
            let reason =
                format!("{size} leaves no pixel after all strides: expected {smallest} or more");
            return Err(NetworkError::Structure { at, reason });
        }
        if !self.width_alpha.is_finite() || self.width() == 0 || self.width() > 1 << 16 {
            let accepted = "1/64 to 1024: int(64·width_alpha) channels stand first";
            return field("width_alpha", self.width_alpha.to_string(), accepted);
        }
        let conflict = |at: &str, reason: &str| {
            Err(NetworkError::Structure { at: at.to_owned(), reason: reason.to_owned() })
        };
        if self.depth.block() == BlockKind::Bottleneck && self.skip == SkipSpan::Layer {
            return conflict("skip", "bottlenecks have block-wise skips only");
        }
        if self.point_reshape.is_some() && self.pre_norm {
            return conflict("point_reshape", "does not go with pre_norm");
        }
        if let Stem::SpaceToDepth(kernel) | Stem::SpaceToDepthMaxPool(kernel) = self.stem
            && ![1, 3].contains(&kernel)
        {
            return field("kernel of the stem", kernel.to_string(), "1 or 3");
        }
        if let Some(lossless) = &self.lossless_downsample
            && (!lossless.order.chars().all(|letter| "cba".contains(letter))
                || lossless.order.matches('c').count() != 1)
        {
            return field("lossless_downsample.order", lossless.order.clone(), "c, ca, cb or cba");
        }
        check_range("branches", self.branches, 1..=256, "1 to 256")?;
        check_range("groups", self.groups, 1..=65536, "1 to 65536")?;
        check_range("width_per_group", self.width_per_group, 1..=65536, "1 to 65536")?;
        self.quantization.validate()
    }

    fn smallest_input(&self) -> usize {
        match self.stem {
            Stem::Cifar => 1 << (self.depth.stages().len() - 1),
            _ => 32,
        }
    }

    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate), and of quantizers that do not fit a layer.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        build::network(self, device)
    }
}

impl Quantization {
    /// Checks the quantizers' configurations.
    pub(crate) fn validate(&self) -> Result<(), NetworkError> {
        let configs = [&self.activation, &self.weight, &self.output];
        for config in configs.into_iter().flatten() {
            config.validate("network")?;
        }
        let images = self.batch_size.unwrap_or(1);
        check_range("batch_size of gradient scales", images, 1..=1 << 24, "1 to 16777216")
    }
}
