//! A residual network: stem, stages and head.

use burn::tensor::Device;

use super::{
    block::{basic, bottleneck},
    spec::BlockSpec,
};
use crate::{
    build::builder::{Builder, ConvSpec, LayerPosition, NodeId},
    config::{
        FirstLast,
        resnet::{BlockKind, NameStyle, ResNetConfig, Stem},
    },
    error::NetworkError,
    graph::Op,
    network::Network,
};

impl ResNetConfig {
    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// The errors of [`validate`](Self::validate), and of quantizers that do not fit a layer.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let stem = stem(&mut builder, self)?;
        let body = stages(&mut builder, self, stem)?;
        head(&mut builder, self, body)?;
        Ok(builder.finish(self.clone().into()))
    }
}

fn stem(b: &mut Builder<'_>, config: &ResNetConfig) -> Result<NodeId, NetworkError> {
    let width = config.width();
    let conv = |kernel, stride| ConvSpec::new(width, kernel, stride).at(LayerPosition::First);
    // In the reference the convolution of these stems never has the quantizers of the other layers.
    let like_others = config.quantization.first_last == FirstLast::LikeOthers;
    let of_squares = |kernel| conv(kernel, 1).quantized(!like_others);
    let mut x = b.input();
    x = match config.stem {
        Stem::Cifar => b.conv(x, "conv1", conv(3, 1))?,
        Stem::ImageNet => b.conv(x, "conv1", conv(7, 2))?,
        Stem::SpaceToDepth(kernel) => {
            let squares = b.op(x, Op::SpaceToDepth(4));
            b.conv(squares, "conv1.conv", of_squares(kernel))?
        }
        Stem::SpaceToDepthMaxPool(kernel) => {
            let squares = b.op(x, Op::SpaceToDepth(2));
            b.conv(squares, "conv1.conv", of_squares(kernel))?
        }
    };
    if !config.norm_before_pool {
        x = pool(b, config, x);
    }
    if let Some(fixup) = config.fixup {
        if fixup.bias {
            x = b.scalar(x, "fixup_bias1", Op::AddScalar, 0.0);
        }
        x = b.activation(x, "relu");
    } else if !config.pre_norm || config.pre_norm_stem && config.norm_before_pool {
        let (norm, activation) = match config.names {
            NameStyle::Torchvision => ("bn1", "relu"),
            NameStyle::Keyword => ("bn1.0", "bn1.1"),
        };
        x = b.norm(x, norm)?;
        if !config.linear_stem {
            x = b.activation(x, activation);
        }
    }
    if config.norm_before_pool {
        x = pool(b, config, x);
    }
    Ok(x)
}

fn pool(b: &mut Builder<'_>, config: &ResNetConfig, x: NodeId) -> NodeId {
    match config.stem {
        Stem::Cifar | Stem::SpaceToDepth(_) => x,
        Stem::ImageNet | Stem::SpaceToDepthMaxPool(_) => {
            let (padding, ceil_mode) = if config.caffe_pooling { (0, true) } else { (1, false) };
            b.op(x, Op::MaxPool { kernel_size: 3, stride: 2, padding, ceil_mode })
        }
    }
}

fn stages(
    b: &mut Builder<'_>,
    config: &ResNetConfig,
    mut x: NodeId,
) -> Result<NodeId, NetworkError> {
    for (stage, blocks) in config.depth.stages().iter().enumerate() {
        for index in 0..*blocks {
            let name = format!("layer{}.{index}", stage + 1);
            b.enter(&name);
            let block = BlockSpec {
                config,
                name,
                width: config.width() << stage,
                stride: if stage > 0 && index == 0 { 2 } else { 1 },
            };
            x = match config.depth.block() {
                BlockKind::Basic => basic(b, &block, x)?,
                BlockKind::Bottleneck => bottleneck(b, &block, x)?,
            };
        }
    }
    b.enter("");
    Ok(x)
}

fn head(b: &mut Builder<'_>, config: &ResNetConfig, mut x: NodeId) -> Result<(), NetworkError> {
    if config.pre_norm && config.fixup.is_none() {
        x = b.norm(x, "bn2.0")?;
        if config.pre_norm_stem {
            x = b.activation(x, "bn2.1");
        }
    }
    x = b.op(x, Op::GlobalPool);
    if config.fixup.is_some_and(|fixup| fixup.bias) {
        x = b.scalar(x, "fixup_bias2", Op::AddScalar, 0.0);
    }
    b.classifier(x, "fc", config.classes)?;
    if config.fixup.is_some() {
        b.redraw_last(0.0);
    }
    Ok(())
}
