//! Rows of floats that are nearly evenly spaced, as those of a quantizer's thresholds and values.
//!
//! Number i of a row is predicted as step·(i + offset), in 64 bits with a rounding after each
//! operation, and then rounded to 32 bits. The file has the step and the offset of each row, and
//! for each number its distance from the prediction, in units in the last place.

use alloc::vec::Vec;

use super::{pack::Packing, reader::Reader, writer::Writer};
use crate::Error;

/// The numbers follow as they are.
const RAW: u8 = 0;
/// Predictions and distances.
const EVEN: u8 = 1;
/// Nothing follows: the numbers are the sums of the terms that come before them.
pub(super) const TERMS: u8 = 2;

/// The prediction of a row.
#[derive(Debug, Clone, Copy)]
struct Line {
    step: f64,
    offset: f64,
}

impl Line {
    fn at(self, index: usize) -> f32 {
        ((index as f64 + self.offset) * self.step) as f32
    }

    /// The largest code of a distance in the row. None if one of them has no code.
    fn fit(self, row: &[f32]) -> Option<u8> {
        row.iter().enumerate().try_fold(0, |largest: u8, (i, &number)| {
            distance(self.at(i), number).map(|code| largest.max(code))
        })
    }

    /// The lines that are tried: through both ends, and through the end that is further from 0 and
    /// a zero point that is a multiple of one half. The latter also with a step of 32 bits.
    fn candidates(row: &[f32]) -> [Self; 3] {
        let (first, last) = (f64::from(row[0]), f64::from(row[row.len() - 1]));
        let count = (row.len() - 1) as f64;
        let step = (last - first) / count;
        let exact = Self { step, offset: first / step };
        let offset = half_integer(exact.offset);
        let step = if first.abs() > last.abs() { first / offset } else { last / (count + offset) };
        [exact, Self { step, offset }, Self { step: f64::from(step as f32), offset }]
    }

    fn best(row: &[f32]) -> Option<(Self, u8)> {
        let lines = Self::candidates(row).into_iter();
        let fitting = lines.filter_map(|line| line.fit(row).map(|largest| (line, largest)));
        fitting.min_by_key(|&(_, largest)| largest)
    }
}

/// The nearest multiple of one half.
fn half_integer(number: f64) -> f64 {
    // The cast saturates. Rows have 256 numbers at most, so that far larger offsets are not of use.
    let doubled = 2.0 * number + if number < 0.0 { -0.5 } else { 0.5 };
    (doubled as i64) as f64 / 2.0
}

