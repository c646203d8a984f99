//! The integers of terms.

use super::{pack::Packing, reader::Reader, writer::Writer};
use crate::Error;
use alloc::{format, vec::Vec};

/// The integers follow as they are.
const RAW: u8 = 0;
/// The smallest integer follows, the largest difference from it, and the differences, packed.
const DIFFERENCES: u8 = 1;
/// For each row, the first integer and the step from each to the next.
const PROGRESSIONS: u8 = 2;
/// For each row, the first integer and the differences of the others from the one before.
const ASCENDING: u8 = 3;

/// Writes rows of `levels` integers, in the shortest of the ways.
pub(super) fn write(writer: &mut Writer, integers: &[i16], levels: usize) {
    // Version 1 does not have them.
    let ascending = Some(levels).filter(|_| writer.allows_formulas);
    let ascending = ascending.and_then(|levels| ascending_rows(integers, levels));
    let ways = [progressions(integers, levels), differences(integers), ascending];
    let shortest = ways.into_iter().flatten().min_by_key(Vec::len);
    if let Some(bytes) = shortest.filter(|bytes| bytes.len() < 2 + 2 * integers.len()) {
        writer.bytes(&bytes);
        return;
    }
    writer.byte(RAW);
    writer.number(integers.len());
    integers.iter().for_each(|integer| writer.bytes(&integer.to_le_bytes()));
}

fn progressions(integers: &[i16], levels: usize) -> Option<Vec<u8>> {
    if !(2..=256).contains(&levels) || !integers.len().is_multiple_of(levels) {
        return None;
    }
    let mut writer = Writer::default();
    writer.byte(PROGRESSIONS);
    writer.number(integers.len() / levels);
    for row in integers.chunks_exact(levels) {
        let step = row[1].checked_sub(row[0])?;
        if row.windows(2).any(|pair| pair[1].checked_sub(pair[0]) != Some(step)) {
            return None;
        }
        writer.bytes(&row[0].to_le_bytes());
        writer.bytes(&step.to_le_bytes());
    }
    Some(writer.description)
}

fn differences(integers: &[i16]) -> Option<Vec<u8>> {
    let smallest = *integers.iter().min()?;
    let code = |integer: &i16| u8::try_from(i32::from(*integer) - i32::from(smallest)).ok();
    let codes = integers.iter().map(code).collect::<Option<Vec<_>>>()?;
    // All the same: without a byte for each row, a length could name any number of them.
    let largest = (*codes.iter().max()?).max(1);
    let mut writer = Writer::default();
    writer.byte(DIFFERENCES);
    writer.number(codes.len());
    writer.bytes(&smallest.to_le_bytes());
    writer.byte(largest);
    Packing::new(usize::from(largest) + 1)?.pack(&codes, &mut writer.description);
    Some(writer.description)
}

fn ascending_rows(integers: &[i16], levels: usize) -> Option<Vec<u8>> {
    if !(2..=256).contains(&levels) || !integers.len().is_multiple_of(levels) {
        return None;
    }
    let mut writer = Writer::default();
    writer.byte(ASCENDING);
    writer.number(integers.len() / levels);
    for row in integers.chunks_exact(levels) {
        writer.bytes(&row[0].to_le_bytes());
        for pair in row.windows(2) {
            let difference = i32::from(pair[1]) - i32::from(pair[0]);
            writer.number(usize::try_from(difference).ok()?);
        }
    }
    Some(writer.description)
}

/// Reads rows of `levels` integers; `levels` is at most 256.
pub(super) fn read(reader: &mut Reader<'_>, levels: usize) -> Result<Vec<i16>, Error> {
    match reader.byte()? {
        RAW => reader.list(2, Reader::integer),
        DIFFERENCES => read_differences(reader),
        PROGRESSIONS => {
            let rows = reader.list(4, |reader| progression(reader, levels))?;
            Ok(rows.concat())
        }
        ASCENDING => {
            // The first integer of a row has two bytes, and the others one or more.
            let rows = reader.list(levels + 1, |reader| ascending_row(reader, levels))?;
            Ok(rows.concat())
        }
        kind => Err(reader.error(format!("a list of integers of the unknown kind {kind}"))),
    }
}

fn read_differences(reader: &mut Reader<'_>) -> Result<Vec<i16>, Error> {
    let count = reader.number()?;
    let smallest = reader.integer()?;
    let largest = reader.byte()?;
    let wrong = |reader: &Reader<'_>| reader.error("integers that are not packed");
    if largest == 0 {
        return Err(wrong(reader));
    }
    let packing = Packing::new(usize::from(largest) + 1).ok_or_else(|| wrong(reader))?;
    let size = packing.size(count).ok_or_else(|| wrong(reader))?;
    let words = reader.bytes(size)?;
    let codes = packing.unpack(words, count).ok_or_else(|| wrong(reader))?;
    let integer = |code| smallest.checked_add(i16::from(code)).ok_or_else(|| wrong(reader));
    codes.into_iter().map(integer).collect()
}

