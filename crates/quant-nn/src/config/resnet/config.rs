//! The typed configuration of a residual network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::{
    BlockKernel, BlockKind, Depth, DownsampleKind, Fixup, LosslessDownsample, NameStyle, Order,
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
/// Fields that a description leaves out have the defaults of [`new`](Self::new). Recipes have the
/// same fields in `[model]`, except classes, input size and quantizers; their page is printed from
/// these comments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// The kind of the residual blocks, and their number in each stage. `resnet18` is the usual
    /// choice; `resnet20` is for images of 32 pixels.
    pub depth: Depth,
    /// The layers before the blocks: `imagenet` for images of 64 pixels and more, `cifar` for
    /// smaller ones.
    pub stem: Stem,
    /// The number of classes.
    #[schemars(skip)]
    pub classes: usize,
    /// The side of the input images, in pixels.
    #[schemars(skip)]
    pub input_size: usize,
    /// The factor on the numbers of channels. The first stage has int(64·`width_alpha`) channels,
    /// and each following stage twice as many. Use numbers below 1 for quick trials and small
    /// devices. The ResNet-20 of papers on CIFAR has 16, 32 and 64 channels: that is `width_alpha =
    /// 0.25`. The default, 1, is that of QTool, and gives it 64, 128 and 256.
    #[serde(default = "full")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// How the skip branch gets the shape of a block's output where that is smaller. Bi-Real Net
    /// and other binary networks use `average-pool`; `repeat` has no weights.
    #[serde(default)]
    pub downsample: DownsampleKind,
    /// Whether blocks start as identities: the weight of their last batch norm starts at 0. It
    /// helps deep networks in long runs.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// The order of a block's convolution (c), norm (b), activation (a) and addition of the skip
    /// (s). Choose `bacs` for pre-activation, and the order of the paper for binary networks.
    #[serde(default)]
    pub order: Order,
    /// What each skip connection spans. Choose `layer` for binary networks. Bottlenecks support
    /// `block` only.
    #[serde(default)]
    pub skip: SkipSpan,
    /// With the orders `cbas` and `cbsa`: whether a block's last activation comes after its final
    /// addition. With `bacs` and `bcas`: whether a norm comes before that addition. Skip branches
    /// then end with a norm. Choose `false` for networks of QTool whose keywords lack `fix`.
    #[serde(default = "yes")]
    pub fix: bool,
    /// Whether the norm of the stem comes before its pooling. Choose `false` for networks of QTool
    /// whose keywords lack `fix_pooling`.
    #[serde(default = "yes")]
    pub norm_before_pool: bool,
    /// Whether the stem ends without norm and activation, and a norm comes before the last pooling.
    /// Set it with the order `bacs`, whose blocks begin with a norm.
    #[serde(default)]
    pub pre_norm: bool,
    /// With `pre_norm`: whether an activation follows that norm, and whether the stem's convolution
    /// is followed by a norm and an activation if `norm_before_pool` is set. It is for networks
    /// that come from QTool.
    #[serde(default)]
    pub pre_norm_stem: bool,
    /// Whether the stem has no activation. Set it for Group-Net.
    #[serde(default)]
    pub linear_stem: bool,
    /// Whether skips without a convolution have a norm too. It is for networks that come from
    /// QTool.
    #[serde(default)]
    pub identity_norm: bool,
    /// The number of parallel branches of each block, which are added with learned scales
    /// (Group-Net; Zhuang et al. 2019). Choose 3 to 5 for binary networks that may cost that many
    /// times more.
    #[serde(default = "single")]
    #[schemars(range(min = 1, max = 256))]
    pub branches: usize,
    /// Lossless downsampling in front of basic blocks with a stride. Bottlenecks do not change. By
    /// default the first convolution of such a block has the stride, which skips pixels.
    pub lossless_downsample: Option<LosslessDownsample>,
    /// Point-wise-and-reshape blocks that replace 3x3 convolutions by 1x1 convolutions of many
    /// channels. By default 3x3 convolutions stay.
    pub point_reshape: Option<PointReshape>,
    /// The kernel of the first convolution of some basic blocks: with lossless downsampling, of the
    /// blocks that have a stride; with `point_reshape`, of all blocks. With `three`, that
    /// convolution keeps the stride, and there is no lossless downsampling in front of it.
    #[serde(default)]
    pub first_kernel: BlockKernel,
    /// The kernel of the second convolution of the same blocks: `usual`, `one` or `three`.
    #[serde(default)]
    pub second_kernel: BlockKernel,
    /// Whether strided convolutions of 14x14 inputs have one more pixel of padding. It is for
    /// networks that come from QTool.
    #[serde(default)]
    pub extra_padding: bool,
    /// Fixup instead of norms. By default there are norms.
    pub fixup: Option<Fixup>,
    /// Whether the maximum pooling of the stem has no padding and rounds sizes up, as in Caffe. Set
    /// it for weights that come from Caffe.
    #[serde(default)]
    pub caffe_pooling: bool,
    /// The number of groups of the 3x3 convolutions of bottlenecks. With 32 and a `width_per_group`
    /// of 4, `resnet50` becomes ResNeXt-50 32x4d.
    #[serde(default = "single")]
    #[schemars(range(min = 1, max = 65_536))]
    pub groups: usize,
    /// The number of channels of each of those groups, in 64ths of a stage's width. With one group,
    /// 64 is a plain bottleneck and 128 a wide ResNet.
    #[serde(default = "whole_width")]
    #[schemars(range(min = 1, max = 65_536))]
    pub width_per_group: usize,
    /// The normalisation. Choose `group` for batches of a few images, and `static` or `frozen` to
    /// keep the statistics of loaded weights.
    #[serde(default)]
    pub norm: NormKind,
    /// The activation function. Choose `prelu`, `rprelu` or `nrelu` for binary networks, as the
    /// paper says.
    #[serde(default)]
    pub activation: ActivationKind,
    /// The names that files of weights use for the network's state. Choose `keyword` for files that
    /// were written by QTool's keyword networks.
    #[serde(default)]
    pub names: NameStyle,
    /// Which layers are quantized, and by which quantizers.
    #[serde(default)]
    #[schemars(skip)]
    pub quantization: Quantization,
}

