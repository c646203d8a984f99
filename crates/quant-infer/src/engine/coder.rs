//! Quantizers, prepared for vectors over channels.

use alloc::vec::Vec;

use quant_kernels::simd::InstructionSet;

use super::{
    even::Even,
    guess::Guess,
    per_threshold::{LANES, PerThreshold, by_lanes, padded},
};
use crate::model::Quantizer;

/// The largest number of levels whose thresholds are all compared with each number.
const MOST_COMPARED: usize = 16;

/// A quantizer for a number of channels.
#[derive(Debug, Clone)]
pub(super) struct Coder {
    quantizer: Quantizer,
    pub(super) channels: usize,
    /// Present if there are few levels.
    pub(super) few: Option<Few>,
    /// The formula of the codes, if there is one and comparisons take longer.
    pub(super) even: Option<Formula>,
    /// A line for each group, if there are many levels and each group has one.
    guesses: Option<PerThreshold<Guess>>,
}

/// A formula, with the divisor of each channel.
#[derive(Debug, Clone)]
pub(super) struct Formula {
    pub(super) even: Even,
    pub(super) divisors: PerThreshold<f32>,
}

/// The largest number of levels whose thresholds are compared although a formula exists.
const FEW_COMPARED: usize = 8;

/// The thresholds of a quantizer with few levels.
#[derive(Debug, Clone)]
pub(super) struct Few {
    pub(super) thresholds: PerThreshold<f32>,
    /// The value of the lowest code.
    lowest: PerThreshold<f32>,
    /// The value above each threshold.
    values: PerThreshold<f32>,
}

impl Coder {
    pub(super) fn new(quantizer: &Quantizer, channels: usize) -> Self {
        let levels = quantizer.levels;
        let width = if quantizer.groups == 1 { 1 } else { channels };
        let group = |channel: usize| quantizer.group_of(channel, width);
        let few = (levels <= MOST_COMPARED).then(|| {
            let thresholds = PerThreshold::new(levels - 1, width, |k, channel| {
                quantizer.thresholds[group(channel) * (levels - 1) + k]
            });
            let value = |code: usize, channel| quantizer.values[group(channel) * levels + code];
            let lowest = PerThreshold::new(1, width, value);
            let values = PerThreshold::new(levels - 1, width, |k, channel| value(k + 1, channel));
            Few { thresholds, lowest, values }
        });
        let even = Some(quantizer).filter(|quantizer| quantizer.levels > FEW_COMPARED);
        let even = even.and_then(Even::new).map(|even| {
            let divisors = PerThreshold::new(1, width, |_, channel| even.divisors[group(channel)]);
            Formula { even, divisors }
        });
        let lines = || (0..quantizer.groups).map(|group| Guess::new(quantizer, group)).collect();
        let lines: Option<Vec<Guess>> = if few.is_none() { lines() } else { None };
        let guesses =
            lines.map(|lines| PerThreshold::new(1, width, |_, channel| lines[group(channel)]));
        Self { quantizer: quantizer.clone(), channels, few, even, guesses }
    }

    pub(super) fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// Returns the group of a channel.
    pub(super) fn group(&self, channel: usize) -> usize {
        self.quantizer.group_of(channel, self.channels)
    }

    /// Returns whether comparing numbers with all thresholds is the fastest way to their codes.
    pub(super) fn compares(&self) -> bool {
        self.few.is_some() && self.even.is_none()
    }

    /// Returns the code of a number.
    pub(super) fn code(&self, channel: usize, x: f32) -> u8 {
        self.quantizer.code_of(self.group(channel), x)
    }

    /// Returns the value of a number's code.
    pub(super) fn value(&self, channel: usize, x: f32) -> f32 {
        let group = self.group(channel);
        self.quantizer.value_of(group, self.quantizer.code_of(group, x))
    }

    /// Returns the codes of numbers of one position, whose first channel is `first`.
    #[inline(always)]
    pub(super) fn codes(&self, numbers: &[f32; LANES], first: usize, count: usize) -> [u8; LANES] {
        let mut codes = [0; LANES];
        let of_group = self.quantizer.levels - 1;
        let group = |lane: usize| {
            if self.quantizer.groups == 1 { 0 } else { self.group(first + lane) }
        };
        if let Some(Formula { even, divisors }) = &self.even {
            let divisors = &divisors.lanes(first)[0];
            for lane in 0..LANES {
                codes[lane] = even.code(numbers[lane], divisors[lane]) as u8;
            }
            return codes;
        }
        let Some(guesses) = &self.guesses else {
            for (lane, code) in codes.iter_mut().enumerate().take(count) {
                *code = self.quantizer.code_of(group(lane), numbers[lane]);
            }
            return codes;
        };
        let guesses = &guesses.lanes(first)[0];
        let places: [usize; LANES] =
            core::array::from_fn(|lane| guesses[lane].threshold(numbers[lane], of_group));
        for (lane, code) in codes.iter_mut().enumerate().take(count) {
            let threshold = self.quantizer.thresholds[group(lane) * of_group + places[lane]];
            *code = places[lane] as u8 + u8::from(numbers[lane] >= threshold);
        }
        codes
    }

    /// Returns the lowest code that has a value.
    pub(super) fn code_of_value(&self, channel: usize, value: f32) -> u8 {
        let group = self.group(channel);
        let levels = self.quantizer.levels;
        let values = &self.quantizer.values[group * levels..][..levels];
        values.iter().position(|other| *other == value).map_or(u8::MAX, |code| code as u8)
    }

    /// Replaces numbers `[positions, channels]` by the values of their codes.
    pub(super) fn values(&self, set: InstructionSet, x: &mut [f32]) {
        let Some(Few { thresholds, lowest, values }) = &self.few else {
            return set.vectorize(
                #[inline(always)]
                || {
                    for x in x.chunks_exact_mut(self.channels) {
                        for (index, x) in x.chunks_mut(LANES).enumerate() {
                            let first = index * LANES;
                            let codes = self.codes(&padded(x), first, x.len());
                            for (lane, (x, code)) in x.iter_mut().zip(codes).enumerate() {
                                *x = self.quantizer.value_of(self.group(first + lane), code);
                            }
                        }
                    }
                },
            );
        };
        set.vectorize(
            #[inline(always)]
            || {
                for x in x.chunks_exact_mut(self.channels) {
                    for (index, x) in x.chunks_mut(LANES).enumerate() {
                        let numbers = padded(x);
                        let first = index * LANES;
                        let mut result = lowest.lanes(first)[0];
                        let each = thresholds.lanes(first).iter().zip(values.lanes(first));
                        for (thresholds, values) in each {
                            for lane in 0..LANES {
                                if numbers[lane] >= thresholds[lane] {
                                    result[lane] = values[lane];
                                }
                            }
                            by_lanes();
                        }
                        x.copy_from_slice(&result[..x.len()]);
                    }
                }
            },
        );
    }
}
