//! The typed description of a residual network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::{
    BlockKind, Depth, DownsampleKind, Fixup, Kernel, LosslessDownsample, NameStyle, Order,
    PointReshape, SkipSpan, Stem,
};
use crate::{
    config::{
        quantization::Quantization,
        range::{check_data, check_field, check_range},
    },
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

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
///
/// What a description leaves out has the defaults of [`new`](Self::new). The documentation of the
/// fields is that of `[model]` in a recipe too, which has all of them but classes, input size and
/// quantizers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// How many blocks of which kind. `resnet18` is the usual start; `resnet20` is for images of 32
    /// pixels.
    pub depth: Depth,
    /// What stands before the blocks: `imagenet` for images of 64 pixels and more, `cifar` for
    /// smaller ones.
    pub stem: Stem,
    /// Number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// Side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// Factor on the numbers of channels: the first stage has int(64·`width_alpha`), each following
    /// stage twice as many. Numbers below 1 are for quick trials and small devices.
    #[serde(default = "full")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// How the skip branch meets a smaller block output. Bi-Real Net and other binary networks have
    /// `average-pool`; `repeat` has no weights.
    #[serde(default)]
    pub downsample: DownsampleKind,
    /// Whether blocks start as identities: the weight of their last batch norm starts at 0. It
    /// helps deep networks in long runs.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// In which order a block's convolution (c), norm (b), activation (a) and addition of the skip
    /// (s) stand. Choose `bacs` for pre-activation, and what the paper says for binary networks.
    #[serde(default)]
    pub order: Order,
    /// Over how much of a block a skip leads. Choose `layer` for binary networks; bottlenecks have
    /// `block` only.
    #[serde(default)]
    pub skip: SkipSpan,
    /// With the orders `cbas` and `cbsa`: whether a block's last activation stands behind its final
    /// addition. With `bacs` and `bcas`: whether a norm stands before that addition. Skip branches
    /// then end with a norm. Choose `false` for networks of QTool's whose keywords lack `fix`.
    #[serde(default = "yes")]
    pub fix: bool,
    /// Whether the norm of the stem stands before its pooling. Choose `false` for networks of
    /// QTool's whose keywords lack `fix_pooling`.
    #[serde(default = "yes")]
    pub norm_before_pool: bool,
    /// Whether the stem ends without norm and activation, and a norm stands before the last
    /// pooling. Set it with the order `bacs`, whose blocks begin with a norm.
    #[serde(default)]
    pub pre_norm: bool,
    /// With `pre_norm`: whether an activation follows that norm, and norm and activation the stem's
    /// convolution, if they stand before its pooling. It is for networks that come from QTool.
    #[serde(default)]
    pub pre_norm_stem: bool,
    /// Whether the stem has no activation. Set it for Group-Net.
    #[serde(default)]
    pub linear_stem: bool,
    /// Whether skips without convolution have a norm too. It is for networks that come from QTool.
    #[serde(default)]
    pub identity_norm: bool,
    /// Parallel branches of each block, summed with learned scales (Group-Net; Zhuang et al. 2019).
    /// Take 3 to 5 for binary networks that may cost as many times more.
    #[serde(default = "single")]
    #[schemars(range(min = 1, max = 256))]
    pub branches: usize,
    /// Lossless downsampling in front of basic blocks with a stride; bottlenecks stay as they are.
    /// By default the first convolution of such a block has the stride, which skips pixels.
    pub lossless_downsample: Option<LosslessDownsample>,
    /// Point-wise-and-reshape in place of 3x3 convolutions, which turns them into 1x1 convolutions
    /// of many channels. By default 3x3 convolutions stay.
    pub point_reshape: Option<PointReshape>,
    /// The kernel of the first convolution of basic blocks: of those with a stride where
    /// downsampling is lossless, of all where `point_reshape` is set. With `three`, lossless
    /// downsampling leaves the stride to that convolution.
    #[serde(default)]
    pub first_kernel: Kernel,
    /// The kernel of the second convolution of the same blocks: `usual`, `one` or `three`.
    #[serde(default)]
    pub second_kernel: Kernel,
    /// Whether strided convolutions of 14x14 inputs are padded by one more. It is for networks that
    /// come from QTool.
    #[serde(default)]
    pub extra_padding: bool,
    /// Fixup instead of norms. By default there are norms.
    pub fixup: Option<Fixup>,
    /// Whether the maximum pooling of the stem has no padding and rounds sizes up, as in Caffe. Set
    /// it for weights that come from there.
    #[serde(default)]
    pub caffe_pooling: bool,
    /// Groups of the 3x3 convolutions of bottlenecks: 32, with a `width_per_group` of 4, make
    /// ResNeXt-50 32x4d of `resnet50`.
    #[serde(default = "single")]
    #[schemars(range(min = 1, max = 65_536))]
    pub groups: usize,
    /// Channels of each of those groups, in 64ths of a stage's width: 64 makes a plain bottleneck
    /// of one group, 128 a wide ResNet.
    #[serde(default = "whole_width")]
    #[schemars(range(min = 1, max = 65_536))]
    pub width_per_group: usize,
    /// The normalisation. Choose `group` for batches of a few images, `static` or `frozen` to keep
    /// the statistics of weights that are loaded.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Under which names files of weights have the network's state. Choose `keyword` for files that
    /// QTool's keyword networks have written.
    #[serde(default)]
    pub names: NameStyle,
    /// The quantizers.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

/// The default of `width_alpha`: a stem of 64 channels.
fn full() -> f64 {
    1.0
}

/// The default of `fix` and `norm_before_pool`: torchvision's network.
fn yes() -> bool {
    true
}

/// The default of `branches` and `groups`.
fn single() -> usize {
    1
}

/// The default of `width_per_group`: all of a stage's width, in 64ths.
fn whole_width() -> usize {
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
            width_alpha: full(),
            downsample: Default::default(),
            zero_init_residual: Default::default(),
            order: Default::default(),
            skip: Default::default(),
            fix: yes(),
            norm_before_pool: yes(),
            pre_norm: Default::default(),
            pre_norm_stem: Default::default(),
            linear_stem: Default::default(),
            identity_norm: Default::default(),
            branches: single(),
            lossless_downsample: None,
            point_reshape: None,
            first_kernel: Default::default(),
            second_kernel: Default::default(),
            extra_padding: Default::default(),
            fixup: None,
            caffe_pooling: Default::default(),
            groups: single(),
            width_per_group: whole_width(),
            norm: Default::default(),
            activation: Default::default(),
            names: Default::default(),
            quantization: Default::default(),
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
        check_data(self.classes, self.input_size)?;
        let smallest = self.smallest_input();
        if self.input_size < smallest {
            let (at, size) = ("input_size".to_owned(), self.input_size);
            let reason =
                format!("{size} leaves no pixel after all strides: expected {smallest} or more");
            return Err(NetworkError::Structure { at, reason });
        }
        let fits = self.width_alpha.is_finite() && (1..=1 << 16).contains(&self.width());
        let accepted = "1/64 to 1024: int(64·width_alpha) channels stand first";
        check_field(fits, "width_alpha", self.width_alpha, accepted)?;
        let conflict = |at: &str, reason: &str| {
            Err(NetworkError::Structure { at: at.to_owned(), reason: reason.to_owned() })
        };
        if self.depth.block() == BlockKind::Bottleneck && self.skip == SkipSpan::Layer {
            return conflict("skip", "bottlenecks have block-wise skips only");
        }
        if self.point_reshape.is_some() && self.pre_norm {
            return conflict("point_reshape", "does not go with pre_norm");
        }
        if let Stem::SpaceToDepth(kernel) | Stem::SpaceToDepthMaxPool(kernel) = self.stem {
            check_field([1, 3].contains(&kernel), "kernel of the stem", kernel, "1 or 3")?;
        }
        if let Some(LosslessDownsample { order, .. }) = &self.lossless_downsample {
            let known = order.chars().all(|letter| "cba".contains(letter));
            let good = known && order.matches('c').count() == 1 && order.len() <= 3;
            check_field(good, "lossless_downsample.order", order, "c, ca, cb or cba")?;
        }
        let has = self.second_kernel != Kernel::None;
        check_field(has, "second_kernel", "none", "usual, one or three")?;
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
}
