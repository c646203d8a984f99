//! The residual blocks.

use super::{
    choices::{DownsampleKind, Kernel, NameStyle, Order, PointReshape, SkipSpan},
    config::ResNetConfig,
};
use crate::{
    builder::{Builder, Conv, Value},
    error::NetworkError,
    graph::Op,
};

/// Where a block stands.
pub(super) struct Place<'a> {
    pub(super) config: &'a ResNetConfig,
    /// PyTorch name, such as `layer1.0`.
    pub(super) name: String,
    pub(super) width: usize,
    pub(super) stride: usize,
}

/// One convolution of a block, and what surrounds it.
struct Part<'a> {
    /// `conv1`, `bn1`, ... of this number.
    number: usize,
    conv: Conv,
    /// Point-wise-and-reshape in its place.
    reshape: Option<PointReshape>,
    /// Added where the order has an s.
    skip: Option<Value>,
    /// A learned bias there instead.
    bias: Option<&'a str>,
    activated: bool,
    /// Deviation of the initial weights; He's if none.
    deviation: Option<f64>,
}

/// What a block does to its input's shape.
struct Shape {
    outputs: usize,
    stride: usize,
}

impl Place<'_> {
    fn at(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// PyTorch name of the branch `branch` of a part, such as `conv1`.
    fn branch(&self, part: &str, branch: usize) -> String {
        match (self.config.names, self.config.branches) {
            (NameStyle::Torchvision, 1) => self.at(part),
            _ => self.at(&format!("{part}.{branch}")),
        }
    }

    fn has_norms(&self) -> bool {
        self.config.fixup.is_none()
    }

    fn fixup_bias(&self) -> bool {
        self.config.fixup.is_some_and(|fixup| fixup.bias)
    }

    /// Whether the last activation stands behind the final addition.
    fn activation_behind(&self) -> bool {
        let order = matches!(self.config.order, Order::Cbas | Order::Cbsa);
        self.config.fix && order && self.config.skip == SkipSpan::Block
    }

    /// Whether the skip branch is made after the convolutions: torchvision registers it, and so counts its
    /// layers, last.
    fn skip_is_last(&self) -> bool {
        let plain = self.config.skip == SkipSpan::Block && self.config.fixup.is_none();
        plain && self.config.names == NameStyle::Torchvision
    }

    /// What strided convolutions are padded by beside the usual.
    fn extra_padding(&self, size: usize, stride: usize) -> usize {
        if stride == 1 {
            return 0;
        }
        let rest = size % (2 * stride);
        match self.config.point_reshape {
            Some(_) if rest != 0 => (2 * stride - rest) / 2,
            _ => usize::from(self.config.extra_padding && size == 14),
        }
    }

    /// He's deviation times S^power, S being the number of blocks' stages.
    fn fixup_deviation(&self, outputs: usize, kernel: usize, power: f64) -> Option<f64> {
        self.config.fixup?;
        let stages = self.config.depth.stages().len() as f64;
        let he = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        Some(he * stages.powf(power))
    }
}

/// Two 3x3 convolutions.
pub(super) fn basic(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    input: Value,
) -> Result<Value, NetworkError> {
    let config = place.config;
    let strided = place.stride != 1;
    let lossless = config.lossless_downsample.as_ref().filter(|_| strided);
    let mut shape = Shape { outputs: place.width, stride: place.stride };
    let mut x = input;
    if let Some(lossless) = lossless
        && (config.first_kernel != Kernel::Three || lossless.whole_block)
    {
        x = shrink(b, place, x)?;
        if lossless.whole_block {
            return Ok(x);
        }
        shape.stride = 1;
    }
    // Which convolutions the kernels of the configuration are about.
    let (first, second) = match lossless.is_some() || config.point_reshape.is_some() {
        true => (config.first_kernel, config.second_kernel),
        false => (Kernel::Usual, Kernel::Usual),
    };
    let layer_wise = config.skip == SkipSpan::Layer && first != Kernel::None;
    let input = x;
    let (x, early) = skip_first(b, place, input, &shape)?;

    let size = b.size(x);
    let extra = place.extra_padding(size, shape.stride);
    let conv = |kernel: Kernel, stride, extra| {
        let side = if kernel == Kernel::One { 1 } else { 3 };
        let usual = Conv::new(place.width, side, stride);
        Conv { padding: usual.padding + extra, ..usual }
    };
    let reshape = |kernel: Kernel, stride: usize| {
        let keep = |reshape: &PointReshape| reshape.keep_downsample && stride != 1;
        config.point_reshape.filter(|reshape| kernel == Kernel::Usual && !keep(reshape))
    };
    let mut halves = vec![x; config.branches];
    for (branch, value) in halves.iter_mut().enumerate().filter(|_| first != Kernel::None) {
        let part = Part {
            number: 1,
            conv: conv(first, shape.stride, extra),
            reshape: reshape(first, shape.stride),
            skip: early.filter(|_| layer_wise),
            bias: place.fixup_bias().then_some("fixup_bias1b"),
            activated: true,
            deviation: place.fixup_deviation(place.width, 3, -0.5),
        };
        *value = half(b, place, branch, *value, part)?;
        if place.fixup_bias() {
            *value = b.scalar(*value, &place.at("fixup_bias2a"), Op::AddScalar, 0.0);
        }
    }
    for (branch, value) in halves.iter_mut().enumerate() {
        let part = Part {
            number: 2,
            conv: conv(second, 1, 0),
            reshape: reshape(second, 1),
            skip: layer_wise.then_some(*value),
            bias: None,
            activated: !place.activation_behind(),
            deviation: config.fixup.map(|_| 0.0),
        };
        *value = half(b, place, branch, *value, part)?;
    }
    let y = sum_branches(b, place, &halves)?;
    let y = tail(b, place, y, layer_wise)?;
    match layer_wise {
        true => Ok(y),
        false => join(b, place, y, (input, early), &shape),
    }
}

