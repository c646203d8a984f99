//! Quantized weights from their values.

use burn::tensor::{Device, Tensor, TensorData};
use quant_core::{
    Granularity, Levels, LqNetsOptions, Method, Normalization, QuantizedWeight, Quantizer,
    QuantizerConfig, Reached, Role, Site, TtqOptions,
    methods::ttq::{NEGATIVE, POSITIVE},
    parameter::BASIS,
};

use super::inputs::{self, CLIPPING_VALUE, Found, Parameters, STEP_SIZE, moved};
use crate::lower::terms;

/// A weight `[outputs, elements of an output]` as integers times a unit for each output.
struct Grid {
    integers: Vec<i32>,
    units: Vec<f64>,
    /// What the integers were divided by.
    divisor: i32,
}

/// The weight of a layer as its values.
pub(super) struct Wanted<'a> {
    pub(super) shape: [usize; 4],
    pub(super) values: &'a [f64],
    /// Where they are integers: these, and what a product of the integers of the weight and of the
    /// input stands for, by output.
    pub(super) integers: Option<(&'a [i32], &'a [f32])>,
    /// The scale of the input, by which those products are divided.
    pub(super) input_scale: Option<f32>,
}

/// What a weight becomes: its quantizer, and the numbers that it quantizes.
pub(super) struct Weight {
    pub(super) found: Found,
    pub(super) numbers: Vec<f32>,
}

/// How far values may be from those that a quantizer gives, relative to the largest.
const TOLERANCE: f32 = 2e-6;

/// How many units in the last place a clipping value is moved.
const UNITS: i32 = 16;

/// Finds the quantizer of a weight.
///
/// # Errors
/// A text that says why no method has these values.
pub(super) fn find(wanted: &Wanted<'_>, device: &Device) -> Result<Weight, String> {
    let outputs = wanted.shape[0];
    // The scale of the input may be known less exactly than the values.
    let by_values = Wanted { integers: None, ..*wanted };
    let attempts = [
        grid(wanted).and_then(|grid| on_grid(wanted, &grid, device)),
        grid(&by_values).and_then(|grid| on_grid(&by_values, &grid, device)),
        ternary(wanted),
        sums(wanted),
        powers(wanted),
    ];
    for attempt in attempts.into_iter().flatten() {
        if let Some(weight) = checked(wanted, attempt, device) {
            return Ok(weight);
        }
    }
    let count = (wanted.values.chunks(wanted.values.len() / outputs.max(1)))
        .map(|row| distinct(row).len())
        .max()
        .unwrap_or(0);
    Err(format!("no method has the {count} values of its weight"))
}

/// Returns the different values of a row in ascending order. Values that differ by rounding count
/// as one.
fn distinct(row: &[f64]) -> Vec<f64> {
    let mut sorted = row.to_vec();
    sorted.sort_by(f64::total_cmp);
    let largest = sorted.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    sorted.dedup_by(|a, b| (*a - *b).abs() <= 1e-5 * largest);
    sorted
}

/// Writes a weight as integers.
fn grid(wanted: &Wanted<'_>) -> Option<Grid> {
    let outputs = wanted.shape[0];
    let of_output = wanted.values.len() / outputs;
    let (mut integers, mut units) = match wanted.integers {
        Some((integers, factors)) => {
            let scale = wanted.input_scale.map_or(1.0, f64::from);
            (integers.to_vec(), factors.iter().map(|factor| f64::from(*factor) / scale).collect())
        }
        None => {
            let mut integers = Vec::with_capacity(wanted.values.len());
            let mut units: Vec<f64> = Vec::with_capacity(outputs);
            for row in wanted.values.chunks(of_output) {
                let near = unit(&distinct(row))?;
                // The unit with the smallest squared error.
                let (mut products, mut squares) = (0.0, 0.0);
                for value in row {
                    let integer = (value / near).round();
                    integers.push(integer as i32);
                    products += value * integer;
                    squares += integer * integer;
                }
                units.push(if squares > 0.0 { products / squares } else { near });
            }
            (integers, units)
        }
    };
    // Units are above 0, and integers as small as can be.
    let divisor = integers.iter().fold(0, |divisor, i| gcd(divisor, i.abs())).max(1);
    for (row, unit) in integers.chunks_mut(of_output).zip(&mut units) {
        let sign = if *unit < 0.0 { -1 } else { 1 };
        row.iter_mut().for_each(|i| *i = *i / divisor * sign);
        *unit = unit.abs() * f64::from(divisor);
        if *unit == 0.0 {
            return None;
        }
    }
    Some(Grid { integers, units, divisor })
}

fn gcd(mut a: i32, mut b: i32) -> i32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Returns the largest number of which all values are whole multiples, up to 255.
fn unit(values: &[f64]) -> Option<f64> {
    let largest = values.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    if largest == 0.0 {
        return Some(1.0);
    }
    // The largest value is the most exact one, relative to the unit.
    (1..=255).map(|count| largest / f64::from(count)).find(|unit| {
        let whole = |value: &f64| ((value / unit).round() * unit - value).abs() < 1e-5 * largest;
        values.iter().all(whole)
    })
}

