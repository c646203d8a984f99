//! Quantizers and weights as the methods make them.

use quant_infer::model::{Dynamic, Quantizer, Term, Terms, WeightCodes};

use super::Random;

/// The sums of the terms, `[groups, levels]`.
fn sums(terms: &Terms, levels: usize, groups: usize) -> Vec<f32> {
    let value = |i: usize| {
        let products = terms.0.iter().map(|term| {
            let integer = term.integers_of(i / levels, levels)[i % levels];
            term.scale_of(i / levels) * f32::from(integer)
        });
        products.reduce(|sum, product| sum + product).unwrap()
    };
    (0..groups * levels).map(value).collect()
}

/// Halfway between neighbouring values of each row.
fn halfway(values: &[f32], levels: usize) -> Vec<f32> {
    let rows = values.chunks(levels);
    rows.flat_map(|row| row.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0)).collect()
}

/// One scale for each group, and the same integers for all.
fn term(scales: Vec<f32>, integers: impl Iterator<Item = i32>) -> Term {
    Term { scales, integers: integers.map(|integer| integer as i16).collect() }
}

/// Terms of one of the kinds of methods: integers from 0, around 0, odd ones, with an offset, or a
/// basis of floats. All have ascending values.
pub(crate) fn terms(random: &mut Random, levels: usize, groups: usize) -> Terms {
    let n = levels as i32;
    let scales: Vec<f32> = (0..groups).map(|_| random.positive() * 0.1).collect();
    let kinds = if levels.is_power_of_two() { 5 } else { 4 };
    match random.below(kinds) {
        0 => Terms(vec![term(scales, 0..n)]),
        1 => Terms(vec![term(scales, (0..n).map(|i| i - n / 2))]),
        2 => Terms(vec![term(scales, (0..n).map(|i| 2 * i - n + 1))]),
        3 => {
            let offsets = (0..groups).map(|_| random.positive()).collect();
            Terms(vec![term(scales, 0..n), term(offsets, (0..n).map(|_| 1))])
        }
        _ => {
            let bits = levels.trailing_zeros();
            let element = |bit: u32| {
                let basis = scales.iter().map(|scale| scale * (1u32 << bit) as f32).collect();
                term(basis, (0..n).map(move |code| if code >> bit & 1 == 1 { 1 } else { -1 }))
            };
            Terms((0..bits).map(element).collect())
        }
    }
}

/// A quantizer whose values are integers times scales.
pub(crate) fn even(random: &mut Random, levels: usize, groups: usize) -> Quantizer {
    let terms = terms(random, levels, groups);
    let values = sums(&terms, levels, groups);
    let thresholds = halfway(&values, levels);
    Quantizer { groups, levels, thresholds, values, terms: Some(terms), dynamic: Dynamic::None }
}

/// An unsigned quantizer with clipping value c, whose thresholds are where x/c·n rounds up, to the
/// last bit, as they are found by bisection.
pub(crate) fn clipped(c: f32, levels: usize) -> Quantizer {
    let n = (levels - 1) as f32;
    let code = |x: f32| (x / c * n).round_ties_even();
    let threshold = |k: usize| {
        let mut x = (k as f32 + 0.5) / n * c;
        while code(x) > k as f32 {
            x = x.next_down();
        }
        while code(x) <= k as f32 {
            x = x.next_up();
        }
        x
    };
    let terms = Terms(vec![term(vec![c / n], 0..levels as i32)]);
    Quantizer {
        groups: 1,
        levels,
        thresholds: (0..levels - 1).map(threshold).collect(),
        values: sums(&terms, levels, 1),
        terms: Some(terms),
        dynamic: Dynamic::None,
    }
}

/// A quantizer with uneven values, or one that depends on the image.
pub(crate) fn uneven(random: &mut Random, levels: usize, groups: usize) -> Quantizer {
    let mut values = Vec::new();
    for _ in 0..groups {
        let mut row = random.floats(levels);
        row.sort_by(f32::total_cmp);
        values.extend(row);
    }
    let mut thresholds = halfway(&values, levels);
    if random.coin() {
        thresholds[levels - 2] = f32::INFINITY;
    }
    let dynamic = random.pick(&[
        Dynamic::None,
        Dynamic::MeanOverChannels,
        Dynamic::MeanOverPositions,
        Dynamic::Mean,
        Dynamic::Deviation,
    ]);
    Quantizer { groups, levels, thresholds, values, terms: None, dynamic }
}

pub(crate) fn quantizer(random: &mut Random, levels: usize, groups: usize) -> Quantizer {
    if random.coin() { even(random, levels, groups) } else { uneven(random, levels, groups) }
}

/// A weight of this many elements, with the same values for all of them or for each channel.
pub(crate) fn weight(
    random: &mut Random,
    levels: usize,
    channels: usize,
    per_channel: usize,
) -> WeightCodes {
    let count = channels * per_channel;
    let (groups, run) = if random.coin() { (1, count) } else { (channels, per_channel) };
    let terms = terms(random, levels, groups);
    let values = sums(&terms, levels, groups);
    let codes = random.codes(count, levels);
    WeightCodes { levels, codes, groups, run, values, terms: Some(terms) }
}
