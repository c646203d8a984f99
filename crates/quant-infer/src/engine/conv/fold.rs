//! Thresholds of sums: what follows a convolution up to the next quantizers, as comparisons of
//! integers.

use alloc::{vec, vec::Vec};

use super::integer::largest_sums;
use crate::{
    engine::{coder::Coder, links::Link, per_threshold::PerThreshold},
    model::{Conv, Terms, WeightCodes},
};

/// The thresholds that replace everything after a convolution's sums.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    /// Whether the sums of an output channel are negated, so that codes rise with them.
    pub(crate) negate: Vec<bool>,
    /// For each quantizer the thresholds. One counts for sums above it.
    pub(crate) thresholds: Vec<PerThreshold<i32>>,
}

/// What follows the sums of an output channel.
struct Tail<'a> {
    scale: f32,
    channel: usize,
    links: &'a [Link],
}

impl Tail<'_> {
    /// Returns what becomes of a sum, if all numbers on the way are finite.
    fn of(&self, sum: i32) -> Option<f32> {
        let first = sum as f32 * self.scale;
        let finite = |x: &f32| x.is_finite();
        self.links
            .iter()
            .try_fold(first, |x, link| {
                Some(x).filter(finite).and_then(|x| link.of(self.channel, x))
            })
            .filter(finite)
    }
}

/// Returns the thresholds for quantizers that follow the links, or `None` if the codes cannot be
/// found by comparing one integer with few others.
///
/// Each link is a monotone function, also with its rounding. So the code is a monotone function of
/// the sum, and the sums at which it changes are found by bisection, by computing that very
/// function.
pub(crate) fn fold(
    conv: &Conv,
    terms: (&Terms, &Terms),
    codes: &WeightCodes,
    links: &[Link],
    coders: &[&Coder],
) -> Option<Folded> {
    let one_sum = terms.0.0.len() * terms.1.0.len() * terms.0.0[0].scales.len() == 1;
    if !one_sum || coders.is_empty() || !coders.iter().all(|coder| coder.compares()) {
        return None;
    }
    if !links.iter().all(Link::is_monotone) {
        return None;
    }
    let mut folded = Folded { negate: vec![false; conv.out_channels], thresholds: Vec::new() };
    let mut tables: Vec<Vec<Vec<i32>>> = vec![Vec::new(); coders.len()];
    let per_channel = codes.codes.len() / conv.out_channels;
    for (channel, largest) in largest_sums(conv, terms, codes).into_iter().enumerate() {
        let weight_group = codes.group_of(channel * per_channel);
        let scale = terms.0.0[0].scale_of(0) * terms.1.0[0].scale_of(weight_group);
        let tail = Tail { scale, channel, links };
        let negate = tail.of(largest)? < tail.of(-largest)?;
        folded.negate[channel] = negate;
        for (coder, table) in coders.iter().zip(&mut tables) {
            let code = |sum: i32| {
                let x = tail.of(if negate { -sum } else { sum })?;
                Some(usize::from(coder.quantizer().code_of(coder.group(channel), x)))
            };
            table.push(thresholds(largest, coder.quantizer().levels, code)?);
        }
    }
    for (coder, table) in coders.iter().zip(&tables) {
        let levels = coder.quantizer().levels;
        let thresholds =
            PerThreshold::new(levels - 1, conv.out_channels, |k, channel| table[channel][k]);
        folded.thresholds.push(thresholds);
    }
    Some(folded)
}

/// Returns for each threshold the largest sum of magnitude at most `largest` whose code does not
/// exceed it. Where there is none, or no larger sum, it is the lowest or highest integer.
fn thresholds(
    largest: i32,
    levels: usize,
    code: impl Fn(i32) -> Option<usize>,
) -> Option<Vec<i32>> {
    let (lowest_code, highest_code) = (code(-largest)?, code(largest)?);
    (0..levels - 1)
        .map(|k| {
            if k < lowest_code {
                return Some(i32::MIN);
            }
            if k >= highest_code {
                return Some(i32::MAX);
            }
            // The code of `below` is at most k, and that of `above` is more.
            let (mut below, mut above) = (i64::from(-largest), i64::from(largest));
            while above - below > 1 {
                let middle = below + (above - below) / 2;
                if code(middle as i32)? <= k {
                    below = middle;
                } else {
                    above = middle;
                }
            }
            Some(below as i32)
        })
        .collect()
}

#[cfg(test)]
mod tests;
