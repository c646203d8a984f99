//! The residual blocks.

use burn::{
    module::Module,
    tensor::{Device, Tensor, activation::relu, module::avg_pool2d, ops::AvgPoolOptions},
};
use quant_core::QuantizerError;

use super::config::{BlockKind, DownsampleKind, NameStyle, ResNetConfig};
use crate::layers::{
    LayerQuantizers,
    conv::{QuantConv2d, QuantConv2dConfig},
    norm::BatchNorm2d,
};

/// One residual block.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has tens of blocks, all of one kind")]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic(BasicBlock),
    /// 1x1, 3x3, 1x1 convolutions.
    Bottleneck(Bottleneck),
}

/// relu(bn2(conv2(relu(bn1(conv1(x))))) + skip(x)).
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// 3x3 with the stride.
    pub conv1: QuantConv2d,
    /// Norm behind it.
    pub bn1: BatchNorm2d,
    /// 3x3.
    pub conv2: QuantConv2d,
    /// Norm behind it.
    pub bn2: BatchNorm2d,
    /// Skip branch where the shape changes.
    pub downsample: Option<Downsample>,
}

/// relu(bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))) + skip(x)).
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// 1x1.
    pub conv1: QuantConv2d,
    /// Norm behind it.
    pub bn1: BatchNorm2d,
    /// 3x3 with the stride.
    pub conv2: QuantConv2d,
    /// Norm behind it.
    pub bn2: BatchNorm2d,
    /// 1x1 to four times the channels.
    pub conv3: QuantConv2d,
    /// Norm behind it.
    pub bn3: BatchNorm2d,
    /// Skip branch where the shape changes.
    pub downsample: Option<Downsample>,
}

/// Skip branch: \[average pooling,\] 1x1 convolution, norm.
#[derive(Module, Debug)]
pub struct Downsample {
    /// 1x1.
    pub conv: QuantConv2d,
    /// Norm behind it.
    pub norm: BatchNorm2d,
    /// Stride of the average pooling before it; 1 for none.
    pub pool: usize,
}

/// Where a block stands.
pub(crate) struct Place<'a> {
    pub(crate) config: &'a ResNetConfig,
    /// PyTorch name, such as `layer1.0`.
    pub(crate) name: String,
    pub(crate) inputs: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
    /// Side of the block's input, in pixels.
    pub(crate) size: usize,
}

impl Place<'_> {
    fn outputs(&self) -> usize {
        self.width * self.config.depth.block().expansion()
    }

    fn conv(
        &self,
        part: &str,
        channels: [usize; 2],
        (kernel, stride, size): (usize, usize, usize),
        device: &Device,
    ) -> Result<QuantConv2d, QuantizerError> {
        QuantConv2dConfig {
            padding_after_quant: self.config.quantization.padding_after_quant,
            quantizers: self.config.layer_quantizers(size),
            ..QuantConv2dConfig::new(channels, kernel, stride)
        }
        .init(&self.layer_name(part), device)
    }

    /// PyTorch name of a convolution of this block.
    fn layer_name(&self, part: &str) -> String {
        match (self.config.names, part) {
            (NameStyle::Torchvision, "downsample") => format!("{}.downsample.0", self.name),
            (NameStyle::Torchvision, _) => format!("{}.{part}", self.name),
            (NameStyle::Keyword, "downsample") => format!("{}.skip.1", self.name),
            (NameStyle::Keyword, _) => format!("{}.{part}.0", self.name),
        }
    }

    fn last_norm(&self, channels: usize, device: &Device) -> BatchNorm2d {
        let mut norm = BatchNorm2d::new(channels, device);
        if self.config.zero_init_residual {
            norm.weight = norm.weight.map(|weight| weight.zeros_like().set_require_grad(true));
        }
        norm
    }

    fn downsample(&self, device: &Device) -> Result<Option<Downsample>, QuantizerError> {
        if self.stride == 1 && self.inputs == self.outputs() {
            return Ok(None);
        }
        let pooled = self.config.downsample == DownsampleKind::AveragePool;
        let (pool, stride) = if pooled { (self.stride, 1) } else { (1, self.stride) };
        let quantizers = match self.config.quantization.real_downsample {
            true => LayerQuantizers::default(),
            false => self.config.layer_quantizers(self.size / pool),
        };
        let conv = QuantConv2dConfig {
            quantizers,
            ..QuantConv2dConfig::new([self.inputs, self.outputs()], 1, stride)
        };
        Ok(Some(Downsample {
            conv: conv.init(&self.layer_name("downsample"), device)?,
            norm: BatchNorm2d::new(self.outputs(), device),
            pool,
        }))
    }
}

