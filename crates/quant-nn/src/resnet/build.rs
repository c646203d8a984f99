//! Stem, stages and head.

use burn::tensor::Device;

use super::{
    block::{self, Place},
    choices::{BlockKind, Stem},
    config::ResNetConfig,
};
use crate::{
    builder::{Builder, Conv, Value},
    error::NetworkError,
    graph::Op,
    network::Network,
};

pub(super) fn network(config: &ResNetConfig, device: &Device) -> Result<Network, NetworkError> {
    let quantization = &config.quantization;
    let layers = (config.norm, config.activation);
    let mut builder = Builder::new(device, quantization, layers, config.input_size);
    let stem = stem(&mut builder, config)?;
    let body = stages(&mut builder, config, stem)?;
    head(&mut builder, config, body)?;
    Ok(Network::new(builder, config.clone().into()))
}

fn stem(b: &mut Builder<'_>, config: &ResNetConfig) -> Result<Value, NetworkError> {
    let width = config.width();
    let outermost = |conv: Conv| Conv { quantized: config.quantization.first_last, ..conv };
    let mut x = b.input();
    x = match config.stem {
        Stem::Cifar => b.conv(x, "conv1", outermost(Conv::new(width, 3, 1)))?,
        Stem::ImageNet => b.conv(x, "conv1", outermost(Conv::new(width, 7, 2)))?,
        Stem::SpaceToDepth(kernel) => {
            let squares = b.op(x, Op::SpaceToDepth(4));
            b.conv(squares, "conv1.conv", Conv::new(width, kernel, 1).real())?
        }
        Stem::SpaceToDepthMaxPool(kernel) => {
            let squares = b.op(x, Op::SpaceToDepth(2));
            b.conv(squares, "conv1.conv", Conv::new(width, kernel, 1).real())?
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
            super::NameStyle::Torchvision => ("bn1", "relu"),
            super::NameStyle::Keyword => ("bn1.0", "bn1.1"),
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

fn pool(b: &mut Builder<'_>, config: &ResNetConfig, x: Value) -> Value {
    match config.stem {
        Stem::Cifar | Stem::SpaceToDepth(_) => x,
        Stem::ImageNet | Stem::SpaceToDepthMaxPool(_) => {
            let (padding, ceil) = if config.caffe_pooling { (0, true) } else { (1, false) };
            b.op(x, Op::MaxPool { kernel: 3, stride: 2, padding, ceil })
        }
    }
}

fn stages(b: &mut Builder<'_>, config: &ResNetConfig, mut x: Value) -> Result<Value, NetworkError> {
    for (stage, blocks) in config.depth.stages().iter().enumerate() {
        for index in 0..*blocks {
            let name = format!("layer{}.{index}", stage + 1);
            b.enter(&name);
            let place = Place {
                config,
                name,
                width: config.width() << stage,
                stride: if stage > 0 && index == 0 { 2 } else { 1 },
            };
            x = match config.depth.block() {
                BlockKind::Basic => block::basic(b, &place, x)?,
                BlockKind::Bottleneck => block::bottleneck(b, &place, x)?,
            };
        }
    }
    b.enter("");
    Ok(x)
}

fn head(b: &mut Builder<'_>, config: &ResNetConfig, mut x: Value) -> Result<(), NetworkError> {
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
    b.linear(x, "fc", config.classes, config.quantization.first_last)?;
    if config.fixup.is_some() {
        b.redraw_last(0.0);
    }
    Ok(())
}