/// 1x1, 3x3 with the stride, 1x1 to four times the channels.
pub(super) fn bottleneck(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    input: Value,
) -> Result<Value, NetworkError> {
    let config = place.config;
    let shape = Shape { outputs: 4 * place.width, stride: place.stride };
    let (x, early) = skip_first(b, place, input, &shape)?;
    let inner = place.width * config.width_per_group / 64 * config.groups;
    let extra = place.extra_padding(b.size(x), place.stride);
    let keep = |reshape: &PointReshape| reshape.keep_downsample && place.stride != 1;
    let middle =
        Conv { groups: config.groups, padding: 1 + extra, ..Conv::new(inner, 3, place.stride) };
    let quarter = |kernel, outputs| place.fixup_deviation(outputs, kernel, -0.25);
    let parts = [
        (Conv::new(inner, 1, 1), None, "fixup_bias1b", quarter(1, inner)),
        (middle, config.point_reshape.filter(|r| !keep(r)), "fixup_bias2b", quarter(3, inner)),
        (Conv::new(shape.outputs, 1, 1), None, "", config.fixup.map(|_| 0.0)),
    ];
    let mut branches = vec![x; config.branches];
    for (index, (conv, reshape, bias, deviation)) in parts.into_iter().enumerate() {
        let last = index == 2;
        for (branch, value) in branches.iter_mut().enumerate() {
            let part = Part {
                number: index + 1,
                conv,
                reshape,
                skip: None,
                bias: (place.fixup_bias() && !last).then_some(bias),
                activated: !last || !place.activation_behind(),
                deviation,
            };
            *value = half(b, place, branch, *value, part)?;
            if place.fixup_bias() && !last {
                let name = place.at(&format!("fixup_bias{}a", index + 2));
                *value = b.scalar(*value, &name, Op::AddScalar, 0.0);
            }
        }
    }
    let y = sum_branches(b, place, &branches)?;
    let y = tail(b, place, y, false)?;
    join(b, place, y, (input, early), &shape)
}

/// The block's input, and its skip where that is made before the convolutions.
fn skip_first(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    input: Value,
    shape: &Shape,
) -> Result<(Value, Option<Value>), NetworkError> {
    if place.skip_is_last() {
        return Ok((input, None));
    }
    let (x, skip) = residual(b, place, input, shape)?;
    Ok((x, Some(skip)))
}

/// One convolution with its norm, activation and addition, in the configured order.
fn half(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    branch: usize,
    x: Value,
    part: Part<'_>,
) -> Result<Value, NetworkError> {
    let number = part.number;
    let name = |what: &str| place.branch(&format!("{what}{number}"), branch);
    let restored = part.reshape.is_some_and(|reshape| reshape.norm_before_restore);
    let mut y = x;
    for letter in place.config.order.letters().chars() {
        y = match letter {
            'c' => {
                let y = match part.reshape {
                    Some(reshape) => b.point_reshape(y, &name("conv"), part.conv, reshape)?,
                    None => b.conv(y, &name("conv"), part.conv)?,
                };
                if let Some(deviation) = part.deviation {
                    b.redraw_last(deviation);
                }
                y
            }
            'b' if place.has_norms() && !restored => b.norm(y, &name("bn"))?,
            'a' if part.activated => b.activation(y, &name("relu")),
            's' => match (part.skip, part.bias) {
                (Some(skip), _) => b.add(&[y, skip], &place.name)?,
                (None, Some(bias)) => b.scalar(y, &place.at(bias), Op::AddScalar, 0.0),
                (None, None) => y,
            },
            _ => y,
        };
    }
    Ok(y)
}

