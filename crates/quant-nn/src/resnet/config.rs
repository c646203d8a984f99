//! The typed description of a residual network.

use burn::tensor::Device;
use quant_core::QuantizerConfig;
use serde::{Deserialize, Serialize};

use super::network::ResNet;
use crate::{error::NetworkError, layers::LayerQuantizers};

/// How many blocks of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Basic blocks 3, 3, 3.
    ResNet20,
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
    /// Bottlenecks 3, 4, 6, 3.
    ResNet50,
    /// Bottlenecks 3, 4, 23, 3.
    ResNet101,
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
        }
    }

    /// Kind of its blocks.
    pub fn block(self) -> BlockKind {
        match self {
            Depth::ResNet50 | Depth::ResNet101 => BlockKind::Bottleneck,
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
    /// 7x7 convolution of stride 2, and 3x3 maximum pooling of stride 2 after the norm.
    ImageNet,
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
    /// Batch size, for gradient scales that count the elements of a batch.
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
        if self.classes == 0 {
            return field("classes", "0".into(), "at least 1");
        }
        if self.input_size < self.smallest_input() {
            let accepted = "large enough to leave a pixel after all strides: 4 (cifar stem) or 32";
            return field("input_size", self.input_size.to_string(), accepted);
        }
        if !self.width_alpha.is_finite() || self.width() == 0 || self.width() > 1 << 16 {
            let accepted = "int(64·width_alpha) must be 1 to 65536";
            return field("width_alpha", self.width_alpha.to_string(), accepted);
        }
        let quantizers = &self.quantization;
        let configs = [&quantizers.activation, &quantizers.weight, &quantizers.output];
        for config in configs.into_iter().flatten() {
            config.validate("network")?;
        }
        Ok(())
    }

    fn smallest_input(&self) -> usize {
        match self.stem {
            Stem::Cifar => 1 << (self.depth.stages().len() - 1),
            Stem::ImageNet => 32,
        }
    }

    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate), and of quantizers that do not fit a layer.
    pub fn init(&self, device: &Device) -> Result<ResNet, NetworkError> {
        self.validate()?;
        ResNet::new(self, device)
    }

    /// The quantizers of a layer inside the network whose input has sides of `size` pixels.
    pub(crate) fn layer_quantizers(&self, size: usize) -> LayerQuantizers {
        let quantization = &self.quantization;
        LayerQuantizers {
            activation: quantization.activation.clone(),
            weight: quantization.weight.clone(),
            output: quantization.output.clone(),
            positions: Some(size * size),
            batch_size: quantization.batch_size,
        }
    }
}
