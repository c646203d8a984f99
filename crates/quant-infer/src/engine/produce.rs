//! Layers without numbers of their own, which read stored values `[height, width, channels]`.

use alloc::vec::Vec;
use core::ops::Range;

use quant_kernels::{simd::InstructionSet, square_root};

use super::coder::Coder;
use crate::model::{Dynamic, Op, Pool};

/// A stored value.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) numbers: &'a [f32],
    /// Channels, height and width.
    pub(super) shape: [usize; 3],
    /// The bits of the index of a row that say where it lies.
    pub(super) row_mask: usize,
}

impl<'a> Stored<'a> {
    /// Returns the numbers of a position.
    #[inline(always)]
    fn at(&self, y: usize, x: usize) -> &'a [f32] {
        let [channels, _, width] = self.shape;
        &self.numbers[((y & self.row_mask) * width + x) * channels..][..channels]
    }

    /// Returns the numbers of a channel by row and column.
    fn channel(&self, channel: usize) -> impl Iterator<Item = f32> + Clone + 'a {
        self.numbers.chunks_exact(self.shape[0]).map(move |position| position[channel])
    }
}

/// The part of a layer that depends on the whole image.
#[derive(Debug, Clone, Default)]
pub(super) struct Statistics {
    /// Of each group, channel or position, as the layer needs.
    pub(super) numbers: Vec<[f32; 2]>,
}

/// Returns the sums of f over groups of channels, in the order channel, row, column.
fn sums(
    value: Stored<'_>,
    groups: usize,
    f: impl Fn(usize, f32) -> f64,
) -> impl Iterator<Item = f64> {
    let channels = value.shape[0] / groups;
    (0..groups).map(move |group| {
        (group * channels..(group + 1) * channels)
            .flat_map(|channel| value.channel(channel))
            .fold(0.0, |sum, x| sum + f(group, x))
    })
}

/// Computes the means and variances of groups of channels. The squares are divided by `count` less
/// `less`, where count is the number of elements of a group.
fn moments(statistics: &mut Statistics, value: Stored<'_>, groups: usize, less: usize) {
    let count = value.numbers.len() / groups;
    for (group, sum) in sums(value, groups, |_, x| f64::from(x)).enumerate() {
        let mean = sum / count as f64;
        let channels = value.shape[0] / groups;
        let squares = (group * channels..(group + 1) * channels)
            .flat_map(|channel| value.channel(channel))
            .fold(0.0, |sum, x| sum + (f64::from(x) - mean) * (f64::from(x) - mean));
        let variance = if count > less { squares / (count - less) as f64 } else { 0.0 };
        statistics.numbers.push([mean as f32, variance as f32]);
    }
}

impl Statistics {
    /// Computes what a quantizer needs to know about the image.
    pub(super) fn of_quantizer(&mut self, dynamic: Dynamic, value: Stored<'_>) {
        self.numbers.clear();
        let [channels, height, width] = value.shape;
        match dynamic {
            Dynamic::None => {}
            Dynamic::MeanOverChannels => {
                self.numbers.extend(value.numbers.chunks_exact(channels).map(|position| {
                    let sum = position.iter().fold(0.0, |sum, x| sum + f64::from(x.abs()));
                    [(sum / channels as f64) as f32, 0.0]
                }));
            }
            Dynamic::MeanOverPositions => {
                let count = (height * width) as f64;
                let sums = sums(value, channels, |_, x| f64::from(x.abs()));
                self.numbers.extend(sums.map(|sum| [(sum / count) as f32, 0.0]));
            }
            Dynamic::Mean => {
                moments(self, value, 1, 0);
                let [mean, _] = self.numbers[0];
                self.numbers[0] = [mean + 1e-5, 0.0];
            }
            Dynamic::Deviation => {
                moments(self, value, 1, 1);
                let [_, variance] = self.numbers[0];
                self.numbers[0] = [square_root(variance) + 1e-5, 0.0];
            }
        }
    }