/// LSQ, with its levels on both sides of 0, or as in its paper.
fn on_grid(wanted: &Wanted<'_>, grid: &Grid, device: &Device) -> Option<Weight> {
    let (lowest, highest) = (*grid.integers.iter().min()?, *grid.integers.iter().max()?);
    let odd = grid.integers.iter().all(|i| i % 2 != 0);
    let most = lowest.abs().max(highest);
    let (method, name, levels, steps) = if odd {
        let levels = (most as usize + 1).next_power_of_two().max(2);
        (Method::Lsq, CLIPPING_VALUE, levels, (levels - 1) as f64)
    } else if -lowest > highest && (-lowest as usize).is_power_of_two() && lowest < -1 {
        (Method::LsqStep, STEP_SIZE, 2 * -lowest as usize, 1.0)
    } else {
        let levels = (2 * most as usize + 2).next_power_of_two().max(4) - 1;
        (Method::Lsq, CLIPPING_VALUE, levels, (levels - 1) as f64 / 2.0)
    };
    let one = grid.units.iter().all(|unit| (unit - grid.units[0]).abs() <= 1e-6 * unit);
    let same = wanted.integers.is_none_or(|(_, factors)| factors.iter().all(|f| *f == factors[0]));
    let granularity = if one && same { Granularity::PerTensor } else { Granularity::PerChannel };
    let config = QuantizerConfig {
        granularity,
        ..QuantizerConfig::new(method, Role::Weight, Levels::new(levels).ok()?)
    };
    let rows = if granularity == Granularity::PerTensor { 1 } else { grid.units.len() };
    let mut numbers: Vec<f32> = (0..rows).map(|row| (grid.units[row] * steps) as f32).collect();
    if let (Some((_, factors)), Some(input), true) =
        (wanted.integers, wanted.input_scale, method == Method::Lsq)
    {
        let product = |row: usize| factors[row].abs() * grid.divisor as f32;
        let products: Vec<f32> = (0..rows).map(product).collect();
        numbers = fitted(numbers, &config, input, &products, device)?;
    }
    let of_output = grid.integers.len() / grid.units.len();
    let value = |(at, i): (usize, &i32)| (grid.units[at / of_output] * f64::from(*i)) as f32;
    let values = grid.integers.iter().enumerate().map(value).collect();
    let found =
        Found { config, parameters: vec![(name, numbers)], exact: true, values: Vec::new() };
    Some(Weight { found, numbers: values })
}

