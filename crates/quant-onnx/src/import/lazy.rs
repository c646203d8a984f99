//! Quantizers of activations, before it is known what reads them.

use quant_infer::model::{Dynamic, Quantizer, Term, Terms};

/// A step of arithmetic on each element, with one number for all channels or one for each.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Add(Vec<f32>),
    Mul(Vec<f32>),
    Div(Vec<f32>),
    Clip(f32, f32),
}

impl Step {
    /// Returns the result for a channel.
    pub(super) fn apply(&self, x: f32, channel: usize) -> f32 {
        let of = |numbers: &[f32]| numbers[if numbers.len() == 1 { 0 } else { channel }];
        match self {
            Self::Add(numbers) => x + of(numbers),
            Self::Mul(numbers) => x * of(numbers),
            Self::Div(numbers) => x / of(numbers),
            Self::Clip(lowest, highest) => {
                // As runtimes do it, for bounds in any order.
                let x = if x < *lowest { *lowest } else { x };
                if x > *highest { *highest } else { x }
            }
        }
    }

    /// Whether results rise with the input.
    pub(super) fn rises(&self) -> bool {
        match self {
            Self::Add(_) | Self::Clip(..) => true,
            Self::Mul(numbers) | Self::Div(numbers) => numbers.iter().all(|number| *number > 0.0),
        }
    }

    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Add(numbers) | Self::Mul(numbers) | Self::Div(numbers) => numbers.len(),
            Self::Clip(..) => 1,
        }
    }
}

/// A quantizer of a node's value that no node of the model has yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lazy {
    /// The number of groups of channels.
    pub(super) groups: usize,
    pub(super) levels: usize,
    /// `[groups, levels - 1]`.
    pub(super) thresholds: Vec<f32>,
    /// What each code stands for, `[groups, levels]`.
    pub(super) table: Vec<f32>,
    /// Whether the value of the node is already what the codes stand for.
    pub(super) identity: bool,
}

impl Lazy {
    /// Finds the thresholds of a function whose codes, from 0 to levels - 1, never fall while x
    /// rises. `code` takes x and the group.
    pub(super) fn find(
        groups: usize,
        levels: usize,
        code: impl Fn(f32, usize) -> f32,
        value: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let mut thresholds = Vec::with_capacity(groups * (levels - 1));
        for group in 0..groups {
            thresholds.extend((1..levels).map(|level| first(|x| code(x, group) >= level as f32)));
        }
        let table = (0..groups * levels).map(|at| value(at % levels, at / levels)).collect();
        let mut lazy = Self { groups, levels, thresholds, table, identity: false };
        lazy.simplify();
        lazy
    }

    /// Returns the quantizer whose thresholds are given.
    pub(super) fn new(groups: usize, levels: usize, thresholds: Vec<f32>, table: Vec<f32>) -> Self {
        let mut lazy = Self { groups, levels, thresholds, table, identity: false };
        lazy.simplify();
        lazy
    }

    /// Returns the bytes of an image.
    pub(super) fn bytes() -> Self {
        Self {
            groups: 1,
            levels: 256,
            thresholds: (0..255).map(|byte| byte as f32 + 0.5).collect(),
            table: (0..256).map(|byte| byte as f32).collect(),
            identity: true,
        }
    }