    /// Computes what a layer needs to know about the image.
    pub(super) fn of_layer(&mut self, op: &Op, value: Stored<'_>) {
        self.numbers.clear();
        if let Op::GroupNorm(groups) = op {
            moments(self, value, *groups, 0);
            for [_, variance] in &mut self.numbers {
                *variance = square_root(*variance + 1e-5);
            }
        }
    }
}

/// Writes the codes of a quantizer's numbers at a range of positions, `[positions, channels]`.
pub(super) fn dynamic_codes(
    coder: &Coder,
    statistics: &Statistics,
    value: Stored<'_>,
    positions: Range<usize>,
    mut write: impl FnMut(usize, usize, u8),
) {
    let channels = value.shape[0];
    let factor = match coder.quantizer().dynamic {
        Dynamic::Mean | Dynamic::Deviation => Some(statistics.numbers[0][0]),
        _ => None,
    };
    for position in positions {
        let numbers = &value.numbers[position * channels..][..channels];
        for (channel, x) in numbers.iter().enumerate() {
            let x = factor.map_or(*x, |factor| x / factor);
            write(position, channel, coder.quantizer().code_of(coder.group(channel), x));
        }
    }
}

/// Writes the values of a quantizer that depends on the image.
pub(super) fn dynamic_values(
    coder: &Coder,
    statistics: &Statistics,
    value: Stored<'_>,
    positions: Range<usize>,
    out: &mut [f32],
) {
    let channels = value.shape[0];
    let (dynamic, first) = (coder.quantizer().dynamic, positions.start);
    dynamic_codes(coder, statistics, value, positions, |position, channel, code| {
        let factor = match dynamic {
            Dynamic::MeanOverChannels => statistics.numbers[position][0],
            Dynamic::MeanOverPositions => statistics.numbers[channel][0],
            _ => statistics.numbers[0][0],
        };
        let number = coder.quantizer().value_of(coder.group(channel), code);
        out[(position - first) * channels + channel] = number * factor;
    });
}

/// Writes the numbers of a layer at a range of positions, `[positions, channels]`. `values` returns
/// its inputs.
pub(super) fn layer<'a>(
    set: InstructionSet,
    op: &Op,
    values: impl Fn(usize) -> Stored<'a>,
    inputs: usize,
    statistics: &Statistics,
    ([channels, _, width], positions): ([usize; 3], Range<usize>),
    out: &mut [f32],
) {
    let value = values(0);
    let numbers = positions.start * channels..positions.end * channels;
    let places = positions.clone().map(|position| (position / width, position % width));
    let each = places.zip(out.chunks_exact_mut(channels));
    match op {
        Op::Add => {
            out.copy_from_slice(&value.numbers[numbers.clone()]);
            for input in 1..inputs {
                let other = &values(input).numbers[numbers.clone()];
                out.iter_mut().zip(other).for_each(|(x, other)| *x += other);
            }
        }
        Op::GroupNorm(groups) => {
            out.copy_from_slice(&value.numbers[numbers]);
            let in_group = channels / groups;
            for out in out.chunks_exact_mut(channels) {
                for (out, [mean, deviation]) in
                    out.chunks_exact_mut(in_group).zip(&statistics.numbers)
                {
                    out.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
                }
            }
        }
        Op::AveragePool(side) => each.for_each(|((y, x), out)| {
            mean(set, value, [y * side, x * side], [*side; 2], out);
        }),
        Op::GlobalPool => mean(set, value, [0, 0], [value.shape[1], value.shape[2]], out),
        Op::MaxPool(pool) => set.vectorize(
            #[inline(always)]
            || {
                // A loop, because the functions of iterators are not always inlined.
                for (out, position) in out.chunks_exact_mut(channels).zip(positions) {
                    maximum(value, pool, [position / width, position % width], out);
                }
            },
        ),
        Op::SpaceToDepth(side) => each.for_each(|((y, x), out)| {
            let square = side * side;
            for place in 0..square {
                let from = value.at(y * side + place / side, x * side + place % side);
                let out = out[place..].iter_mut().step_by(square);
                out.zip(from).for_each(|(out, x)| *out = *x);
            }
        }),
        Op::DepthToSpace(side) => each.for_each(|((y, x), out)| {
            let square = side * side;
            let from = &value.at(y / side, x / side)[y % side * side + x % side..];
            out.iter_mut().zip(from.iter().step_by(square)).for_each(|(out, x)| *out = *x);
        }),
        Op::Pad(padding) => each.for_each(|((y, x), out)| {
            let [_, height, width] = value.shape;
            let place = |at: usize, size: usize| at.checked_sub(*padding).filter(|at| *at < size);
            match (place(y, height), place(x, width)) {
                (Some(y), Some(x)) => out.copy_from_slice(value.at(y, x)),
                _ => out.fill(0.0),
            }
        }),
        Op::Repeat(_) => each.for_each(|((y, x), out)| {
            let from = value.at(y, x);
            out.chunks_exact_mut(from.len()).for_each(|out| out.copy_from_slice(from));
        }),
        Op::Concatenate => each.for_each(|((y, x), mut out)| {
            for input in 0..inputs {
                let from = values(input).at(y, x);
                let (part, rest) = out.split_at_mut(from.len());
                part.copy_from_slice(from);
                out = rest;
            }
        }),
        Op::Flatten => {
            let pixels = value.shape[1] * value.shape[2];
            for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
                out.iter_mut().zip(value.channel(channel)).for_each(|(out, x)| *out = x);
            }
        }
        // All other layers are links, or producers of their own.
        _ => out.copy_from_slice(&value.numbers[numbers]),
    }
}