/// Returns the clipping values near these whose levels, lowered, have a unit that gives `products`
/// when it is multiplied by the scale of the input; those that are given where there are none.
fn fitted(
    near: Vec<f32>,
    config: &QuantizerConfig,
    input: f32,
    products: &[f32],
    device: &Device,
) -> Option<Vec<f32>> {
    let (rows, levels) = (near.len(), config.levels.count());
    let shape = [rows, 1, 1, levels];
    let config = QuantizerConfig { granularity: Granularity::PerChannel, ..config.clone() };
    let mut quantizer = config.init(&Site::weight("weight", shape), device).ok()?;
    let mut found: Vec<Option<f32>> = vec![None; rows];
    let mut offsets: Vec<i32> = (-UNITS..=UNITS).collect();
    offsets.sort_by_key(|offset| offset.abs());
    for units in offsets {
        let clips: Vec<f32> = near.iter().map(|near| moved(*near, units)).collect();
        quantizer.set_learned(CLIPPING_VALUE, &clips).then_some(())?;
        let weight = QuantizedWeight {
            reached: Reached { path: String::new(), quantizer: quantizer.clone() },
            weight: Tensor::zeros(shape, device),
            shape: shape.to_vec(),
        };
        for (row, values) in weight.to_codes().values.iter().enumerate() {
            let terms = terms::terms(values, levels);
            let fits = matches!(terms.as_ref().map(|terms| &terms.0[..]), Some([term])
                if input * term.scales[0] == products[row]);
            if fits {
                found[row].get_or_insert(clips[row]);
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    Some(found.into_iter().zip(near).map(|(found, near)| found.unwrap_or(near)).collect())
}

fn plain(method: Method, levels: usize, granularity: Granularity) -> Option<QuantizerConfig> {
    let usual = QuantizerConfig::new(method, Role::Weight, Levels::new(levels).ok()?);
    Some(QuantizerConfig { granularity, normalization: Normalization::None, ..usual })
}

/// Rows of the weight that share values: all of it, or those of an output channel.
fn rows<'a>(wanted: &'a Wanted<'_>, granularity: Granularity) -> std::slice::Chunks<'a, f64> {
    let outputs = if granularity == Granularity::PerTensor { 1 } else { wanted.shape[0] };
    wanted.values.chunks(wanted.values.len() / outputs)
}

const GRANULARITIES: [Granularity; 2] = [Granularity::PerTensor, Granularity::PerChannel];

/// TTQ: a value for positive numbers, 0, and one for negative numbers. Training may have moved both
/// to the same side of 0.
fn ternary(wanted: &Wanted<'_>) -> Option<Weight> {
    GRANULARITIES.into_iter().find_map(|granularity| {
        let mut positive: Vec<f32> = Vec::new();
        let mut negative: Vec<f32> = Vec::new();
        for row in rows(wanted, granularity) {
            let mut values = distinct(row);
            values.retain(|value| *value != 0.0);
            let [high, low] = match values[..] {
                [] => [1.0, 1.0],
                [value] if value > 0.0 => [value, 1.0],
                [value] => [1.0, -value],
                [low, high] => [high, -low],
                _ => return None,
            };
            positive.push(high as f32);
            negative.push(low as f32);
        }
        let config = plain(Method::Ttq(TtqOptions::default()), 3, granularity)?;
        // The numbers are far from the threshold on the side that their value stands for.
        let of_row = wanted.values.len() / positive.len();
        let number = |(at, value): (usize, &f64)| {
            let (high, low) = (f64::from(positive[at / of_row]), f64::from(negative[at / of_row]));
            let size = high.abs().max(low.abs()) as f32;
            match *value {
                0.0 => 0.0,
                value if (value - high).abs() <= (value + low).abs() => size,
                _ => -size,
            }
        };
        let numbers = wanted.values.iter().enumerate().map(number).collect();
        let parameters = vec![(POSITIVE.name, positive.clone()), (NEGATIVE.name, negative.clone())];
        let found = Found { config, parameters, exact: true, values: Vec::new() };
        Some(Weight { found, numbers })
    })
}

/// LQ-Nets: sums of a few numbers.
fn sums(wanted: &Wanted<'_>) -> Option<Weight> {
    GRANULARITIES.into_iter().find_map(|granularity| {
        let rows: Vec<Vec<f64>> = rows(wanted, granularity).map(distinct).collect();
        let levels = rows.iter().map(Vec::len).max()?;
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| completed(row, levels)).collect();
        let basis = inputs::basis(&rows, levels)?;
        let config = plain(Method::LqNets(LqNetsOptions::default()), levels, granularity)?;
        let basis = basis.iter().map(|number| *number as f32).collect();
        Some(as_they_are(wanted, config, vec![(BASIS, basis)]))
    })
}

/// Returns the levels of LQ-Nets of which a row with few elements has only some. They lie on both
/// sides of 0 alike. If of four levels one size alone is there, the other size is chosen.
fn completed(row: &[f64], levels: usize) -> Vec<f64> {
    if row.len() == levels {
        return row.to_vec();
    }
    let mut all: Vec<f64> = row.iter().flat_map(|value| [*value, -value]).collect();
    if let (Some(largest), 4) = (all.iter().copied().reduce(f64::max), levels)
        && distinct(&all).len() == 2
    {
        all.extend([largest / 2.0, -largest / 2.0]);
    }
    distinct(&all)
}

/// APoT: sums of powers of two.
fn powers(wanted: &Wanted<'_>) -> Option<Weight> {
    GRANULARITIES.into_iter().find_map(|granularity| {
        let largest = |row: &[f64]| row.iter().fold(0.0f64, |most, x| most.max(x.abs())) as f32;
        let ends: Vec<f32> = rows(wanted, granularity).map(largest).collect();
        let count = rows(wanted, granularity).map(|row| distinct(row).len()).max()?;
        let config = plain(Method::Apot, count.next_power_of_two(), granularity)?;
        Some(as_they_are(wanted, config, vec![(CLIPPING_VALUE, ends)]))
    })
}

fn as_they_are(
    wanted: &Wanted<'_>,
    config: QuantizerConfig,
    parameters: Parameters<f32>,
) -> Weight {
    let found = Found { config, parameters, exact: true, values: Vec::new() };
    Weight { found, numbers: wanted.values.iter().map(|value| *value as f32).collect() }
}

/// Returns the weight if its quantizer gives the values.
fn checked(wanted: &Wanted<'_>, weight: Weight, device: &Device) -> Option<Weight> {
    let config = &weight.found.config;
    config.validate("weight").ok()?;
    let mut quantizer: Quantizer =
        config.init(&Site::weight("weight", wanted.shape), device).ok()?;
    weight.found.apply(&mut quantizer).ok()?;
    let numbers = TensorData::new(weight.numbers.clone(), wanted.shape);
    let found = quantizer.forward(Tensor::<4>::from_data(numbers, device)).into_data();
    let largest = wanted.values.iter().fold(0.0f64, |most, x| most.max(x.abs())) as f32;
    // Levels are differences of numbers as large as the clipping value, which may be much larger
    // than the weights that are there.
    let clipping = weight.found.parameters.iter().filter(|(name, _)| *name == CLIPPING_VALUE);
    let bound = clipping.flat_map(|(_, values)| values).fold(0.0f32, |most, x| most.max(x.abs()));
    let most = (TOLERANCE * largest).max(2.0 * f32::EPSILON * bound).max(1e-30);
    let near = |(found, value): (f32, &f64)| (found - *value as f32).abs() <= most;
    found.iter::<f32>().zip(wanted.values).all(near).then_some(weight)
}
