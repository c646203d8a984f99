//! Rows of floats, as those of a quantizer's thresholds and values.
//!
//! Most rows follow from the parameters of a quantizer, to the bit: see [`thresholds`] and
//! [`units`]. Others are nearly evenly spaced. Number i of such a row is predicted as
//! step·(i + offset), in 64 bits with a rounding after each operation, and then rounded to 32 bits.
//! The file has the step and the offset of each row, and for each number its distance from the
//! prediction, in units in the last place. Rows of which neither is true are written in full.

mod distance;
mod kinds;
mod line;
mod parts;
mod read;
mod thresholds;
mod units;

use self::parts::Part;
pub(super) use self::{
    kinds::TERMS,
    read::{Values, read_thresholds, read_values},
};
use super::writer::Writer;
use crate::model::Term;

/// Writes a quantizer's thresholds, terms and values. `terms` writes what stands between the
/// thresholds and the values; it returns whether the values follow from the terms.
pub(super) fn write_quantizer(
    writer: &mut Writer,
    [thresholds, values]: [&[f32]; 2],
    levels: usize,
    terms: &[Term],
    write_terms: impl FnOnce(&mut Writer) -> bool,
) {
    let mut after = Writer { allows_formulas: writer.allows_formulas, ..Writer::default() };
    let mut units = units::of_terms(terms, levels);
    if write_terms(&mut after) {
        after.byte(TERMS);
    } else {
        let parts = parts::of_values(values, levels, writer.allows_formulas);
        if let ([Part::Units(unit, _)], true) = (&parts[..], terms.is_empty()) {
            units = unit.units(levels).unwrap_or_default();
        }
        parts::write(&mut after, values, levels, &parts);
    }
    let length = levels.saturating_sub(1);
    let parts = parts::of_thresholds([thresholds, values], length, &units, writer.allows_formulas);
    parts::write(writer, thresholds, length, &parts);
    writer.bytes(&after.description);
}