    /// Joins groups that are equal, and codes that stand for the same or that no number gets.
    fn simplify(&mut self) {
        let levels = self.levels;
        let divisors = (1..self.groups).filter(|d| self.groups.is_multiple_of(*d));
        for fewer in divisors.collect::<Vec<_>>() {
            let run = self.groups / fewer;
            let alike = |numbers: &[f32], length: usize| {
                numbers
                    .chunks(length * run)
                    .all(|rows| rows.chunks(length).all(|row| row == &rows[..length]))
            };
            if alike(&self.thresholds, levels - 1) && alike(&self.table, levels) {
                let keep = |numbers: &[f32], length: usize| -> Vec<f32> {
                    numbers.chunks(length * run).flat_map(|rows| rows[..length].to_vec()).collect()
                };
                self.thresholds = keep(&self.thresholds, levels - 1);
                self.table = keep(&self.table, levels);
                self.groups = fewer;
                break;
            }
        }
        let mut kept: Vec<usize> = vec![0];
        for code in 1..levels {
            let differs = (0..self.groups).any(|group| {
                let row = &self.table[group * levels..][..levels];
                row[code] != row[code - 1]
            });
            let reached = (0..self.groups)
                .any(|group| self.thresholds[group * (levels - 1) + code - 1] < f32::INFINITY);
            if differs && reached {
                kept.push(code);
            }
        }
        // A model has at least two levels.
        if kept.len() == 1 {
            kept.push(levels - 1);
        }
        if kept.len() == levels {
            return;
        }
        let pick = |numbers: &[f32], length: usize, places: &[usize], back: usize| -> Vec<f32> {
            numbers
                .chunks(length)
                .flat_map(|row| places.iter().map(move |place| row[place - back]))
                .collect()
        };
        self.thresholds = pick(&self.thresholds, levels - 1, &kept[1..], 1);
        self.table = pick(&self.table, levels, &kept, 0);
        self.levels = kept.len();
    }

    /// Changes what the codes stand for.
    pub(super) fn map(&self, step: &Step) -> Self {
        let mut lazy = self.spread(step.channels());
        let (groups, levels, channels) = (lazy.groups, lazy.levels, step.channels());
        for (at, value) in lazy.table.iter_mut().enumerate() {
            *value = step.apply(*value, at / levels * channels / groups);
        }
        lazy.identity = false;
        lazy.simplify();
        lazy
    }

    /// Returns the same with a group for each of so many channels.
    pub(super) fn spread(&self, channels: usize) -> Self {
        if channels <= self.groups {
            return self.clone();
        }
        let rows = |numbers: &[f32], length: usize| -> Vec<f32> {
            let row = |channel: usize| {
                let group = channel * self.groups / channels;
                numbers[group * length..][..length].to_vec()
            };
            (0..channels).flat_map(row).collect()
        };
        Self {
            groups: channels,
            thresholds: rows(&self.thresholds, self.levels - 1),
            table: rows(&self.table, self.levels),
            ..self.clone()
        }
    }

    /// Adds a whole number to what the codes of each channel stand for, if that is whole too.
    pub(super) fn moved(&self, numbers: &[f32]) -> Option<Self> {
        let whole = |numbers: &[f32]| numbers.iter().all(|number| number.fract() == 0.0);
        if !whole(numbers) || !whole(&self.table) {
            return None;
        }
        let mut lazy = self.spread(numbers.len());
        let levels = lazy.levels;
        for (at, value) in lazy.table.iter_mut().enumerate() {
            *value += numbers[at / levels * numbers.len() / lazy.groups];
        }
        Some(lazy)
    }

    /// Whether values rise with codes.
    pub(super) fn rises(&self) -> bool {
        self.table.chunks(self.levels).all(|row| row.is_sorted())
    }

    /// Returns the quantizer of a convolution's input, or of a node of its own.
    pub(super) fn quantizer(&self, with_terms: bool) -> Quantizer {
        let terms = if with_terms { self.terms() } else { None };
        let values = if self.rises() {
            self.table.clone()
        } else {
            // Only the terms say what the codes stand for.
            (0..self.groups * self.levels).map(|at| (at % self.levels) as f32).collect()
        };
        Quantizer {
            groups: self.groups,
            levels: self.levels,
            thresholds: self.thresholds.clone(),
            values,
            terms,
            dynamic: Dynamic::None,
        }
    }

    /// Returns the values as one scale for each group, times integers.
    pub(super) fn terms(&self) -> Option<Terms> {
        let rows: Option<Vec<(f32, Vec<i16>)>> =
            self.table.chunks(self.levels).map(integers).collect();
        let rows = rows?;
        let same = rows.iter().all(|(_, row)| *row == rows[0].1);
        let one = same && rows.iter().all(|(scale, _)| *scale == rows[0].0);
        let kept = if same { &rows[..1] } else { &rows[..] };
        let scaled = if one { &rows[..1] } else { &rows[..] };
        Some(Terms(vec![Term {
            scales: scaled.iter().map(|(scale, _)| *scale).collect(),
            integers: kept.iter().flat_map(|(_, row)| row.clone()).collect(),
        }]))
    }
}

