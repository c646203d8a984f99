//! Quantizers of activations from thresholds and values.

use burn::tensor::Device;
use quant_core::{
    FatnnOptions, Granularity, Levels, LqNetsOptions, Method, Parameter, Quantizer,
    QuantizerConfig, Range, Role, Site, XnorOptions,
    methods::{fatnn::SLOPES, n2uq, xnor},
    parameter::BASIS,
};

use crate::lower::terms;

/// The names of parameters that several methods have.
pub(super) const CLIPPING_VALUE: &str = Parameter::CLIPPING_VALUE.name;
pub(super) const STEP_SIZE: &str = Parameter::STEP_SIZE.name;

/// Numbers by the name of their parameter.
pub(super) type Parameters<T> = Vec<(&'static str, Vec<T>)>;

/// A quantizer that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) config: QuantizerConfig,
    /// The numbers of its learned parameters and of those that it follows, such as LQ-Nets' basis.
    pub(super) parameters: Parameters<f32>,
    /// Whether its codes are those of the thresholds for every number.
    pub(super) exact: bool,
    /// The values of its codes, `[groups, levels]`.
    pub(super) values: Vec<f32>,
}

impl Found {
    /// Gives a quantizer this configuration and these parameters.
    ///
    /// # Errors
    /// A text for a configuration that the quantizer cannot have.
    pub(super) fn apply(&self, quantizer: &mut Quantizer) -> Result<(), String> {
        if self.config != *quantizer.config() {
            quantizer.reconfigure(&self.config, false).map_err(|error| error.to_string())?;
        }
        set(quantizer, &self.parameters).ok_or_else(|| "its quantizer has other parameters".into())
    }
}

/// Gives a quantizer its parameters, or returns `None` where it has others.
fn set(quantizer: &mut Quantizer, parameters: &Parameters<f32>) -> Option<()> {
    parameters.iter().try_for_each(|(name, numbers)| {
        (quantizer.set_learned(name, numbers) || quantizer.set_running(name, numbers)).then_some(())
    })
}

/// A method with the parameters that would give the thresholds, before rounding.
struct Try {
    method: Method,
    range: Range,
    parameters: Parameters<f64>,
    /// The levels of the configuration, where they are not those of the codes.
    levels: Option<usize>,
}

impl Try {
    fn new(method: Method, range: Range, parameters: Parameters<f64>) -> Self {
        Self { method, range, parameters, levels: None }
    }
}

/// How many units in the last place a parameter is moved in each direction to find the one that
/// gives the very thresholds.
const UNITS: i32 = 24;

/// The same for the second of two parameters.
const UNITS_OF_SECOND: i32 = 6;

/// What is wanted: thresholds `[groups, levels - 1]` and values `[groups, levels]`, which are right
/// up to a factor for each group.
pub(super) struct Wanted<'a> {
    pub(super) channels: usize,
    pub(super) groups: usize,
    pub(super) levels: usize,
    pub(super) thresholds: &'a [f32],
    pub(super) values: &'a [f64],
}

/// Finds a quantizer.
///
/// # Errors
/// A text that says why no method has these thresholds and values.
pub(super) fn find(wanted: &Wanted<'_>, device: &Device) -> Result<Found, String> {
    if wanted.thresholds.iter().any(|threshold| !threshold.is_finite()) {
        return Err("some of its codes are never reached".into());
    }
    let mut near: Option<Found> = None;
    for attempt in tries(wanted) {
        match attempted(wanted, &attempt, device) {
            Some(found) if found.exact => return Ok(found),
            Some(found) => {
                near.get_or_insert(found);
            }
            None => {}
        }
    }
    near.ok_or_else(|| {
        let row = &wanted.thresholds[..wanted.levels - 1];
        format!(
            "no method has the thresholds {:?} and values in the proportion {:?}",
            &row[..row.len().min(4)],
            &wanted.values[..wanted.levels.min(4)]
        )
    })
}

