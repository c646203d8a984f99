//! The network.

use burn::{
    module::Module,
    tensor::{
        Device, Tensor,
        activation::relu,
        module::{adaptive_avg_pool2d, max_pool2d},
        ops::MaxPoolOptions,
    },
};

use super::{
    block::{Block, Place},
    config::{NameStyle, ResNetConfig, Stem},
};
use crate::{
    error::NetworkError,
    layers::{
        LayerQuantizers,
        conv::{QuantConv2d, QuantConv2dConfig},
        linear::{QuantLinear, QuantLinearConfig},
        norm::BatchNorm2d,
    },
    state::PytorchNames,
    visit::{Layer, LayerMut, QuantizedModule, Visited},
};

/// A residual network. Made by [`ResNetConfig::init`].
#[derive(Module, Debug)]
pub struct ResNet {
    /// The stem's convolution.
    pub conv1: QuantConv2d,
    /// The norm behind it.
    pub bn1: BatchNorm2d,
    /// The stages.
    pub layers: Vec<Stage>,
    /// The classifier.
    pub fc: QuantLinear,
    #[module(skip)]
    config: ResNetConfig,
}

/// Blocks of one resolution.
#[derive(Module, Debug)]
pub struct Stage {
    /// The blocks; the first has the stride.
    pub blocks: Vec<Block>,
}

impl ResNet {
    pub(crate) fn new(config: &ResNetConfig, device: &Device) -> Result<Self, NetworkError> {
        let outermost = |size| match config.quantization.first_last {
            true => config.layer_quantizers(size),
            false => LayerQuantizers::default(),
        };
        let (kernel, stride) = match config.stem {
            Stem::Cifar => (3, 1),
            Stem::ImageNet => (7, 2),
        };
        let conv1 = QuantConv2dConfig {
            padding_after_quant: config.quantization.padding_after_quant,
            quantizers: outermost(config.input_size),
            ..QuantConv2dConfig::new([3, config.width()], kernel, stride)
        };
        let expansion = config.depth.block().expansion();
        let mut size = after_stem(config.stem, config.input_size);
        let mut inputs = config.width();
        let mut layers = Vec::new();
        for (stage, blocks) in config.depth.stages().iter().enumerate() {
            let width = config.width() << stage;
            let mut stage_blocks = Vec::new();
            for index in 0..*blocks {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let name = format!("layer{}.{index}", stage + 1);
                let place = Place { config, name, inputs, width, stride, size };
                stage_blocks.push(Block::new(&place, device)?);
                inputs = width * expansion;
                size = size.div_ceil(stride);
            }
            layers.push(Stage { blocks: stage_blocks });
        }
        let fc = QuantLinearConfig {
            quantizers: outermost(1),
            ..QuantLinearConfig::new([inputs, config.classes])
        };
        Ok(Self {
            conv1: conv1.init("conv1", device)?,
            bn1: BatchNorm2d::new(config.width(), device),
            layers,
            fc: fc.init("fc", device)?,
            config: config.clone(),
        })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Class scores.
    ///
    /// # Shapes
    /// - `x`: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn1.forward(self.conv1.forward(x)));
        if self.config.stem == Stem::ImageNet {
            let options = MaxPoolOptions {
                kernel_size: [3, 3],
                stride: [2, 2],
                padding: [(1, 1); 2],
                dilation: [1, 1],
                ceil_mode: false,
            };
            x = max_pool2d(x, options);
        }
        for stage in &self.layers {
            for block in &stage.blocks {
                x = block.forward(x);
            }
        }
        self.fc.forward(adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3))
    }
}

/// Side of what the stem makes of an input.
fn after_stem(stem: Stem, size: usize) -> usize {
    match stem {
        Stem::Cifar => size,
        Stem::ImageNet => size.div_ceil(2).div_ceil(2),
    }
}

impl QuantizedModule for ResNet {
    fn layers(&self) -> Vec<Visited<'_>> {
        let mut visited = Vec::new();
        let mut push = |path: &str, layer, input_size| {
            let name = self.pytorch_name(&format!("{path}.weight"));
            let name = name.trim_end_matches(".weight").to_owned();
            let index = visited.len();
            visited.push(Visited { index, name, layer, input_size });
        };
        push("conv1", Layer::Conv(&self.conv1), self.config.input_size);
        let mut size = after_stem(self.config.stem, self.config.input_size);
        for (stage, blocks) in self.layers.iter().enumerate() {
            for (index, block) in blocks.blocks.iter().enumerate() {
                let mut inner = size;
                for (part, conv) in block.convolutions() {
                    let path = format!("layers.{stage}.blocks.{index}.{part}");
                    let input = match (part, conv.stride, stage, index) {
                        // The pooled branch sees the pooled input, the strided one the block's.
                        ("downsample.conv", 1, 1.., 0) => size.div_ceil(2),
                        ("downsample.conv", ..) => size,
                        _ => inner,
                    };
                    push(&path, Layer::Conv(conv), input);
                    if part != "downsample.conv" {
                        inner = inner.div_ceil(conv.stride);
                    }
                }
                size = inner;
            }
        }
        push("fc", Layer::Linear(&self.fc), 1);
        visited
    }

    fn layers_mut(&mut self) -> Vec<LayerMut<'_>> {
        let blocks = self.layers.iter_mut().flat_map(|stage| stage.blocks.iter_mut());
        std::iter::once(LayerMut::Conv(&mut self.conv1))
            .chain(blocks.flat_map(Block::convolutions_mut).map(LayerMut::Conv))
            .chain(std::iter::once(LayerMut::Linear(&mut self.fc)))
            .collect()
    }
}

impl PytorchNames for ResNet {
    fn pytorch_name(&self, path: &str) -> String {
        let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        let in_block = parts.first().is_some_and(|part| part == "layers") && parts.len() > 4;
        if in_block {
            let stage: usize = parts[1].parse().unwrap_or_default();
            parts.splice(0..3, [format!("layer{}", stage + 1)]);
        }
        let part = if in_block { 2 } else { 0 };
        let keyword = self.config.names == NameStyle::Keyword;
        let names: Vec<&str> = match (parts[part].as_str(), parts.get(part + 1)) {
            ("downsample", Some(inner)) => match (keyword, inner.as_str()) {
                (false, "conv") => vec!["downsample", "0"],
                (false, _) => vec!["downsample", "1"],
                (true, "conv") => vec!["skip", "1"],
                (true, _) => vec!["skip", "2"],
            },
            (name, Some(_)) if keyword && (in_block || name == "bn1") && name != "fc" => {
                vec![name, "0"]
            }
            _ => return parts.join("."),
        };
        let replaced = if parts[part] == "downsample" { 2 } else { 1 };
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        parts.splice(part..part + replaced, names);
        parts.join(".")
    }
}
