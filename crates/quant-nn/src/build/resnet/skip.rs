//! The skips of residual blocks, and lossless downsampling in front of a block.

use super::spec::{BlockSpec, Shape};
use crate::{
    build::builder::{Builder, ConvSpec, NodeId},
    config::resnet::{DownsampleKind, NameStyle, Order},
    error::NetworkError,
    graph::Op,
};

/// Builds the skip, if it comes before the convolutions in the order of layers. Returns the input
/// of the convolutions, and the skip.
pub(super) fn skip_first(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    input: NodeId,
    shape: &Shape,
) -> Result<(NodeId, Option<NodeId>), NetworkError> {
    if block.skip_is_last() {
        return Ok((input, None));
    }
    let (x, skip) = residual(b, block, input, shape)?;
    Ok((x, Some(skip)))
}

/// Builds the lossless downsampling in front of a block.
pub(super) fn shrink(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    mut x: NodeId,
) -> Result<NodeId, NetworkError> {
    let config = block.config;
    let Some(lossless) = &config.lossless_downsample else {
        return Ok(x);
    };
    let kernel = if lossless.whole_block { 3 } else { 1 };
    for (index, letter) in lossless.order.chars().enumerate() {
        let name = block.at(&format!("shrink.{index}"));
        x = match letter {
            'c' => {
                let squares = b.op(x, Op::SpaceToDepth(block.stride));
                let quantized = !config.quantization.real_downsample;
                let conv = ConvSpec::new(block.width, kernel, 1).quantized(quantized);
                b.conv(squares, &format!("{name}.conv"), conv)?
            }
            'b' => b.norm(x, &name)?,
            _ => b.activation(x, &name),
        };
    }
    Ok(x)
}

/// Builds the skip. Returns the input of the convolutions, and the value that the skip adds.
fn residual(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    input: NodeId,
    shape: &Shape,
) -> Result<(NodeId, NodeId), NetworkError> {
    let config = block.config;
    let inputs = b.channels(input);
    let changes = shape.stride != 1 || inputs != shape.outputs || config.identity_norm;
    let mut x = input;
    if block.fixup_bias() {
        x = b.scalar(x, &block.at("fixup_bias1a"), Op::AddScalar, 0.0);
    }
    if !changes {
        return Ok((x, input));
    }
    let widens = inputs != shape.outputs;
    if config.downsample == DownsampleKind::Repeat && widens {
        let pooled = b.average_pool(x, shape.stride);
        return Ok((x, b.op(pooled, Op::Repeat(shape.outputs / inputs))));
    }
    let torchvision = config.names == NameStyle::Torchvision;
    // torchvision's branch begins with the convolution. In the keyword networks, index 0 is the
    // pooling.
    let mut index = usize::from(!torchvision);
    let mut next = || {
        index += 1;
        let branch = if torchvision { "downsample" } else { "skip" };
        block.at(&format!("{branch}.{}", index - 1))
    };
    let strided = config.downsample == DownsampleKind::StridedConv;
    let mut y = if strided && widens { x } else { b.average_pool(x, shape.stride) };
    if !widens {
        if config.identity_norm && block.has_norms() {
            y = b.norm(y, &next())?;
        }
        return Ok((x, y));
    }
    let stride = if strided { shape.stride } else { 1 };
    let padding = if strided { block.extra_padding(b.size(x), shape.stride) } else { 0 };
    let quantized = !config.quantization.real_downsample;
    let conv = ConvSpec { padding, ..ConvSpec::new(shape.outputs, 1, stride).quantized(quantized) };
    let letters = match (config.order, config.fix) {
        (Order::Bacs, false) => "bac",
        (Order::Bacs, true) => "bacb",
        (Order::Bcas, false) => "bca",
        (Order::Bcas, true) => "bcab",
        (_, false) => "cba",
        (_, true) => "cb",
    };
    for letter in letters.chars() {
        y = match letter {
            'c' => {
                let y = b.conv(y, &next(), conv)?;
                if let Some(deviation) = block.fixup_deviation(shape.outputs, 1, 0.0) {
                    b.redraw_last(deviation);
                }
                y
            }
            'b' if block.has_norms() => b.norm(y, &next())?,
            'a' => b.activation(y, &next()),
            _ => y,
        };
    }
    Ok((x, y))
}

/// Adds the skip, and builds the activation after the addition if there is one.
pub(super) fn join(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    y: NodeId,
    (input, early): (NodeId, Option<NodeId>),
    shape: &Shape,
) -> Result<NodeId, NetworkError> {
    let skip = match early {
        Some(skip) => skip,
        None => residual(b, block, input, shape)?.1,
    };
    let y = b.add(&[y, skip], &block.name)?;
    if !block.activation_behind() {
        return Ok(y);
    }
    Ok(b.activation(y, &block.at("fix_relu")))
}