/// Lossless downsampling in front of a block.
fn shrink(b: &mut Builder<'_>, place: &Place<'_>, mut x: Value) -> Result<Value, NetworkError> {
    let config = place.config;
    let Some(lossless) = &config.lossless_downsample else {
        return Ok(x);
    };
    let kernel = if lossless.whole_block { 3 } else { 1 };
    for (index, letter) in lossless.order.chars().enumerate() {
        let name = place.at(&format!("shrink.{index}"));
        x = match letter {
            'c' => {
                let squares = b.op(x, Op::SpaceToDepth(place.stride));
                let quantized = !config.quantization.real_downsample;
                let conv = Conv { quantized, ..Conv::new(place.width, kernel, 1) };
                b.conv(squares, &format!("{name}.conv"), conv)?
            }
            'b' => b.norm(x, &name)?,
            _ => b.activation(x, &name),
        };
    }
    Ok(x)
}

/// The block's input, and what its skip adds.
fn residual(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    input: Value,
    shape: &Shape,
) -> Result<(Value, Value), NetworkError> {
    let config = place.config;
    let inputs = b.channels(input);
    let changes = shape.stride != 1 || inputs != shape.outputs || config.identity_norm;
    let mut x = input;
    if place.fixup_bias() {
        x = b.scalar(x, &place.at("fixup_bias1a"), Op::AddScalar, 0.0);
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
    // torchvision's branch has the convolution first; the keyword networks keep a place for the pool.
    let mut index = usize::from(!torchvision);
    let mut next = || {
        index += 1;
        match torchvision {
            true => place.at(&format!("downsample.{}", index - 1)),
            false => place.at(&format!("skip.{}", index - 1)),
        }
    };
    let strided = config.downsample == DownsampleKind::StridedConv;
    let mut y = if strided && widens { x } else { b.average_pool(x, shape.stride) };
    if !widens {
        if config.identity_norm && place.has_norms() {
            y = b.norm(y, &next())?;
        }
        return Ok((x, y));
    }
    let stride = if strided { shape.stride } else { 1 };
    let padding = if strided { place.extra_padding(b.size(x), shape.stride) } else { 0 };
    let quantized = !config.quantization.real_downsample;
    let conv = Conv { padding, quantized, ..Conv::new(shape.outputs, 1, stride) };
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
                if let Some(deviation) = place.fixup_deviation(shape.outputs, 1, 0.0) {
                    b.redraw_last(deviation);
                }
                y
            }
            'b' if place.has_norms() => b.norm(y, &next())?,
            'a' => b.activation(y, &next()),
            _ => y,
        };
    }
    Ok((x, y))
}

/// The branches' sum, with a learned scale each where there are several.
fn sum_branches(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    branches: &[Value],
) -> Result<Value, NetworkError> {
    let [_, _, ..] = branches else {
        return b.add(branches, &place.name);
    };
    let initial = 1.0 / branches.len() as f64;
    let scaled: Vec<Value> = (branches.iter().enumerate())
        .map(|(branch, value)| {
            b.scalar(*value, &place.at(&format!("scales.{branch}")), Op::MulScalar, initial)
        })
        .collect();
    b.add(&scaled, &place.name)
}

/// What stands behind the convolutions: Fixup's scale, the final norm.
fn tail(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    mut y: Value,
    layer_wise: bool,
) -> Result<Value, NetworkError> {
    let config = place.config;
    if config.fixup.is_some() {
        y = b.scalar(y, &place.at("fixup_scale"), Op::MulScalar, 1.0);
        if place.fixup_bias() {
            let last = if config.depth.block().expansion() > 1 { 3 } else { 2 };
            y = b.scalar(y, &place.at(&format!("fixup_bias{last}b")), Op::AddScalar, 0.0);
        }
    }
    let final_norm = config.fix && config.order.norm_first() && place.has_norms() && !layer_wise;
    if final_norm {
        y = b.norm(y, &place.at("fix_bn"))?;
    }
    if config.zero_init_residual {
        b.zero_last_norms(if final_norm { 1 } else { config.branches });
    }
    Ok(y)
}

/// Adds the skip, and what stands behind.
fn join(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    y: Value,
    (input, early): (Value, Option<Value>),
    shape: &Shape,
) -> Result<Value, NetworkError> {
    let skip = match early {
        Some(skip) => skip,
        None => residual(b, place, input, shape)?.1,
    };
    let y = b.add(&[y, skip], &place.name)?;
    Ok(match place.activation_behind() {
        true => b.activation(y, &place.at("fix_relu")),
        false => y,
    })
}
