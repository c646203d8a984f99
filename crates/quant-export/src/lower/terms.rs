//! The values of codes as sums of integers times scales, found from the values alone.
//!
//! Each way of writing values that way is tried on all groups; the first that reproduces every
//! value within [`tolerance`] is taken. In this order: evenly spaced values whose offset is a
//! multiple of half a step; multiples of a unit up to 255; two values on both sides of 0 and 0
//! itself; evenly spaced values with any offset; sums over the subsets of a few numbers; multiples
//! of a unit up to 32767; and one term for each of up to eight values.

use quant_infer::model::{Term, Terms};

/// The largest integer of evenly spaced values: eight bits, with offsets of a few ranges.
const MOST_EVEN: f64 = 1023.0;

/// The most levels of which each gets a term of its own.
const MOST_SINGLE: usize = 8;

/// A way of writing the values of a group.
type Way = fn(&[f64]) -> Option<Vec<Column>>;

/// One term of one group.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    scale: f64,
    integers: Vec<i16>,
}

impl Column {
    fn new(scale: f64, integers: impl IntoIterator<Item = i16>) -> Self {
        let integers: Vec<i16> = integers.into_iter().collect();
        // A scale that rounds to 0 is none, and its values are 0.
        if scale as f32 == 0.0 {
            return Self { scale: 1.0, integers: vec![0; integers.len()] };
        }
        Self { scale: f64::from(scale as f32), integers }
    }

    fn is_zero(&self) -> bool {
        self.integers.iter().all(|integer| *integer == 0)
    }
}

/// How far a value may be from its sum: four units in the last place of the largest value. Values
/// below 1e-40 count as 0.
fn tolerance(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs())) as f32;
    4.0 * f64::from(largest.next_up() - largest) + 1e-40
}

/// Returns the values `[groups, levels]` as terms, or `None` where no way of writing them fits.
pub(crate) fn terms(values: &[f32], levels: usize) -> Option<Terms> {
    let groups: Vec<Vec<f64>> = (values.chunks(levels))
        .map(|values| values.iter().copied().map(f64::from).collect())
        .collect();
    let ways: [Way; 7] = [
        half_steps,
        |values| multiples(values, 255),
        two_sides,
        steps_and_offset,
        subset_sums,
        |values| multiples(values, i16::MAX),
        single_values,
    ];
    ways.iter().find_map(|way| assemble(&groups, levels, way))
}

/// Writes all groups the same way.
fn assemble(
    groups: &[Vec<f64>],
    levels: usize,
    way: impl Fn(&[f64]) -> Option<Vec<Column>>,
) -> Option<Terms> {
    let mut all: Vec<Vec<Column>> = Vec::with_capacity(groups.len());
    for values in groups {
        let columns = if values.iter().all(|value| *value == 0.0) { vec![] } else { way(values)? };
        if !reproduces(&columns, values) {
            return None;
        }
        all.push(columns);
    }
    let count = all.iter().map(Vec::len).max()?;
    let zero = || Column::new(0.0, vec![0; levels]);
    all.iter_mut().for_each(|columns| columns.resize_with(count, zero));
    let used: Vec<usize> =
        (0..count).filter(|at| all.iter().any(|columns| !columns[*at].is_zero())).collect();
    // All values are 0: a single term says so.
    let used = if used.is_empty() { vec![0] } else { used };
    all.iter_mut().for_each(|columns| columns.resize_with(count.max(1), zero));
    let same = all.iter().all(|columns| *columns == all[0]);
    let kept = if same { &all[..1] } else { &all[..] };
    let term = |at: &usize| {
        let shared = kept.iter().all(|columns| columns[*at].integers == kept[0][*at].integers);
        let rows = if shared { &kept[..1] } else { kept };
        Term {
            scales: kept.iter().map(|columns| columns[*at].scale as f32).collect(),
            integers: rows.iter().flat_map(|columns| columns[*at].integers.clone()).collect(),
        }
    };
    Some(Terms(used.iter().map(term).collect()))
}

