//! How rows are written: the shortest way of each.

use alloc::vec::Vec;

use super::{
    distance::{distance, largest},
    kinds::{EVEN, FORMULA, MIDPOINTS, PARTS, RAW, UNITS, midpoints},
    line::Line,
    thresholds::Formula,
    units::{self, Unit},
};
use crate::file::{integers, pack::Packing, writer::Writer};

/// Consecutive rows that are written in the same way.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// The number of rows.
    Raw(usize),
    /// The line of each row, and the largest code of a distance.
    Even(Vec<Line>, u8),
    /// The parameters of each row.
    Formula(Formula, Vec<[f32; 2]>),
    /// The predictions of each row, and the largest code of a distance.
    Midpoints(Vec<Vec<f32>>, u8),
    /// The parameters of each row.
    Units(Unit, Vec<[f32; 2]>),
}

/// The bytes of distances with this largest code.
fn distances(largest: u8, count: usize) -> usize {
    Packing::new(usize::from(largest) + 1)
        .and_then(|packing| packing.size(count))
        .unwrap_or(usize::MAX)
}

impl Part {
    /// The bytes of the rows, without those that do not depend on their number.
    fn size(&self, length: usize) -> usize {
        match self {
            Self::Raw(rows) => 4 * length * rows,
            Self::Even(lines, largest) => {
                16 * lines.len() + distances(*largest, length * lines.len())
            }
            Self::Formula(formula, rows) => 4 * formula.parameters() * rows.len(),
            Self::Midpoints(rows, largest) => distances(*largest, length * rows.len()),
            Self::Units(unit, rows) => 4 * unit.parameters() * rows.len(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Raw(rows) => *rows,
            Self::Even(lines, _) => lines.len(),
            Self::Midpoints(rows, _) => rows.len(),
            Self::Formula(_, rows) | Self::Units(_, rows) => rows.len(),
        }
    }

    /// Takes up the rows of the part that follows. Returns it if both are written differently.
    fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Raw(rows), Self::Raw(more)) => *rows += more,
            (Self::Even(lines, largest), Self::Even(more, other)) => {
                lines.extend(more);
                *largest = other.max(*largest);
            }
            (Self::Midpoints(rows, largest), Self::Midpoints(more, other)) => {
                rows.extend(more);
                *largest = other.max(*largest);
            }
            (Self::Formula(formula, rows), Self::Formula(other, more)) if *formula == other => {
                rows.extend(more);
            }
            (Self::Units(unit, rows), Self::Units(other, more)) if *unit == other => {
                rows.extend(more);
            }
            (_, next) => return Some(next),
        }
        None
    }

    /// Whether both have distances, of very different lengths.
    fn differs_in_width(&self, next: &Self) -> bool {
        let width = |part: &Self| match part {
            Self::Even(_, largest) | Self::Midpoints(_, largest) => {
                Some((u32::from(*largest) + 1).next_power_of_two())
            }
            _ => None,
        };
        width(self) != width(next)
    }

    /// Writes the part, which begins with these numbers.
    fn write(&self, writer: &mut Writer, numbers: &[f32], length: usize) {
        let parameters = |writer: &mut Writer, rows: &[[f32; 2]], count: usize| {
            let floats = rows.iter().flat_map(|row| &row[..count]);
            floats.for_each(|float| writer.float(*float));
        };
        match self {
            Self::Raw(_) => {
                writer.byte(RAW);
                writer.floats(numbers);
            }
            Self::Even(lines, largest) => {
                writer.byte(EVEN);
                writer.number(lines.len());
                writer.byte(*largest);
                for line in lines {
                    writer.bytes(&line.step.to_le_bytes());
                    writer.bytes(&line.offset.to_le_bytes());
                }
                let predicted = lines.iter().flat_map(|line| line.numbers(length));
                pack(writer, predicted, numbers, *largest);
            }
            Self::Formula(formula, rows) => {
                writer.byte(FORMULA);
                writer.number(rows.len());
                writer.byte(*formula as u8);
                parameters(writer, rows, formula.parameters());
            }
            Self::Midpoints(rows, largest) => {
                writer.byte(MIDPOINTS);
                writer.number(rows.len());
                writer.byte(*largest);
                pack(writer, rows.iter().flatten().copied(), numbers, *largest);
            }
            Self::Units(unit, rows) => {
                writer.byte(UNITS);
                writer.number(rows.len());
                if let Unit::Table(list) = unit {
                    writer.byte(Unit::SIMPLE.len() as u8);
                    integers::write(writer, list, length);
                } else {
                    let number = Unit::SIMPLE.iter().position(|simple| simple == unit);
                    writer.byte(number.unwrap_or_default() as u8);
                }
                parameters(writer, rows, unit.parameters());
            }
        }
    }
}

fn pack(writer: &mut Writer, predicted: impl Iterator<Item = f32>, numbers: &[f32], largest: u8) {
    // All distances are at most the largest, so that each has a code.
    let codes = predicted.zip(numbers).map(|(from, to)| distance(from, *to).unwrap_or_default());
    let codes: Vec<u8> = codes.collect();
    if let Some(packing) = Packing::new(usize::from(largest) + 1) {
        packing.pack(&codes, &mut writer.description);
    }
}

fn even(row: &[f32]) -> Option<Part> {
    let (line, largest) = Line::best(row)?;
    Some(Part::Even(Vec::from([line]), largest))
}