/// Writes values as a scale times integers: the scale is the smallest distance of two values, or a
/// half of it.
pub(super) fn integers(values: &[f32]) -> Option<(f32, Vec<i16>)> {
    let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    if largest == 0.0 {
        return Some((1.0, vec![0; values.len()]));
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let distances = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|d| *d > 0.0);
    let distance = distances.fold(largest, f32::min);
    let tolerance = 4.0 * (largest.next_up() - largest);
    for part in [1.0, 2.0] {
        let step = distance / part;
        let whole: Vec<f32> = values.iter().map(|value| (value / step).round()).collect();
        let most = whole.iter().fold(0.0f32, |most, integer| most.max(integer.abs()));
        if most == 0.0 || most > f32::from(i16::MAX) {
            continue;
        }
        // The scale that the largest value gives has the smallest error.
        let scale = largest / most;
        let fits = |scale: f32, tolerance: f32| {
            let apart = |(value, integer): (&f32, &f32)| (integer * scale - value).abs();
            values.iter().zip(&whole).map(apart).all(|apart| apart <= tolerance)
        };
        let near = [scale, scale.next_up(), scale.next_down()];
        let exact = near.into_iter().find(|scale| fits(*scale, 0.0));
        if let Some(scale) = exact.or_else(|| fits(scale, tolerance).then_some(scale)) {
            return Some((scale, whole.iter().map(|integer| *integer as i16).collect()));
        }
    }
    None
}

/// Returns the smallest float, in the order of all floats, for which a condition holds that holds
/// for all larger ones too; infinity if it never holds.
fn first(holds: impl Fn(f32) -> bool) -> f32 {
    // Floats in order are integers in order.
    let float =
        |key: i64| f32::from_bits(if key < 0 { 1 << 31 | (-1 - key) as u32 } else { key as u32 });
    let (mut low, mut high) =
        (-1 - i64::from(f32::INFINITY.to_bits()), i64::from(f32::INFINITY.to_bits()));
    if holds(float(low)) {
        return f32::NEG_INFINITY;
    }
    // The condition does not hold for `low`. What is beyond `high` does not matter.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(float(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    float(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_found_to_the_bit() {
        for wanted in [0.1f32, -0.1, 1e-45, 3e38, -3e38, 1.0] {
            assert_eq!(first(|x| x >= wanted), wanted);
        }
        assert_eq!(first(|x| x > 1.0), 1.0f32.next_up());
        assert_eq!(first(|_| true), f32::NEG_INFINITY);
        assert_eq!(first(|_| false), f32::INFINITY);
    }

    #[test]
    fn values_become_integers_where_they_are_multiples() {
        assert_eq!(
            integers(&[0.0, 0.3, 0.6, 0.3 * 3.0]).map(|found| found.1),
            Some(vec![0, 1, 2, 3])
        );
        assert_eq!(integers(&[-0.75, -0.25, 0.25, 0.75]), Some((0.25, vec![-3, -1, 1, 3])));
        assert_eq!(integers(&[-1.0, 1.0]).map(|found| found.1), Some(vec![-1, 1]));
        assert_eq!(integers(&[0.0, 1.0, 2.5, 3.5]).map(|found| found.1), Some(vec![0, 2, 5, 7]));
        assert_eq!(integers(&[0.0, 1.0, std::f32::consts::PI]), None);
    }

    #[test]
    fn codes_that_stand_for_the_same_are_joined() {
        let lazy = Lazy::new(1, 4, vec![0.0, 1.0, 2.0], vec![0.0, 1.0, 1.0, 5.0]);
        assert_eq!(lazy.levels, 3);
        assert_eq!(lazy.thresholds, [0.0, 2.0]);
        assert_eq!(lazy.table, [0.0, 1.0, 5.0]);
    }
}