fn reproduces(columns: &[Column], values: &[f64]) -> bool {
    let tolerance = tolerance(values);
    values.iter().enumerate().all(|(code, value)| {
        let term = |column: &Column| column.scale * f64::from(column.integers[code]);
        (columns.iter().map(term).sum::<f64>() - value).abs() <= tolerance
    })
}

/// Returns the scale that fits the integers to the values best.
fn scale_of(values: &[f64], integers: &[i16]) -> f64 {
    let pairs = || values.iter().zip(integers.iter().map(|integer| f64::from(*integer)));
    let squares: f64 = pairs().map(|(_, integer)| integer * integer).sum();
    pairs().map(|(value, integer)| value * integer).sum::<f64>() / squares
}

/// Returns the line that fits the values best: the value at code 0, and the step.
fn line(values: &[f64]) -> (f64, f64) {
    let middle = (values.len() - 1) as f64 / 2.0;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (mut products, mut squares) = (0.0, 0.0);
    for (code, value) in values.iter().enumerate() {
        products += (code as f64 - middle) * (value - mean);
        squares += (code as f64 - middle).powi(2);
    }
    let step = products / squares;
    (mean - middle * step, step)
}

/// Evenly spaced values whose offset is a multiple of half a step: code + q, or 2·code + q.
fn half_steps(values: &[f64]) -> Option<Vec<Column>> {
    let (offset, step) = line(values);
    let halves = (2.0 * offset / step).round();
    let (factor, start) = if halves % 2.0 == 0.0 { (1.0, halves / 2.0) } else { (2.0, halves) };
    let last = start + factor * (values.len() - 1) as f64;
    // The comparison is false for a step of 0, which makes the start infinite or not a number.
    let fits = start.abs() <= MOST_EVEN && last.abs() <= MOST_EVEN;
    let integers = (0..values.len()).map(|code| (start + factor * code as f64) as i16);
    let integers: Vec<i16> = fits.then(|| integers.collect())?;
    Some(vec![Column::new(scale_of(values, &integers), integers)])
}

/// Evenly spaced values: step·code + offset.
fn steps_and_offset(values: &[f64]) -> Option<Vec<Column>> {
    let (offset, step) = line(values);
    let codes = (0..values.len()).map(|code| code as i16);
    Some(vec![Column::new(step, codes), Column::new(offset, vec![1; values.len()])])
}

/// Multiples of a unit, with integers of at most `most`.
fn multiples(values: &[f64], most: i16) -> Option<Vec<Column>> {
    let tolerance = tolerance(values);
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    (1..=most).find_map(|parts| {
        let unit = largest / f64::from(parts);
        let fits = |value: &f64| ((value / unit).round() * unit - value).abs() <= tolerance;
        if !values.iter().all(fits) {
            return None;
        }
        let integers: Vec<i16> = values.iter().map(|value| (value / unit).round() as i16).collect();
        let columns = vec![Column::new(scale_of(values, &integers), integers)];
        reproduces(&columns, values).then_some(columns)
    })
}

/// A value, 0, and another value.
fn two_sides(values: &[f64]) -> Option<Vec<Column>> {
    let [low, middle, high] = *values else { return None };
    let sides = vec![Column::new(low, [1, 0, 0]), Column::new(high, [0, 0, 1])];
    (middle.abs() <= tolerance(values)).then_some(sides)
}

/// Each value by itself.
fn single_values(values: &[f64]) -> Option<Vec<Column>> {
    let only = |code: usize| (0..values.len()).map(move |other| i16::from(other == code));
    let columns = values.iter().enumerate().map(|(code, value)| Column::new(*value, only(code)));
    (values.len() <= MOST_SINGLE).then(|| columns.collect())
}