/// The parts of rows, of which each is written in the shortest of these ways, or in full.
fn parts(
    numbers: &[f32],
    length: usize,
    allows_formulas: bool,
    ways: impl Fn(usize, &[f32]) -> Vec<Part>,
) -> Vec<Part> {
    if !(2..=256).contains(&length) || numbers.is_empty() || !numbers.len().is_multiple_of(length) {
        return Vec::from([Part::Raw(numbers.len() / length.max(1))]);
    }
    let rows = || numbers.chunks_exact(length);
    let all = Part::Raw(rows().len());
    if !allows_formulas {
        let lines = rows().map(Line::best).collect::<Option<Vec<_>>>().unwrap_or_default();
        let largest = lines.iter().map(|(_, largest)| *largest).max();
        let even = largest
            .map(|largest| Part::Even(lines.into_iter().map(|(line, _)| line).collect(), largest));
        let size = 4 * numbers.len();
        return Vec::from([even.filter(|even| 1 + even.size(length) < size).unwrap_or(all)]);
    }
    let ways: Vec<Vec<Part>> = rows()
        .enumerate()
        .map(|(index, row)| {
            let mut ways = ways(index, row);
            ways.extend(even(row));
            ways.push(Part::Raw(1));
            ways
        })
        .collect();
    let same = ways[0].iter().filter_map(|way| in_one_way(way, &ways[1..]));
    let candidates = core::iter::once(in_shortest_ways(&ways, length)).chain(same);
    let size = |parts: &Vec<Part>| -> usize {
        // A part of its own takes a few bytes more.
        let of_part = |part: &Part| if parts.len() > 1 { 4 } else { 0 } + part.size(length);
        parts.iter().map(of_part).sum()
    };
    candidates.min_by_key(size).unwrap_or_default()
}

/// Each row in the shortest of its ways.
fn in_shortest_ways(ways: &[Vec<Part>], length: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for ways in ways {
        let shortest = ways.iter().min_by_key(|way| way.size(length)).cloned();
        let next = match (parts.last_mut(), shortest) {
            (Some(last), Some(next)) if !last.differs_in_width(&next) => last.join(next),
            (_, next) => next,
        };
        parts.extend(next);
    }
    parts
}

/// All rows in the way of the first. None if one of the others does not have it.
fn in_one_way(first: &Part, others: &[Vec<Part>]) -> Option<Vec<Part>> {
    let mut part = first.clone();
    for ways in others {
        ways.iter().find_map(|way| part.join(way.clone()).is_none().then_some(()))?;
    }
    Some(Vec::from([part]))
}

/// How the values of codes are written.
pub(super) fn of_values(values: &[f32], levels: usize, allows_formulas: bool) -> Vec<Part> {
    let mut units: Vec<(Unit, Vec<f32>)> = Vec::new();
    if allows_formulas && levels >= 2 {
        let simple = Unit::SIMPLE.into_iter();
        units.extend(simple.filter_map(|unit| unit.units(levels).map(|units| (unit, units))));
        // The list of all rows, if they have the same.
        let row = values.chunks_exact(levels).find(|row| row.iter().any(|value| *value != 0.0));
        let list = row.filter(|row| !is_simple(row, &units)).and_then(units::integers);
        units.extend(list.and_then(|list| {
            let unit = Unit::Table(list);
            unit.units(levels).map(|units| (unit, units))
        }));
    }
    parts(values, levels, allows_formulas, |_, row| {
        let found = |(unit, units): &(Unit, Vec<f32>)| {
            let parameters = unit.found(row, units)?;
            Some(Part::Units(unit.clone(), Vec::from([parameters])))
        };
        units.iter().filter_map(found).collect()
    })
}

fn is_simple(row: &[f32], units: &[(Unit, Vec<f32>)]) -> bool {
    units.iter().any(|(unit, units)| unit.found(row, units).is_some())
}

/// How thresholds are written, where codes have these values and units.
pub(super) fn of_thresholds(
    [thresholds, values]: [&[f32]; 2],
    length: usize,
    units: &[f32],
    allows_formulas: bool,
) -> Vec<Part> {
    parts(thresholds, length, allows_formulas, |index, row| {
        let Some(values) = values.get(index * (length + 1)..(index + 1) * (length + 1)) else {
            return Vec::new();
        };
        let found = |formula: Formula| {
            let parameters = formula.found(row, values, units)?;
            Some(Part::Formula(formula, Vec::from([parameters])))
        };
        let mut ways: Vec<Part> = Formula::ALL.into_iter().filter_map(found).collect();
        let predicted: Vec<f32> = midpoints(values).collect();
        // The reader asks for distances that take bytes.
        ways.extend(
            largest(&predicted, row)
                .map(|largest| Part::Midpoints(Vec::from([predicted]), largest.max(1))),
        );
        ways
    })
}

/// Writes the rows in these parts.
pub(super) fn write(writer: &mut Writer, numbers: &[f32], length: usize, parts: &[Part]) {
    if let [part] = parts {
        return part.write(writer, numbers, length);
    }
    writer.byte(PARTS);
    writer.number(parts.len());
    let mut rest = numbers;
    for part in parts {
        let (these, others) = rest.split_at(part.rows() * length);
        part.write(writer, these, length);
        rest = others;
    }
}