/// Writes the values of the codes of a weight.
pub(super) fn write_values(writer: &mut Writer, values: &[f32], levels: usize) {
    let parts = parts::of_values(values, levels, writer.allows_formulas);
    parts::write(writer, values, levels, &parts);
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{
        kinds::{FORMULA, MIDPOINTS, PARTS, UNITS},
        thresholds::Formula,
        *,
    };
    use crate::file::reader::Reader;

    fn bits(numbers: &[f32]) -> Vec<u32> {
        numbers.iter().map(|x| x.to_bits()).collect()
    }

    /// The bytes that values took.
    fn values(numbers: &[f32], levels: usize, allows_formulas: bool) -> usize {
        let mut writer = Writer { allows_formulas, ..Writer::default() };
        write_values(&mut writer, numbers, levels);
        let mut reader = Reader::new(&writer.description, 0);
        let read = read_values(&mut reader, levels).unwrap().unwrap();
        assert!(reader.is_at_end());
        assert_eq!(bits(&read.numbers), bits(numbers));
        writer.description.len()
    }

    /// The bytes that these numbers took without formulas.
    fn round_trip(numbers: &[f32], length: usize) -> usize {
        values(numbers, length, true);
        values(numbers, length, false)
    }

    /// The bytes that a quantizer without terms took, by its codes, and those of its values.
    fn quantizer(thresholds: &[f32], numbers: &[f32], levels: usize) -> usize {
        let mut writer = Writer { allows_formulas: true, ..Writer::default() };
        write_quantizer(&mut writer, [thresholds, numbers], levels, &[], |_| false);
        let mut reader = Reader::new(&writer.description, 0);
        let read = read_thresholds(&mut reader, levels - 1).unwrap();
        let values = read_values(&mut reader, levels).unwrap().unwrap();
        assert!(reader.is_at_end());
        assert_eq!(bits(&values.numbers), bits(numbers));
        assert_eq!(bits(&read.numbers(levels - 1, &values).unwrap()), bits(thresholds));
        writer.description.len()
    }

    /// The smallest float with each code but the first.
    fn steps_of(levels: usize, code: impl Fn(f32) -> f32) -> Vec<f32> {
        let [first, last] = [f32::MIN, f32::MAX].map(distance::order);
        let threshold = |k: usize| {
            let (mut low, mut high) = (first, last);
            while i64::from(high) - i64::from(low) > 1 {
                let middle = low.midpoint(high);
                if code(distance::number(middle)) > k as f32 { high = middle } else { low = middle }
            }
            distance::number(high) + 0.0
        };
        (0..levels - 1).map(threshold).collect()
    }

    #[test]
    fn rows_of_the_usual_quantizers_take_their_parameters() {
        for levels in [3usize, 4, 8, 16, 17, 255, 256] {
            let n = levels as f32 - 1.0;
            let below = n - (levels as f32 / 2.0 - 0.5).floor();
            let codes = || (0..levels).map(|c| c as f32);
            for s in [1.0f32, 0.371_342, 2.37, 1.3e-5, 812.1] {
                let o = -0.213 * s;
                let rows: [(Vec<f32>, Vec<f32>, usize); 4] = [
                    (
                        steps_of(levels, |x| ((x / s).clamp(0.0, 1.0) * n).round_ties_even()),
                        codes().map(|c| c / n * s).collect(),
                        1,
                    ),
                    (
                        steps_of(levels, |x| {
                            (((x / s).clamp(-1.0, 1.0) + 1.0) * 0.5 * n).round_ties_even()
                        }),
                        codes().map(|c| (c / n * 2.0 - 1.0) * s).collect(),
                        1,
                    ),
                    (
                        steps_of(levels, |x| {
                            (x / s).clamp(-below, n - below).round_ties_even() + below
                        }),
                        codes().map(|c| (c - below) * s).collect(),
                        1,
                    ),
                    (
                        steps_of(levels, |x| ((x - o) / s).clamp(0.0, n).round_ties_even()),
                        codes().map(|c| c * s + o).collect(),
                        2,
                    ),
                ];
                for (thresholds, values, parameters) in rows {
                    let size = quantizer(&thresholds, &values, levels);
                    assert!(size <= 2 * (3 + 4 * parameters), "{levels} {s} {thresholds:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_that_follows_from_nothing_does_not_change_the_others() {
        let even = |s: f32| (0..256).map(move |c| c as f32 / 255.0 * s);
        let odd = || (0..256).map(|c| (c as f32 * 0.02).exp());
        let rows: Vec<f32> = even(0.1).chain(even(0.7)).chain(odd()).chain(even(0.3)).collect();
        let size = values(&rows, 256, true);
        assert_eq!(size, 2 + (3 + 8) + (3 + 1024) + (3 + 4));
        assert_eq!(values(&rows, 256, false), 3 + 4096);
    }

    #[test]
    fn uneven_levels_are_a_list_of_integers_for_all_rows() {
        let integers: Vec<f64> = (0..64).map(|c| f64::from(c * (c + 3) / 2)).collect();
        let units: Vec<f32> = integers.iter().map(|i| (i / integers[63]) as f32).collect();
        let halves: Vec<f32> = units.windows(2).map(|u| u[0] + (u[1] - u[0]) / 2.0).collect();
        let (mut thresholds, mut numbers) = (Vec::new(), Vec::new());
        for s in [0.77f32, 1.3, 0.02] {
            let code = |x: f32| halves.iter().filter(|half| x / s > **half).count() as f32;
            thresholds.extend(steps_of(64, code));
            numbers.extend(units.iter().map(|unit| unit * s));
        }
        // The first integer has two bytes, and each difference one.
        let list = 1 + 1 + 2 + 63;
        assert_eq!(quantizer(&thresholds, &numbers, 64), (3 + 12) + (3 + list + 12));
    }

    #[test]
    fn thresholds_half_way_between_any_values_are_distances() {
        let numbers: Vec<f32> =
            (0..256).map(|c| (c as f32 * 0.37).sin() * 0.4 + c as f32).collect();
        let thresholds: Vec<f32> = numbers.windows(2).map(|v| (v[0] + v[1]) / 2.0).collect();
        assert!(quantizer(&thresholds, &numbers, 256) <= (3 + 64) + (1 + 2 + 1024));
    }

    #[test]
    fn formulas_of_unusual_parameters_are_refused_in_bounded_time() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45, 1e38, 1e-30, 1e30] {
            for formula in Formula::ALL {
                for offset in [0.0, f32::NAN, f32::MAX, 1e30, -1e30] {
                    let units: Vec<f32> = (0..256).map(|c| c as f32).collect();
                    let _ = formula.numbers(&[scale, offset], 255, &units);
                    let is_usual = (1e-30..=1e30).contains(&scale);
                    assert!(is_usual || formula.numbers(&[scale], 255, &units).is_none());
                }
            }
        }
        assert_eq!(Formula::Table.numbers(&[1.0], 255, &[]), None);
    }

    #[test]
    fn a_part_without_bytes_is_refused() {
        for bytes in [
            &[FORMULA, 200, 0][..],
            &[FORMULA, 0, 5],
            &[MIDPOINTS, 255, 255, 255, 255, 15, 0],
            &[PARTS, 1, PARTS, 0],
            &[TERMS],
            &[7],
        ] {
            assert!(read_thresholds(&mut Reader::new(bytes, 0), 255).is_err(), "{bytes:?}");
        }
        for bytes in [&[UNITS, 200, 0][..], &[UNITS, 0, 6], &[PARTS, 1, PARTS, 0], &[PARTS, 1, 2]] {
            assert!(read_values(&mut Reader::new(bytes, 0), 256).is_err(), "{bytes:?}");
        }
        // No values are there, between which thresholds could lie.
        let mut reader = Reader::new(&[MIDPOINTS, 1, 1, 0], 0);
        let read = read_thresholds(&mut reader, 3).unwrap();
        assert_eq!(read.numbers(3, &Values::with_terms(Vec::new(), &[], 4)), None);
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
