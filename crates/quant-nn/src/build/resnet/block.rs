//! The residual blocks.

use super::{
    skip::{join, shrink, skip_first},
    spec::{BlockSpec, Shape},
};
use crate::{
    build::builder::{Builder, ConvSpec, NodeId},
    config::resnet::{BlockKernel, PointReshape, SkipSpan},
    error::NetworkError,
    graph::Op,
};

/// A convolution of a block with its norm, activation and addition.
struct ConvUnit<'a> {
    /// The number in the names: 1 for `conv1` and `bn1`.
    number: usize,
    conv: ConvSpec,
    /// Point-wise-and-reshape that takes the place of the convolution.
    reshape: Option<PointReshape>,
    /// The value that is added at the letter s of the order.
    skip: Option<NodeId>,
    /// The name of a learned bias that is added there instead of a skip.
    bias: Option<&'a str>,
    activated: bool,
    /// The standard deviation of the initial weights. By default it is that of He et al.
    deviation: Option<f64>,
}

/// Builds a basic block: two 3x3 convolutions.
pub(super) fn basic(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    input: NodeId,
) -> Result<NodeId, NetworkError> {
    let config = block.config;
    let strided = block.stride != 1;
    let lossless = config.lossless_downsample.as_ref().filter(|_| strided);
    let mut shape = Shape { outputs: block.width, stride: block.stride };
    let mut x = input;
    if let Some(lossless) = lossless
        && (config.first_kernel != BlockKernel::Three || lossless.whole_block)
    {
        x = shrink(b, block, x)?;
        if lossless.whole_block {
            return Ok(x);
        }
        shape.stride = 1;
    }
    // The kernels of the configuration apply to these blocks only.
    let (first, second) = if lossless.is_some() || config.point_reshape.is_some() {
        (config.first_kernel, config.second_kernel)
    } else {
        (BlockKernel::Usual, BlockKernel::Usual)
    };
    let layer_wise = config.skip == SkipSpan::Layer && first != BlockKernel::None;
    let input = x;
    let (x, early) = skip_first(b, block, input, &shape)?;

    let size = b.size(x);
    let extra = block.extra_padding(size, shape.stride);
    let conv = |kernel: BlockKernel, stride, extra| {
        let side = if kernel == BlockKernel::One { 1 } else { 3 };
        let usual = ConvSpec::new(block.width, side, stride);
        ConvSpec { padding: usual.padding + extra, ..usual }
    };
    let reshape = |kernel: BlockKernel, stride: usize| {
        let keep = |reshape: &PointReshape| reshape.keep_downsample && stride != 1;
        config.point_reshape.filter(|reshape| kernel == BlockKernel::Usual && !keep(reshape))
    };
    let mut halves = vec![x; config.branches];
    for (branch, value) in halves.iter_mut().enumerate().filter(|_| first != BlockKernel::None) {
        let unit = ConvUnit {
            number: 1,
            conv: conv(first, shape.stride, extra),
            reshape: reshape(first, shape.stride),
            skip: early.filter(|_| layer_wise),
            bias: block.fixup_bias().then_some("fixup_bias1b"),
            activated: true,
            deviation: block.fixup_deviation(block.width, 3, -0.5),
        };
        *value = conv_unit(b, block, branch, *value, unit)?;
        if block.fixup_bias() {
            *value = b.scalar(*value, &block.at("fixup_bias2a"), Op::AddScalar, 0.0);
        }
    }
    for (branch, value) in halves.iter_mut().enumerate() {
        let unit = ConvUnit {
            number: 2,
            conv: conv(second, 1, 0),
            reshape: reshape(second, 1),
            skip: layer_wise.then_some(*value),
            bias: None,
            activated: !block.activation_behind(),
            deviation: config.fixup.map(|_| 0.0),
        };
        *value = conv_unit(b, block, branch, *value, unit)?;
    }
    let y = sum_branches(b, block, &halves)?;
    let y = tail(b, block, y, layer_wise)?;
    if layer_wise {
        return Ok(y);
    }
    join(b, block, y, (input, early), &shape)
}