/// Writes the mean of each channel over a rectangle.
fn mean(
    set: InstructionSet,
    value: Stored<'_>,
    from: [usize; 2],
    size: [usize; 2],
    out: &mut [f32],
) {
    let count = (size[0] * size[1]) as f32;
    set.vectorize(
        #[inline(always)]
        || {
            out.copy_from_slice(value.at(from[0], from[1]));
            for y in from[0]..from[0] + size[0] {
                for x in from[1]..from[1] + size[1] {
                    if [y, x] != from {
                        out.iter_mut().zip(value.at(y, x)).for_each(|(out, x)| *out += x);
                    }
                }
            }
            out.iter_mut().for_each(|out| *out /= count);
        },
    );
}

/// Number of channels whose maxima are computed together.
const TOGETHER: usize = 64;

/// Writes the maximum of each channel over a square.
#[inline(always)]
fn maximum(value: Stored<'_>, pool: &Pool, at: [usize; 2], out: &mut [f32]) {
    let range = |position: usize, size: usize| {
        let start = position * pool.stride;
        start.saturating_sub(pool.padding)..(start + pool.kernel - pool.padding).min(size)
    };
    let (rows, columns) = (range(at[0], value.shape[1]), range(at[1], value.shape[2]));
    let mut first = 0;
    while first < out.len() {
        let from = (rows.clone(), columns.clone(), first);
        first += match out.len() - first {
            TOGETHER.. => maxima::<TOGETHER>(value, from, &mut out[first..]),
            16.. => maxima::<16>(value, from, &mut out[first..]),
            _ => maxima::<1>(value, from, &mut out[first..]),
        };
    }
}

/// Writes the maxima of some channels from `first` on, and returns their number.
#[inline(always)]
fn maxima<const CHANNELS: usize>(
    value: Stored<'_>,
    (rows, columns, first): (Range<usize>, Range<usize>, usize),
    out: &mut [f32],
) -> usize {
    let mut maxima = [0.0; CHANNELS];
    maxima.copy_from_slice(&value.at(rows.start, columns.start)[first..][..CHANNELS]);
    for y in rows {
        for x in columns.clone() {
            let numbers = &value.at(y, x)[first..][..CHANNELS];
            for channel in 0..CHANNELS {
                let (x, most) = (numbers[channel], maxima[channel]);
                maxima[channel] = if x > most { x } else { most };
            }
        }
    }
    out[..CHANNELS].copy_from_slice(&maxima);
    CHANNELS
}