impl Block {
    pub(crate) fn new(place: &Place, device: &Device) -> Result<Self, QuantizerError> {
        let (width, size, stride) = (place.width, place.size, place.stride);
        let after = size.div_ceil(stride);
        Ok(match place.config.depth.block() {
            BlockKind::Basic => Block::Basic(BasicBlock {
                conv1: place.conv("conv1", [place.inputs, width], (3, stride, size), device)?,
                bn1: BatchNorm2d::new(width, device),
                conv2: place.conv("conv2", [width, width], (3, 1, after), device)?,
                bn2: place.last_norm(width, device),
                downsample: place.downsample(device)?,
            }),
            BlockKind::Bottleneck => Block::Bottleneck(Bottleneck {
                conv1: place.conv("conv1", [place.inputs, width], (1, 1, size), device)?,
                bn1: BatchNorm2d::new(width, device),
                conv2: place.conv("conv2", [width, width], (3, stride, size), device)?,
                bn2: BatchNorm2d::new(width, device),
                conv3: place.conv("conv3", [width, place.outputs()], (1, 1, after), device)?,
                bn3: place.last_norm(place.outputs(), device),
                downsample: place.downsample(device)?,
            }),
        })
    }

    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[batch, in, height, width]`
    /// - output: `[batch, out, height / stride, width / stride]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (y, skip) = match self {
            Block::Basic(block) => {
                let y = relu(block.bn1.forward(block.conv1.forward(x.clone())));
                (block.bn2.forward(block.conv2.forward(y)), skip(&block.downsample, x))
            }
            Block::Bottleneck(block) => {
                let y = relu(block.bn1.forward(block.conv1.forward(x.clone())));
                let y = relu(block.bn2.forward(block.conv2.forward(y)));
                (block.bn3.forward(block.conv3.forward(y)), skip(&block.downsample, x))
            }
        };
        relu(y + skip)
    }

    /// The convolutions in execution order, with their names inside the block.
    pub(crate) fn convolutions(&self) -> Vec<(&'static str, &QuantConv2d)> {
        let (mut convolutions, downsample) = match self {
            Block::Basic(b) => (vec![("conv1", &b.conv1), ("conv2", &b.conv2)], &b.downsample),
            Block::Bottleneck(b) => {
                (vec![("conv1", &b.conv1), ("conv2", &b.conv2), ("conv3", &b.conv3)], &b.downsample)
            }
        };
        convolutions.extend(downsample.iter().map(|skip| ("downsample.conv", &skip.conv)));
        convolutions
    }

    pub(crate) fn convolutions_mut(&mut self) -> Vec<&mut QuantConv2d> {
        let (mut convolutions, downsample) = match self {
            Block::Basic(b) => (vec![&mut b.conv1, &mut b.conv2], &mut b.downsample),
            Block::Bottleneck(b) => {
                (vec![&mut b.conv1, &mut b.conv2, &mut b.conv3], &mut b.downsample)
            }
        };
        convolutions.extend(downsample.iter_mut().map(|skip| &mut skip.conv));
        convolutions
    }
}

fn skip(downsample: &Option<Downsample>, x: Tensor<4>) -> Tensor<4> {
    let Some(branch) = downsample else {
        return x;
    };
    let x = match branch.pool {
        1 => x,
        pool => avg_pool2d(
            x,
            AvgPoolOptions {
                kernel_size: [pool; 2],
                stride: [pool; 2],
                padding: [(0, 0); 2],
                count_include_pad: true,
                ceil_mode: false,
            },
        ),
    };
    branch.norm.forward(branch.conv.forward(x))
}
