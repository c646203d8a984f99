//! How rows are read.

use alloc::{format, vec::Vec};

use super::{
    distance::moved,
    kinds::{EVEN, FORMULA, MIDPOINTS, PARTS, RAW, TERMS, UNITS, midpoints},
    line::Line,
    thresholds::Formula,
    units::{self, Unit},
};
use crate::{
    Error,
    file::{integers, pack::Packing, reader::Reader},
    model::Term,
};

/// Rows that were read. Some follow from values that come after them in the file.
#[derive(Debug)]
enum Rows {
    Numbers(Vec<f32>),
    /// The parameters of all rows.
    Formula(Formula, Vec<f32>),
    /// The codes of the distances of all numbers.
    Midpoints(Vec<u8>),
}

/// Thresholds whose numbers may depend on the values of the codes.
#[derive(Debug)]
pub(in crate::file) struct Thresholds(Vec<Rows>);

/// Values, and their units if all rows have the same.
#[derive(Debug)]
pub(in crate::file) struct Values {
    pub(in crate::file) numbers: Vec<f32>,
    units: Vec<f32>,
}

impl Values {
    /// Values that follow from terms, or come with them.
    pub(in crate::file) fn with_terms(numbers: Vec<f32>, terms: &[Term], levels: usize) -> Self {
        Self { numbers, units: units::of_terms(terms, levels) }
    }
}

/// Reads the thresholds of rows of `length`.
pub(in crate::file) fn read_thresholds(
    reader: &mut Reader<'_>,
    length: usize,
) -> Result<Thresholds, Error> {
    let read = |reader: &mut Reader<'_>, kind| match kind {
        FORMULA => {
            let rows = reader.number()?;
            let formula = Formula::ALL.get(usize::from(reader.byte()?)).copied();
            let formula =
                formula.ok_or_else(|| reader.error("thresholds of an unknown formula"))?;
            Ok(Rows::Formula(formula, parameters(reader, rows, formula.parameters())?))
        }
        MIDPOINTS => {
            let rows = reader.number()?;
            let largest = reader.byte()?;
            // Without a byte for each row, a length could name any number of them.
            let codes = if largest > 0 { codes(reader, rows, length, largest) } else { None };
            codes.map(Rows::Midpoints).ok_or_else(|| unpacked(reader))
        }
        kind => numbers(reader, kind, length).map(Rows::Numbers),
    };
    let kind = reader.byte()?;
    if kind != PARTS {
        return Ok(Thresholds(Vec::from([read(reader, kind)?])));
    }
    // The shortest part has two bytes.
    let parts = reader.list(2, |reader| {
        let kind = reader.byte()?;
        read(reader, kind)
    });
    parts.map(Thresholds)
}

impl Thresholds {
    /// The numbers, where codes have these values. None if they do not fit each other.
    pub(in crate::file) fn numbers(self, length: usize, values: &Values) -> Option<Vec<f32>> {
        let count = |rows: &Rows| match rows {
            Rows::Numbers(numbers) => numbers.len(),
            Rows::Formula(formula, all) => {
                (all.len() / formula.parameters()).saturating_mul(length)
            }
            Rows::Midpoints(codes) => codes.len(),
        };
        // A vector that grows would take more than the numbers.
        let mut all = Vec::new();
        let count = self.0.iter().map(count).fold(0, usize::saturating_add);
        all.try_reserve_exact(count).ok()?;
        for rows in self.0 {
            match rows {
                Rows::Numbers(numbers) => all.extend(numbers),
                Rows::Formula(formula, parameters) => {
                    for parameters in parameters.chunks_exact(formula.parameters()) {
                        all.extend(formula.numbers(parameters, length, &values.units)?);
                    }
                }
                Rows::Midpoints(codes) => {
                    for codes in codes.chunks_exact(length) {
                        let at = all.len() / length * (length + 1);
                        let values = values.numbers.get(at..at.checked_add(length + 1)?)?;
                        for (predicted, &code) in midpoints(values).zip(codes) {
                            all.push(moved(predicted, code)?);
                        }
                    }
                }
            }
        }
        Some(all)
    }
}