/// Integers in the order of the floats: neighbours differ by one.
fn order(number: f32) -> i32 {
    let bits = number.to_bits() as i32;
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// The code of the distance from `predicted` to `number`: 0, 1, 2, 3, 4 for 0, -1, 1, -2, 2. None
/// if it is too large for a byte, or if the prediction is not finite.
fn distance(predicted: f32, number: f32) -> Option<u8> {
    let distance = i64::from(order(number)) - i64::from(order(predicted));
    if !predicted.is_finite() || !(-128..=127).contains(&distance) {
        return None;
    }
    Some(if distance < 0 { -2 * distance - 1 } else { 2 * distance } as u8)
}

/// The number at the distance of this code. None if there is no such number.
fn moved(predicted: f32, code: u8) -> Option<f32> {
    let half = i32::from(code >> 1);
    let distance = if code & 1 == 1 { -half - 1 } else { half };
    if !predicted.is_finite() {
        return None;
    }
    let order = order(predicted).checked_add(distance)?;
    Some(f32::from_bits(if order < 0 { order ^ i32::MAX } else { order } as u32))
}

/// Writes rows of `length` numbers, in the shorter of the two ways.
pub(super) fn write(writer: &mut Writer, numbers: &[f32], length: usize) {
    let even = even(numbers, length).filter(|bytes| bytes.len() < 4 * numbers.len());
    if let Some(bytes) = even {
        writer.byte(EVEN);
        writer.number(numbers.len() / length);
        writer.bytes(&bytes);
    } else {
        writer.byte(RAW);
        writer.floats(numbers);
    }
}

/// The bytes of rows as predictions and distances. None if they cannot be written like this.
fn even(numbers: &[f32], length: usize) -> Option<Vec<u8>> {
    if !(2..=256).contains(&length) || numbers.is_empty() || !numbers.len().is_multiple_of(length) {
        return None;
    }
    let rows = numbers.chunks_exact(length);
    let lines = rows.clone().map(Line::best).collect::<Option<Vec<_>>>()?;
    let largest = lines.iter().map(|&(_, largest)| largest).max()?;
    let packing = Packing::new(usize::from(largest) + 1)?;
    let mut bytes = alloc::vec![largest];
    for (line, _) in &lines {
        bytes.extend_from_slice(&line.step.to_le_bytes());
        bytes.extend_from_slice(&line.offset.to_le_bytes());
    }
    let mut codes = Vec::with_capacity(numbers.len());
    for (row, (line, _)) in rows.zip(&lines) {
        for (i, &number) in row.iter().enumerate() {
            codes.push(distance(line.at(i), number)?);
        }
    }
    packing.pack(&codes, &mut bytes);
    Some(bytes)
}

/// Reads rows of `length` numbers. None if they are to be computed from terms.
pub(super) fn read(reader: &mut Reader<'_>, length: usize) -> Result<Option<Vec<f32>>, Error> {
    match reader.byte()? {
        RAW => reader.floats().map(Some),
        EVEN => read_even(reader, length).map(Some),
        TERMS => Ok(None),
        kind => Err(reader.error(alloc::format!("a list of the unknown kind {kind}"))),
    }
}

fn read_even(reader: &mut Reader<'_>, length: usize) -> Result<Vec<f32>, Error> {
    let rows = reader.number()?;
    let largest = reader.byte()?;
    let size = rows.checked_mul(16).ok_or_else(|| reader.error("too many rows"))?;
    let mut lines = Reader::new(reader.bytes(size)?, 0);
    let unknown = |reader: &Reader<'_>| reader.error("rows of numbers that are not packed");
    let count = rows.checked_mul(length).ok_or_else(|| unknown(reader))?;
    let packing = Packing::new(usize::from(largest) + 1).ok_or_else(|| unknown(reader))?;
    let size = packing.size(count).ok_or_else(|| unknown(reader))?;
    let words = reader.bytes(size)?;
    let codes = packing.unpack(words, count).ok_or_else(|| unknown(reader))?;
    let mut numbers = Vec::with_capacity(count);
    for row in codes.chunks_exact(length) {
        let line = Line { step: lines.double()?, offset: lines.double()? };
        for (i, &code) in row.iter().enumerate() {
            numbers.push(moved(line.at(i), code).ok_or_else(|| unknown(reader))?);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers and the bytes that they took.
    fn round_trip(numbers: &[f32], length: usize) -> usize {
        let mut writer = Writer::default();
        write(&mut writer, numbers, length);
        let mut reader = Reader::new(&writer.description, 0);
        let read = read(&mut reader, length).unwrap().unwrap();
        assert!(reader.is_at_end());
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(numbers));
        writer.description.len()
    }

    #[test]
    fn grids_take_two_bits_or_less_for_each_number() {
        let most = 3 + 16 + 64;
        for step in [0.0123f32, 1.7e-6, 3.0, 0.1 / 3.0] {
            let thresholds: Vec<f32> = (0..255).map(|i| (i as f32 + 0.5) * step).collect();
            let signed: Vec<f32> = (0..256).map(|i| (i - 128) as f32 * step).collect();
            let odd: Vec<f32> = (0..256).map(|i| (2 * i - 255) as f32 * step).collect();
            let offset: Vec<f32> = (0..256).map(|i| i as f32 * step).collect();
            assert!(round_trip(&thresholds, 255) <= most);
            assert!(round_trip(&signed, 256) <= most);
            assert!(round_trip(&odd, 256) <= most);
            assert!(round_trip(&offset, 256) <= most);
        }
    }

    #[test]
    fn thresholds_of_a_rounded_quotient_are_nearly_even() {
        // The first number whose quotient rounds up: within some units in the last place.
        let c = 2.37f32;
        let thresholds: Vec<f32> = (0..255)
            .map(|k| {
                let mut x = (k as f32 + 0.5) / 255.0 * c;
                let code = |x: f32| (x / c * 255.0).round();
                while code(x) > k as f32 {
                    x = x.next_down();
                }
                while code(x) <= k as f32 {
                    x = x.next_up();
                }
                x
            })
            .collect();
        assert!(round_trip(&thresholds, 255) <= 3 + 16 + 128);
    }

    #[test]
    fn every_number_comes_back_to_the_bit() {
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-45, f32::MAX, 1.0];
        assert_eq!(round_trip(&special, 8), 2 + 32);
        round_trip(&[], 4);
        round_trip(&[1.0; 12], 4);
        round_trip(&[-0.0, 0.0, -0.0, 0.0, -0.0, 0.0], 6);
        round_trip(&[1.0, 2.0, 3.0], 2);
        round_trip(&[f32::MIN, -1.0, 0.0, 1.0, f32::MAX], 5);
        let tiny: Vec<f32> = (0..16).map(|i| f32::from_bits(i * 3)).collect();
        round_trip(&tiny, 16);
        let minus_zero: Vec<f32> = (0..16).map(|i| (i - 8) as f32 * -0.5).rev().collect();
        assert!(minus_zero[7].is_sign_negative());
        assert!(round_trip(&minus_zero, 16) < 30);
    }

    #[test]
    fn several_rows_have_a_line_each() {
        let rows: Vec<f32> =
            (0..4).flat_map(|r| (0..100).map(move |i| (i - 3) as f32 * (r + 1) as f32)).collect();
        assert_eq!(round_trip(&rows, 100), 3 + 4 * 16);
    }
}