/// The default of `width_alpha`: a stem of 64 channels.
fn full() -> f64 {
    1.0
}

/// The default of `fix` and `norm_before_pool`: as in torchvision's network.
fn yes() -> bool {
    true
}

/// The default of `branches` and `groups`.
fn single() -> usize {
    1
}

/// The default of `width_per_group`: the full width of a stage, in 64ths.
fn whole_width() -> usize {
    64
}

impl ResNetConfig {
    /// Returns the configuration of a full-precision network of full width with torchvision's
    /// names.
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

    /// Returns a remark for people on a network that may not be the one they mean: a ResNet-20 that
    /// is wider than that of the papers.
    pub fn remark(&self) -> Option<String> {
        let width = self.width();
        (self.depth == Depth::ResNet20 && width > 16).then(|| {
            format!(
                "this ResNet-20 has {width}, {} and {} channels; that of the papers on CIFAR has \
                 16, 32 and 64, which width_alpha = 0.25 gives",
                2 * width,
                4 * width
            )
        })
    }

    /// Returns the number of channels of the first stage.
    pub fn width(&self) -> usize {
        (64.0 * self.width_alpha) as usize
    }

    /// Returns the same network in full precision.
    pub fn full_precision(&self) -> Self {
        Self { quantization: Quantization::default(), ..self.clone() }
    }

    /// Checks the values that the types of the fields do not exclude. [`init`](Self::init) calls
    /// it.
    ///
    /// # Errors
    /// [`NetworkError::Field`], which names the field, and the errors of the quantizers.
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
        let accepted = "1/64 to 1024, so that int(64·width_alpha) is 1 to 65536 channels";
        check_field(fits, "width_alpha", self.width_alpha, accepted)?;
        let conflict = |at: &str, reason: &str| {
            Err(NetworkError::Structure { at: at.to_owned(), reason: reason.to_owned() })
        };
        if self.depth.block() == BlockKind::Bottleneck && self.skip == SkipSpan::Layer {
            return conflict("skip", "bottlenecks have block-wise skips only");
        }
        if self.point_reshape.is_some() && self.pre_norm {
            return conflict("point_reshape", "it cannot be combined with pre_norm");
        }
        if let Stem::SpaceToDepth(kernel) | Stem::SpaceToDepthMaxPool(kernel) = self.stem {
            check_field([1, 3].contains(&kernel), "kernel of the stem", kernel, "1 or 3")?;
        }
        if let Some(LosslessDownsample { order, .. }) = &self.lossless_downsample {
            let known = order.chars().all(|letter| "cba".contains(letter));
            let good = known && order.matches('c').count() == 1 && order.len() <= 3;
            check_field(good, "lossless_downsample.order", order, "c, ca, cb or cba")?;
        }
        let has = self.second_kernel != BlockKernel::None;
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