/// Reads the values of rows of `levels`. None if they are to be computed from terms.
pub(in crate::file) fn read_values(
    reader: &mut Reader<'_>,
    levels: usize,
) -> Result<Option<Values>, Error> {
    let read = |reader: &mut Reader<'_>, kind| match kind {
        UNITS => read_units(reader, levels),
        kind => {
            let numbers = numbers(reader, kind, levels)?;
            Ok(Values { numbers, units: Vec::new() })
        }
    };
    match reader.byte()? {
        TERMS => Ok(None),
        PARTS => {
            let parts = reader.list(2, |reader| {
                let kind = reader.byte()?;
                read(reader, kind)
            })?;
            let mut numbers = Vec::with_capacity(parts.iter().map(|part| part.numbers.len()).sum());
            parts.into_iter().for_each(|part| numbers.extend(part.numbers));
            Ok(Some(Values { numbers, units: Vec::new() }))
        }
        kind => read(reader, kind).map(Some),
    }
}

fn read_units(reader: &mut Reader<'_>, levels: usize) -> Result<Values, Error> {
    let rows = reader.number()?;
    let kind = usize::from(reader.byte()?);
    let unit = match Unit::SIMPLE.get(kind) {
        Some(unit) => unit.clone(),
        None if kind == Unit::SIMPLE.len() => Unit::Table(integers::read(reader, levels)?),
        None => return Err(reader.error("values of an unknown formula")),
    };
    let units = unit.units(levels);
    let units = units.ok_or_else(|| reader.error("integers that are not one for each value"))?;
    let parameters = parameters(reader, rows, unit.parameters())?;
    let rows = parameters.chunks_exact(unit.parameters());
    // A vector that grows would take more than the numbers.
    let mut numbers = Vec::new();
    let count = rows.len().saturating_mul(levels);
    numbers.try_reserve_exact(count).map_err(|_| reader.error("too many values for the memory"))?;
    rows.for_each(|parameters| numbers.extend(unit.values(&units, parameters)));
    Ok(Values { numbers, units })
}

/// Reads the parameters of rows, which have `count` each.
fn parameters(reader: &mut Reader<'_>, rows: usize, count: usize) -> Result<Vec<f32>, Error> {
    let size = rows.checked_mul(4 * count).ok_or_else(|| reader.error("too many rows"))?;
    let (floats, _) = reader.bytes(size)?.as_chunks::<4>();
    Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// Reads rows that follow from nothing else.
fn numbers(reader: &mut Reader<'_>, kind: u8, length: usize) -> Result<Vec<f32>, Error> {
    match kind {
        RAW => reader.floats(),
        EVEN => read_even(reader, length),
        TERMS => Err(reader.error("thresholds cannot have terms")),
        kind => Err(reader.error(format!("a list of the unknown kind {kind}"))),
    }
}

fn unpacked(reader: &Reader<'_>) -> Error {
    reader.error("rows of numbers that are not packed")
}

/// Reads the codes of the distances of rows.
fn codes(reader: &mut Reader<'_>, rows: usize, length: usize, largest: u8) -> Option<Vec<u8>> {
    let count = rows.checked_mul(length)?;
    let packing = Packing::new(usize::from(largest) + 1)?;
    let words = reader.bytes(packing.size(count)?).ok()?;
    packing.unpack(words, count)
}

fn read_even(reader: &mut Reader<'_>, length: usize) -> Result<Vec<f32>, Error> {
    let rows = reader.number()?;
    let largest = reader.byte()?;
    let size = rows.checked_mul(16).ok_or_else(|| reader.error("too many rows"))?;
    let mut lines = Reader::new(reader.bytes(size)?, 0);
    let codes = codes(reader, rows, length, largest).ok_or_else(|| unpacked(reader))?;
    let mut numbers = Vec::with_capacity(codes.len());
    for row in codes.chunks_exact(length) {
        let line = Line { step: lines.double()?, offset: lines.double()? };
        for (predicted, &code) in line.numbers(length).into_iter().zip(row) {
            numbers.push(moved(predicted, code).ok_or_else(|| unpacked(reader))?);
        }
    }
    Ok(numbers)
}