/// Builds a bottleneck: a 1x1 convolution, a 3x3 convolution with the stride, and a 1x1 convolution
/// to four times the channels.
pub(super) fn bottleneck(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    input: NodeId,
) -> Result<NodeId, NetworkError> {
    let config = block.config;
    let shape = Shape { outputs: 4 * block.width, stride: block.stride };
    let (x, early) = skip_first(b, block, input, &shape)?;
    let inner = block.width * config.width_per_group / 64 * config.groups;
    let extra = block.extra_padding(b.size(x), block.stride);
    let keep = |reshape: &PointReshape| reshape.keep_downsample && block.stride != 1;
    let middle = ConvSpec {
        groups: config.groups,
        padding: 1 + extra,
        ..ConvSpec::new(inner, 3, block.stride)
    };
    let quarter = |kernel, outputs| block.fixup_deviation(outputs, kernel, -0.25);
    let parts = [
        (ConvSpec::new(inner, 1, 1), None, "fixup_bias1b", quarter(1, inner)),
        (middle, config.point_reshape.filter(|r| !keep(r)), "fixup_bias2b", quarter(3, inner)),
        (ConvSpec::new(shape.outputs, 1, 1), None, "", config.fixup.map(|_| 0.0)),
    ];
    let mut branches = vec![x; config.branches];
    for (index, (conv, reshape, bias, deviation)) in parts.into_iter().enumerate() {
        let last = index == 2;
        for (branch, value) in branches.iter_mut().enumerate() {
            let unit = ConvUnit {
                number: index + 1,
                conv,
                reshape,
                skip: None,
                bias: (block.fixup_bias() && !last).then_some(bias),
                activated: !last || !block.activation_behind(),
                deviation,
            };
            *value = conv_unit(b, block, branch, *value, unit)?;
            if block.fixup_bias() && !last {
                let name = block.at(&format!("fixup_bias{}a", index + 2));
                *value = b.scalar(*value, &name, Op::AddScalar, 0.0);
            }
        }
    }
    let y = sum_branches(b, block, &branches)?;
    let y = tail(b, block, y, false)?;
    join(b, block, y, (input, early), &shape)
}

/// Builds a convolution with its norm, activation and addition, in the configured order.
fn conv_unit(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    branch: usize,
    x: NodeId,
    unit: ConvUnit<'_>,
) -> Result<NodeId, NetworkError> {
    let number = unit.number;
    let name = |what: &str| block.branch(&format!("{what}{number}"), branch);
    let restored = unit.reshape.is_some_and(|reshape| reshape.norm_before_restore);
    let mut y = x;
    for letter in block.config.order.letters().chars() {
        y = match letter {
            'c' => {
                let y = match unit.reshape {
                    Some(reshape) => b.point_reshape(y, &name("conv"), unit.conv, reshape)?,
                    None => b.conv(y, &name("conv"), unit.conv)?,
                };
                if let Some(deviation) = unit.deviation {
                    b.redraw_last(deviation);
                }
                y
            }
            'b' if block.has_norms() && !restored => b.norm(y, &name("bn"))?,
            'a' if unit.activated => b.activation(y, &name("relu")),
            's' => match (unit.skip, unit.bias) {
                (Some(skip), _) => b.add(&[y, skip], &block.name)?,
                (None, Some(bias)) => b.scalar(y, &block.at(bias), Op::AddScalar, 0.0),
                (None, None) => y,
            },
            _ => y,
        };
    }
    Ok(y)
}

/// Adds the branches. If there are several, each is multiplied by a learned scale.
fn sum_branches(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    branches: &[NodeId],
) -> Result<NodeId, NetworkError> {
    let [_, _, ..] = branches else {
        return b.add(branches, &block.name);
    };
    let initial = 1.0 / branches.len() as f64;
    let scaled: Vec<NodeId> = (branches.iter().enumerate())
        .map(|(branch, value)| {
            b.scalar(*value, &block.at(&format!("scales.{branch}")), Op::MulScalar, initial)
        })
        .collect();
    b.add(&scaled, &block.name)
}

/// Builds what follows the convolutions: Fixup's scale and bias, and the final norm.
fn tail(
    b: &mut Builder<'_>,
    block: &BlockSpec<'_>,
    mut y: NodeId,
    layer_wise: bool,
) -> Result<NodeId, NetworkError> {
    let config = block.config;
    if config.fixup.is_some() {
        y = b.scalar(y, &block.at("fixup_scale"), Op::MulScalar, 1.0);
        if block.fixup_bias() {
            let last = if config.depth.block().expansion() > 1 { 3 } else { 2 };
            y = b.scalar(y, &block.at(&format!("fixup_bias{last}b")), Op::AddScalar, 0.0);
        }
    }
    let final_norm = config.fix && config.order.norm_first() && block.has_norms() && !layer_wise;
    if final_norm {
        y = b.norm(y, &block.at("fix_bn"))?;
    }
    if config.zero_init_residual {
        b.zero_last_norms(if final_norm { 1 } else { config.branches });
    }
    Ok(y)
}