fn progression(reader: &mut Reader<'_>, levels: usize) -> Result<Vec<i16>, Error> {
    let (first, step) = (i32::from(reader.integer()?), i32::from(reader.integer()?));
    let integer = |i| {
        i16::try_from(first + i * step)
            .map_err(|_| reader.error("a progression of integers leaves 16 bits"))
    };
    (0..levels as i32).map(integer).collect()
}

fn ascending_row(reader: &mut Reader<'_>, levels: usize) -> Result<Vec<i16>, Error> {
    let mut integer = reader.integer()?;
    let mut row = Vec::with_capacity(levels);
    row.push(integer);
    for _ in 1..levels {
        let difference = reader.number()?;
        let next = i16::try_from(difference as i64 + i64::from(integer));
        let next = next.ok().filter(|_| difference <= usize::from(u16::MAX));
        integer = next.ok_or_else(|| reader.error("ascending integers leave 16 bits"))?;
        row.push(integer);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of the list, and the bytes that it took in version 1.
    fn round_trip(integers: &[i16], levels: usize) -> (u8, usize) {
        in_version(integers, levels, true);
        in_version(integers, levels, false)
    }

    fn in_version(integers: &[i16], levels: usize, allows_formulas: bool) -> (u8, usize) {
        let mut writer = Writer { allows_formulas, ..Writer::default() };
        write(&mut writer, integers, levels);
        let mut reader = Reader::new(&writer.description, 0);
        assert_eq!(read(&mut reader, levels).unwrap(), integers);
        assert!(reader.is_at_end());
        (writer.description[0], writer.description.len())
    }

    #[test]
    fn evenly_spaced_integers_are_a_progression() {
        let odd: Vec<i16> = (0..256).map(|i| 2 * i - 255).collect();
        assert_eq!(round_trip(&odd, 256), (PROGRESSIONS, 6));
        assert_eq!(round_trip(&[1; 16], 16), (PROGRESSIONS, 6));
        let two: Vec<i16> = (0..8).chain((0..8).map(|i| 7 - i)).collect();
        assert_eq!(round_trip(&two, 8), (PROGRESSIONS, 10));
    }

    #[test]
    fn ascending_integers_are_their_differences() {
        let integers: Vec<i16> = (0..256).map(|c| (c * (c + 3) / 4) as i16).collect();
        // Differences from 128 on take two bytes.
        let large = integers.windows(2).filter(|pair| pair[1] - pair[0] >= 128).count();
        assert!(large > 0);
        assert_eq!(in_version(&integers, 256, true), (ASCENDING, 1 + 1 + 2 + 255 + large));
        assert_eq!(in_version(&integers, 256, false), (RAW, 1 + 2 + 512));
        let mut ends = alloc::vec![i16::MIN; 9];
        ends[8] = i16::MAX;
        assert_eq!(in_version(&ends, 9, true).0, ASCENDING);
        for row in [&[ASCENDING, 1, 255, 127, 1, 0][..], &[ASCENDING, 1, 0, 0, 255, 255, 127, 0]] {
            assert!(read(&mut Reader::new(row, 0), 3).is_err(), "{row:?}");
        }
    }

    #[test]
    fn signs_of_a_basis_are_packed() {
        let signs: Vec<i16> = (0..256).map(|c| if c & 4 == 0 { -1 } else { 1 }).collect();
        assert_eq!(round_trip(&signs, 256), (DIFFERENCES, 1 + 2 + 2 + 1 + 52));
    }

    #[test]
    fn all_integers_of_16_bits_come_back() {
        assert_eq!(round_trip(&[i16::MIN, 0, i16::MAX, 5], 4).0, RAW);
        round_trip(&[i16::MIN, i16::MAX], 2);
        round_trip(&[i16::MAX, i16::MAX - 255, i16::MAX, i16::MAX - 1, 32600, 32600], 3);
        round_trip(&[], 4);
        round_trip(&[3, 4, 5], 2);
    }

    #[test]
    fn a_progression_beyond_16_bits_is_refused() {
        let mut writer = Writer::default();
        writer.bytes(&[PROGRESSIONS, 1, 0, 0x70, 0, 0x70]);
        let error = read(&mut Reader::new(&writer.description, 0), 3).unwrap_err();
        assert!(alloc::string::ToString::to_string(&error).contains("16 bits"), "{error}");
    }
}