/// The sums over all subsets of a few numbers (LQ-Nets' basis), each counted as 0 or 1, as 0 or -1,
/// or, if all sums are symmetric about 0, as -1 or 1.
fn subset_sums(values: &[f64]) -> Option<Vec<Column>> {
    let digits = digits(values)?;
    let half = (values.len() / 2) as f64;
    let weight = |row: &Vec<bool>| {
        let signed = row.iter().zip(values).map(|(on, value)| if *on { *value } else { -value });
        signed.sum::<f64>() / half
    };
    let numbers: Vec<f64> = digits.iter().map(weight).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let tolerance = tolerance(values);
    let column = |number: f64, row: &[bool], on: i16, off: i16| {
        Column::new(number, row.iter().map(move |digit| if *digit { on } else { off }))
    };
    let rows = || numbers.iter().zip(&digits);
    if mean.abs() <= tolerance {
        return Some(rows().map(|(number, row)| column(number / 2.0, row, 1, -1)).collect());
    }
    // The value with no number counted, and the numbers that make it when counted as -1.
    let lowest = mean - numbers.iter().sum::<f64>() / 2.0;
    let total = |set: usize| {
        let counted = numbers.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
        counted.map(|(_, number)| number).sum::<f64>()
    };
    let error = |set: &usize| (lowest + total(*set)).abs();
    let best = (0..1 << numbers.len()).min_by(|a, b| error(a).total_cmp(&error(b)))?;
    let negative = if error(&best) <= tolerance { best } else { 0 };
    let mut columns: Vec<Column> = (rows().enumerate())
        .map(|(at, (number, row))| {
            let below = (negative >> at & 1) as i16;
            column(*number, row, 1 - below, -below)
        })
        .collect();
    if error(&best) > tolerance {
        columns.push(Column::new(lowest, vec![1; values.len()]));
    }
    Some(columns)
}

/// Returns, for each number of a basis, which values it is counted in.
fn digits(values: &[f64]) -> Option<Vec<Vec<bool>>> {
    if values.len() < 4 || !values.len().is_power_of_two() || !values.is_sorted() {
        return None;
    }
    let near = 8.0 * tolerance(values);
    let mut digits = Vec::new();
    let mut left: Vec<(f64, Vec<usize>)> =
        values.iter().enumerate().map(|(code, value)| (*value, vec![code])).collect();
    while left.len() > 1 {
        // The difference of the two smallest sums is a number of the basis. Each sum without it is
        // paired with the one that has it in addition.
        let number = left[1].0 - left[0].0;
        let mut row = vec![false; values.len()];
        let mut pairs = Vec::with_capacity(left.len() / 2);
        while !left.is_empty() {
            let (value, mut codes) = left.remove(0);
            let distance = |other: &(f64, Vec<usize>)| (other.0 - value - number).abs();
            let nearest =
                (0..left.len()).min_by(|a, b| distance(&left[*a]).total_cmp(&distance(&left[*b])));
            let nearest = nearest.filter(|at| distance(&left[*at]) <= near)?;
            let (_, with) = left.remove(nearest);
            with.iter().for_each(|code| row[*code] = true);
            codes.extend(with);
            pairs.push((value, codes));
        }
        digits.push(row);
        left = pairs;
    }
    Some(digits)
}

/// Returns the numbers whose sums, each counted with either sign or once or not at all, are these
/// values: LQ-Nets' basis.
pub(crate) fn basis(values: &[f64]) -> Option<Vec<f64>> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let columns = subset_sums(&sorted)?;
    let signs = |column: &Column, sign: i16| column.integers.iter().all(|i| i.abs() == sign);
    let signed = columns.iter().all(|column| signs(column, 1));
    let unsigned = columns.iter().all(|column| column.integers.iter().all(|i| (0..=1).contains(i)));
    let fits = (signed || unsigned) && columns.iter().all(|column| !signs(column, 0));
    (fits && reproduces(&columns, &sorted))
        .then(|| columns.iter().map(|column| column.scale).collect())
}

#[cfg(test)]
mod tests;
