//! Layers that compute each number from one number, which are applied where it is produced.

use alloc::{boxed::Box, vec::Vec};

use quant_kernels::simd::InstructionSet;

use super::{coder::Coder, per_channel::PerChannel};
use crate::model::Op;

/// A layer that computes each number from the number at the same place.
#[derive(Debug, Clone)]
pub(super) enum Link {
    /// x + number, per channel: the bias of a convolution.
    Bias(PerChannel),
    Affine {
        scale: PerChannel,
        shift: PerChannel,
    },
    AddScalar(f32),
    MulScalar(f32),
    Relu,
    Relu6,
    LeakyRelu(f32),
    RPRelu {
        before: PerChannel,
        slope: PerChannel,
        after: PerChannel,
    },
    /// The value of the code.
    Quantize(Box<Coder>),
    /// The sum with the number of a stored value.
    Add(usize),
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

#[inline(always)]
fn relu6(x: f32) -> f32 {
    let x = relu(x);
    if x > 6.0 { 6.0 } else { x }
}

#[inline(always)]
fn leaky_relu(x: f32, slope: f32) -> f32 {
    if x > 0.0 { x } else { x * slope }
}

#[inline(always)]
fn rprelu(x: f32, before: f32, slope: f32, after: f32) -> f32 {
    leaky_relu(x - before, slope) + after
}

impl Link {
    /// Returns the link of a layer, if it is one that has a link and one input.
    pub(super) fn new(op: &Op, channels: usize) -> Option<Self> {
        let per = |numbers: &Vec<f32>| PerChannel::new(numbers);
        Some(match op {
            Op::Affine { scale, shift } => Self::Affine { scale: per(scale), shift: per(shift) },
            Op::AddScalar(number) => Self::AddScalar(*number),
            Op::MulScalar(number) => Self::MulScalar(*number),
            Op::Relu => Self::Relu,
            Op::Relu6 => Self::Relu6,
            Op::LeakyRelu(slope) => Self::LeakyRelu(*slope),
            Op::RPRelu { before, slope, after } => {
                Self::RPRelu { before: per(before), slope: per(slope), after: per(after) }
            }
            Op::Quantize(quantizer) => Self::Quantize(Box::new(Coder::new(quantizer, channels))),
            _ => return None,
        })
    }

    /// Returns what the link makes of a number of a channel, or `None` for a sum of two values.
    pub(super) fn of(&self, channel: usize, x: f32) -> Option<f32> {
        Some(match self {
            Self::Bias(bias) => x + bias.of(channel),
            Self::Affine { scale, shift } => x * scale.of(channel) + shift.of(channel),
            Self::AddScalar(number) => x + number,
            Self::MulScalar(number) => x * number,
            Self::Relu => relu(x),
            Self::Relu6 => relu6(x),
            Self::LeakyRelu(slope) => leaky_relu(x, *slope),
            Self::RPRelu { before, slope, after } => {
                rprelu(x, before.of(channel), slope.of(channel), after.of(channel))
            }
            Self::Quantize(coder) => coder.value(channel, x),
            Self::Add(_) => return None,
        })
    }

    /// Returns whether larger numbers always become larger or equal numbers, or always smaller or
    /// equal ones.
    pub(super) fn is_monotone(&self) -> bool {
        match self {
            Self::LeakyRelu(slope) => *slope >= 0.0,
            Self::RPRelu { slope, .. } => slope.all(|slope| slope >= 0.0),
            Self::Add(_) => false,
            _ => true,
        }
    }

    /// Applies the link to the numbers of a chunk, `[positions, channels]`. `other` has the other
    /// numbers of a sum.
    pub(super) fn apply(&self, set: InstructionSet, x: &mut [f32], other: &[f32]) {
        match self {
            Self::Bias(bias) => set.vectorize(
                #[inline(always)]
                || zip(x, [bias], |x, [bias]| x + bias),
            ),
            Self::Affine { scale, shift } => set.vectorize(
                #[inline(always)]
                || zip(x, [scale, shift], |x, [scale, shift]| x * scale + shift),
            ),
            Self::AddScalar(number) => set.vectorize(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x += number),
            ),
            Self::MulScalar(number) => set.vectorize(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x *= number),
            ),
            Self::Relu => set.vectorize(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x = relu(*x)),
            ),
            Self::Relu6 => set.vectorize(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x = relu6(*x)),
            ),
            Self::LeakyRelu(slope) => set.vectorize(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x = leaky_relu(*x, *slope)),
            ),
            Self::RPRelu { before, slope, after } => set.vectorize(
                #[inline(always)]
                || {
                    zip(x, [before, slope, after], |x, [before, slope, after]| {
                        rprelu(x, before, slope, after)
                    });
                },
            ),
            Self::Quantize(coder) => coder.values(set, x),
            Self::Add(_) => set.vectorize(
                #[inline(always)]
                || x.iter_mut().zip(other).for_each(|(x, other)| *x += other),
            ),
        }
    }
}

/// Replaces each number by f of it and the numbers of its channel.
#[inline(always)]
fn zip<const N: usize>(x: &mut [f32], numbers: [&PerChannel; N], f: impl Fn(f32, [f32; N]) -> f32) {
    let numbers = numbers.map(|numbers| numbers.repeated(x.len()));
    for (index, x) in x.iter_mut().enumerate() {
        *x = f(*x, numbers.map(|numbers| numbers[index]));
    }
}