/// The thresholds and values of one group, as steps.
struct Group<'a> {
    thresholds: &'a [f32],
    values: &'a [f64],
    /// The distance of two thresholds if it is always the same.
    step: Option<f64>,
    /// The lowest value in units of the distance of two values, if it is always the same.
    lowest: Option<f64>,
}

impl<'a> Group<'a> {
    fn new(thresholds: &'a [f32], values: &'a [f64]) -> Self {
        let count = thresholds.len();
        let first = f64::from(thresholds[0]);
        let step = match count {
            1 => None,
            _ => Some((f64::from(thresholds[count - 1]) - first) / (count as f64 - 1.0)),
        };
        let largest = thresholds.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let step = step.filter(|step| {
            let slack = 1e-3 * step + 8.0 * f64::from(largest.next_up() - largest);
            let line = |at: usize| first + step * at as f64;
            *step > 0.0
                && thresholds
                    .iter()
                    .enumerate()
                    .all(|(at, x)| (f64::from(*x) - line(at)).abs() < slack)
        });
        let gap = (values[count] - values[0]) / count as f64;
        let even = (values.iter().enumerate())
            .all(|(at, value)| (value - values[0] - gap * at as f64).abs() < 1e-3 * gap);
        Self { thresholds, values, step, lowest: even.then(|| values[0] / gap) }
    }
}

/// The methods that may fit, the usual ones first.
fn tries(wanted: &Wanted<'_>) -> Vec<Try> {
    let Wanted { levels, thresholds, values, .. } = *wanted;
    let steps = (levels - 1) as f64;
    let groups: Vec<Group<'_>> = (thresholds.chunks(levels - 1).zip(values.chunks(levels)))
        .map(|(thresholds, values)| Group::new(thresholds, values))
        .collect();
    let all = |f: &dyn Fn(&Group<'_>) -> Option<f64>| -> Option<Vec<f64>> {
        groups.iter().map(f).collect()
    };
    let near = |x: f64, wanted: f64| (x - wanted).abs() < 0.02;
    // The distance of two values, for values that begin at `lowest` steps, and thresholds half way
    // between them.
    let step_for = |group: &Group<'_>, lowest: f64| -> Option<f64> {
        group.lowest.filter(|found| near(*found, lowest))?;
        let first = f64::from(group.thresholds[0]);
        match group.step {
            Some(step) if near(first / step, lowest + 0.5) => Some(step),
            // A single threshold gives the step if it is not 0.
            None if levels == 2 && lowest > -0.5 && first > 0.0 => Some(first / (lowest + 0.5)),
            _ => None,
        }
    };
    let mut tries = Vec::new();
    if let Some(found) = all(&|group| step_for(group, 0.0)) {
        let clip: Vec<f64> = found.iter().map(|step| step * steps).collect();
        tries.push(Try::new(Method::Lsq, Range::Unsigned, vec![(CLIPPING_VALUE, clip.clone())]));
        tries.push(Try::new(Method::LsqStep, Range::Unsigned, vec![(STEP_SIZE, found)]));
        tries.push(Try::new(Method::Pact, Range::Unsigned, vec![(CLIPPING_VALUE, clip)]));
    }
    if let Some(found) = all(&|group| step_for(group, -steps / 2.0)) {
        let clip: Vec<f64> = found.iter().map(|step| step * steps / 2.0).collect();
        tries.push(Try::new(Method::Lsq, Range::Signed, vec![(CLIPPING_VALUE, clip)]));
    }
    if levels.is_multiple_of(2)
        && let Some(found) = all(&|group| step_for(group, -(levels as f64) / 2.0))
    {
        tries.push(Try::new(Method::LsqStep, Range::Signed, vec![(STEP_SIZE, found)]));
    }
    if levels == 2 {
        tries.extend(of_two(&groups));
    }
    let even = || {
        let mut offsets = Vec::new();
        let mut found = Vec::new();
        for group in &groups {
            let lowest = group.lowest?;
            let first = f64::from(group.thresholds[0]);
            let step = match group.step {
                Some(step) => step,
                None if lowest != -0.5 && first / (lowest + 0.5) > 0.0 => first / (lowest + 0.5),
                None => return None,
            };
            let offset = first - step / 2.0;
            if !near(lowest, offset / step) {
                return None;
            }
            found.push(step);
            offsets.push(offset);
        }
        Some(vec![(STEP_SIZE, found), (Parameter::OFFSET.name, offsets)])
    };
    if let Some(learned) = even() {
        tries.push(Try::new(Method::LsqPlus, Range::Unsigned, learned));
    }
    tries.extend(of_middles(&groups, levels));
    tries.extend(of_ternary(&groups, levels));
    tries.extend(of_intervals(&groups));
    tries
}

/// Signs, whose value is not known from the thresholds: the values are taken as they are.
fn of_two(groups: &[Group<'_>]) -> Vec<Try> {
    let symmetric = |group: &Group<'_>| group.lowest.is_some_and(|low| (low + 0.5).abs() < 0.02);
    if !groups.iter().all(symmetric) {
        return Vec::new();
    }
    let thresholds: Vec<f64> = groups.iter().map(|group| group.thresholds[0].into()).collect();
    if thresholds.iter().all(|threshold| *threshold == 0.0) {
        let method = Method::Xnor(XnorOptions::default());
        return vec![Try::new(method, Range::Signed, Vec::new())];
    }
    let ends: Vec<f64> = groups.iter().map(|group| group.values[1]).collect();
    let shifted = Method::Xnor(XnorOptions { shift: true, ..XnorOptions::default() });
    vec![
        Try::new(Method::Lsq, Range::Signed, vec![(CLIPPING_VALUE, ends)]),
        Try::new(shifted, Range::Signed, vec![(xnor::SHIFT.name, thresholds)]),
    ]
}

/// Methods whose values are not evenly spaced and whose thresholds lie half way between them.
fn of_middles(groups: &[Group<'_>], levels: usize) -> Vec<Try> {
    let scaled = |group: &Group<'_>| -> Option<Vec<f64>> {
        let middle = |at: usize| (group.values[at] + group.values[at + 1]) / 2.0;
        let last = group.thresholds.len() - 1;
        let first = f64::from(group.thresholds[0]);
        let length = f64::from(group.thresholds[last]) - first;
        let scale = length / (middle(last) - middle(0));
        let fits = (0..=last).all(|at| {
            (middle(at) * scale - f64::from(group.thresholds[at])).abs() < 1e-3 * length.abs()
        });
        (fits && scale > 0.0).then(|| group.values.iter().map(|value| value * scale).collect())
    };
    if levels < 3 {
        return Vec::new();
    }
    let rows: Option<Vec<Vec<f64>>> = groups.iter().map(scaled).collect();
    let Some(rows) = rows else { return Vec::new() };
    let signed = rows.iter().any(|row| row[0] < 0.0);
    let range = if signed { Range::Signed } else { Range::Unsigned };
    let mut tries = Vec::new();
    let ends: Vec<f64> = rows.iter().map(|row| row[levels - 1]).collect();
    // Signed APoT has a value less than 2^bits.
    let count = signed.then_some(levels + 1);
    tries
        .push(Try { levels: count, ..Try::new(Method::Apot, range, vec![(CLIPPING_VALUE, ends)]) });
    if let Some(basis) = basis(&rows, levels) {
        let method = Method::LqNets(LqNetsOptions::default());
        tries.push(Try::new(method, range, vec![(BASIS, basis)]));
    }
    tries
}

/// Returns LQ-Nets' basis, `[bits, groups]`, of the values of groups.
pub(super) fn basis(rows: &[Vec<f64>], levels: usize) -> Option<Vec<f64>> {
    let bases: Option<Vec<Vec<f64>>> = rows.iter().map(|row| terms::basis(row)).collect();
    let bases = bases?;
    let bits = levels.ilog2() as usize;
    let fits = levels.is_power_of_two() && bases.iter().all(|basis| basis.len() == bits);
    let at = |at: usize| bases[at % bases.len()][at / bases.len()];
    fits.then(|| (0..bits * bases.len()).map(at).collect())
}

/// FATNN's ternary activations, whose two thresholds are learned.
fn of_ternary(groups: &[Group<'_>], levels: usize) -> Vec<Try> {
    let fits = |group: &Group<'_>| {
        group.lowest.is_some_and(|lowest| (lowest + 1.0).abs() < 0.02)
            && group.thresholds[0] < 0.0
            && group.thresholds[1] > 0.0
    };
    if levels != 3 || !groups.iter().all(fits) {
        return Vec::new();
    }
    let slopes = |at: usize| {
        groups.iter().map(|group| 0.5 / f64::from(group.thresholds[at]).abs()).collect()
    };
    let learned = vec![(SLOPES[0].name, slopes(0)), (SLOPES[1].name, slopes(1))];
    vec![Try::new(Method::Fatnn(FatnnOptions::default()), Range::Signed, learned)]
}

/// N2UQ, whose thresholds are learned, and whose values are 0, c, 2c and so on.
fn of_intervals(groups: &[Group<'_>]) -> Vec<Try> {
    let mut start = Vec::new();
    let mut scale = Vec::new();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for group in groups {
        if !group.lowest.is_some_and(|lowest| lowest.abs() < 0.02) {
            return Vec::new();
        }
        // A threshold lies in the middle of its interval, and intervals follow each other: so each
        // is twice a distance less the one before. The first is chosen so that all are positive.
        let numbers: Vec<f64> = group.thresholds.iter().copied().map(f64::from).collect();
        let (mut constant, mut low, mut high) = (0.0f64, 0.0f64, f64::INFINITY);
        let mut constants = vec![0.0];
        for (at, pair) in numbers.windows(2).enumerate() {
            constant = 2.0 * (pair[1] - pair[0]) - constant;
            constants.push(constant);
            if at.is_multiple_of(2) {
                high = high.min(constant);
            } else {
                low = low.max(-constant);
            }
        }
        let first = if high.is_finite() { (low + high) / 2.0 } else { numbers[0].abs().max(1e-3) };
        if low >= high {
            return Vec::new();
        }
        let sign = |at: usize| if at.is_multiple_of(2) { 1.0 } else { -1.0 };
        rows.push(constants.iter().enumerate().map(|(at, c)| c + sign(at) * first).collect());
        start.push(numbers[0] - first / 2.0);
        scale.push(group.values[1] - group.values[0]);
    }
    let count = rows[0].len();
    let intervals =
        (0..count * rows.len()).map(|at| rows[at % rows.len()][at / rows.len()]).collect();
    let learned = vec![
        (n2uq::START.name, start),
        (n2uq::INTERVALS.name, intervals),
        (n2uq::SCALE.name, scale),
    ];
    vec![Try::new(Method::N2uq, Range::Unsigned, learned)]
}

/// Moves a number by units in the last place.
pub(super) fn moved(x: f32, units: i32) -> f32 {
    let step = if units < 0 { f32::next_down } else { f32::next_up };
    (0..units.abs()).fold(x, |x, _| step(x))
}

/// Looks for the parameters of a method with which it has the thresholds.
fn attempted(wanted: &Wanted<'_>, attempt: &Try, device: &Device) -> Option<Found> {
    let Wanted { channels, groups, levels, thresholds, .. } = *wanted;
    let granularity = match groups {
        1 => Granularity::PerTensor,
        groups if groups == channels => Granularity::PerChannel,
        groups => Granularity::Groups(groups),
    };
    let levels_of = Levels::new(attempt.levels.unwrap_or(levels)).ok()?;
    let usual = QuantizerConfig::new(attempt.method, Role::Activation, levels_of);
    let config = QuantizerConfig { range: attempt.range, granularity, ..usual };
    config.validate("input").ok()?;
    let mut quantizer = config.init(&Site::activation("input", channels), device).ok()?;
    let base: Parameters<f32> = (attempt.parameters.iter())
        .map(|(name, numbers)| (*name, numbers.iter().map(|number| *number as f32).collect()))
        .collect();
    // What is moved: the numbers of each group, if there are at most two, such as a clipping value,
    // a step size and an offset, or the two numbers of a basis.
    let (first, second) = match base.iter().map(|(_, numbers)| numbers.len() / groups).sum() {
        1 => (UNITS, 0),
        2 => (UNITS, UNITS_OF_SECOND),
        _ => (0, 0),
    };
    let offsets = |units: i32| {
        let mut offsets: Vec<i32> = (-units..=units).collect();
        offsets.sort_by_key(|offset| offset.abs());
        offsets
    };
    let mut best = base.clone();
    let mut fewest: Vec<Option<usize>> = vec![None; groups];
    'search: for b in offsets(second) {
        for a in offsets(first) {
            let mut units = [a, b].into_iter();
            let moved: Parameters<f32> = (base.iter())
                .map(|(name, numbers)| {
                    (
                        *name,
                        numbers
                            .chunks(groups)
                            .flat_map(|row| {
                                let units = units.next().unwrap_or(0);
                                row.iter().map(move |number| moved(*number, units))
                            })
                            .collect(),
                    )
                })
                .collect();
            set(&mut quantizer, &moved)?;
            let wrong = wrong(&quantizer, wanted, 0.0, device);
            for (group, wrong) in wrong.into_iter().enumerate() {
                if fewest[group].is_none_or(|fewest| wrong < fewest) {
                    fewest[group] = Some(wrong);
                    for ((_, best), (_, moved)) in best.iter_mut().zip(&moved) {
                        for at in (group..moved.len()).step_by(groups) {
                            best[at] = moved[at];
                        }
                    }
                }
            }
            if fewest.iter().all(|fewest| *fewest == Some(0)) {
                break 'search;
            }
        }
    }
    set(&mut quantizer, &best)?;
    let exact = fewest.iter().all(|fewest| *fewest == Some(0));
    if !exact {
        // A few units in the last place of the largest threshold.
        let largest = thresholds.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let slack = 8.0 * (largest.next_up() - largest);
        wrong(&quantizer, wanted, slack, device).iter().all(|wrong| *wrong == 0).then_some(())?;
    }
    let values = quantizer.values_by_group(device).concat();
    (values.len() == groups * levels).then_some(())?;
    // The values have to be in the wanted proportion.
    for (ours, theirs) in values.chunks(levels).zip(wanted.values.chunks(levels)) {
        let end = if theirs[0].abs() > theirs[levels - 1].abs() { 0 } else { levels - 1 };
        let factor = f64::from(ours[end]) / theirs[end];
        let size = f64::from(ours[end]).abs();
        let fits = |(ours, theirs): (&f32, &f64)| {
            (f64::from(*ours) - theirs * factor).abs() <= 1e-4 * size
        };
        ours.iter().zip(theirs).all(fits).then_some(())?;
    }
    Some(Found { config, parameters: best, exact, values })
}

/// Counts, for each group, the thresholds at which a quantizer's code is too low, or just below
/// which it is too high.
fn wrong(quantizer: &Quantizer, wanted: &Wanted<'_>, slack: f32, device: &Device) -> Vec<usize> {
    let count = wanted.levels - 1;
    let beside = |x: f32| {
        if slack > 0.0 { [x + slack, x - slack] } else { [x, x.next_down()] }
    };
    let numbers: Vec<f32> = wanted.thresholds.iter().flat_map(|x| beside(*x)).collect();
    let codes = quantizer.codes_by_group(&numbers, device);
    let is_wrong = |(at, pair): (usize, &[u8])| {
        usize::from(pair[0]) <= at % count || usize::from(pair[1]) > at % count
    };
    let mut wrong = vec![0; wanted.groups];
    for (at, pair) in codes.chunks(2).enumerate() {
        wrong[at / count] += usize::from(is_wrong((at, pair)));
    }
    wrong
}
