//! Weights as constants of the file.

use quant_infer::model::{Conv, Term, Weight, WeightCodes};

use super::{codes::bits, exporter::Exporter, format::Format, graph::int};
use crate::proto::data_type;

/// Integers as q·step + lowest, with q from 0 to `most`.
struct Spaced {
    lowest: i32,
    step: i32,
    most: i32,
}

impl Spaced {
    fn of(integers: &[i32]) -> Self {
        let lowest = integers.iter().copied().min().unwrap_or(0);
        let step = integers.iter().fold(0, |step, i| gcd(step, i - lowest)).max(1);
        let highest = integers.iter().copied().max().unwrap_or(0);
        Self { lowest, step, most: (highest - lowest) / step }
    }
}

/// Returns the greatest common divisor of two numbers that are not negative.
pub(super) fn gcd(mut a: i32, mut b: i32) -> i32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The shape of a convolution's weight.
pub(super) fn dims(conv: &Conv) -> [usize; 4] {
    [conv.out_channels, conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]]
}

/// Returns the integers of a term of a weight, element by element.
pub(super) fn integers(conv: &Conv, codes: &WeightCodes, term: &Term) -> Vec<i32> {
    let of_output = codes.codes.len() / conv.out_channels;
    (codes.codes.iter().enumerate())
        .map(|(at, code)| {
            let group = codes.group_of(at / of_output * of_output);
            i32::from(term.integers_of(group, codes.levels)[usize::from(*code)])
        })
        .collect()
}

impl Exporter<'_> {
    /// Adds integers as a tensor of floats, in the way of the format.
    pub(super) fn integer_weight(
        &mut self,
        name: &str,
        dims: &[usize; 4],
        integers: &[i32],
    ) -> String {
        let spaced = Spaced::of(integers);
        match self.format {
            Format::Qonnx => self.quant_weight(name, dims, integers, &spaced),
            Format::Int8 if integers.iter().all(|i| (-128..128).contains(i)) => {
                let bytes = integers.iter().map(|i| *i as i8 as u8).collect();
                let weight =
                    self.graph.raw(&format!("{name}.integers"), data_type::INT8, dims, bytes);
                let scale = self.graph.scalar(&format!("{name}.scale"), 1.0);
                self.graph.add("DequantizeLinear", name, &[&weight, &scale], vec![])
            }
            Format::Compact if spaced.most < 256 => {
                let codes: Vec<u8> =
                    (integers.iter()).map(|i| ((i - spaced.lowest) / spaced.step) as u8).collect();
                let Spaced { lowest, step, most } = spaced;
                let (kind, weight) = self.small(&format!("{name}.codes"), dims, &codes, most);
                let scale = self.graph.scalar(&format!("{name}.scale"), step as f32);
                let zero = -lowest / step;
                if lowest % step == 0 && (0..=most).contains(&zero) {
                    let zero = [zero as u8];
                    let zero =
                        self.graph.raw(&format!("{name}.zero_point"), kind, &[], zero.into());
                    let inputs = [&*weight, &scale, &zero];
                    return self.graph.add("DequantizeLinear", name, &inputs, vec![]);
                }
                let step = format!("{name}/codes");
                let codes = self.graph.add("DequantizeLinear", &step, &[&weight, &scale], vec![]);
                let lowest = self.graph.scalar(&format!("{name}.lowest"), lowest as f32);
                self.graph.add("Add", name, &[&codes, &lowest], vec![])
            }
            _ => {
                let numbers: Vec<f32> = integers.iter().map(|i| *i as f32).collect();
                self.graph.floats(name, dims, &numbers)
            }
        }
    }

    /// Adds codes up to `most` with 1, 2, 4 or 8 bits. Returns the type and the name.
    fn small(&mut self, name: &str, dims: &[usize; 4], codes: &[u8], most: i32) -> (i32, String) {
        if most == 1 && codes.len().is_multiple_of(8) {
            return (data_type::UINT8, self.single_bits(name, dims, codes));
        }
        let (kind, bits) = match most {
            0..=3 => (data_type::UINT2, 2),
            4..=15 => (data_type::UINT4, 4),
            _ => (data_type::UINT8, 8),
        };
        self.two_bits |= kind == data_type::UINT2;
        let packed = (codes.chunks(8 / bits))
            .map(|chunk| {
                chunk.iter().rev().fold(0, |byte: u16, code| byte << bits | u16::from(*code))
            })
            .map(|byte| byte as u8)
            .collect();
        (kind, self.graph.raw(name, kind, dims, packed))
    }

    /// Adds codes of one bit, eight in a byte, from the least significant bit: ONNX has no type for
    /// them. Each byte is shifted by 0 to 7 bits, and the last bit of each result is a code.
    fn single_bits(&mut self, name: &str, dims: &[usize; 4], codes: &[u8]) -> String {
        let bytes: Vec<u8> = (codes.chunks(8))
            .map(|chunk| chunk.iter().rev().fold(0, |byte, code| byte << 1 | code))
            .collect();
        let sides = [bytes.len(), 1];
        let packed = self.graph.raw(name, data_type::UINT8, &sides, bytes);
        let step = format!("{name}/bits");
        let shifts = (0..8).collect();
        let shifts = self.graph.raw(&format!("{step}.shifts"), data_type::UINT8, &[1, 8], shifts);
        let right = vec![super::graph::text("direction", "RIGHT")];
        let bits = self.graph.add("BitShift", &step, &[&packed, &shifts], right);
        let one = self.graph.raw(&format!("{step}.one"), data_type::UINT8, &[], vec![1]);
        let bits = self.graph.add("BitwiseAnd", &step, &[&bits, &one], vec![]);
        let sides: Vec<i64> = dims.iter().map(|side| *side as i64).collect();
        let sides = self.graph.list(&format!("{step}.shape"), &sides);
        self.graph.add("Reshape", &step, &[&bits, &sides], vec![])
    }

    fn quant_weight(
        &mut self,
        name: &str,
        dims: &[usize; 4],
        integers: &[i32],
        spaced: &Spaced,
    ) -> String {
        let numbers: Vec<f32> = integers.iter().map(|i| *i as f32).collect();
        let values = self.graph.floats(&format!("{name}.values"), dims, &numbers);
        let Spaced { lowest, step, most } = *spaced;
        if most == 1 && 2 * lowest + step == 0 {
            let scale = self.graph.scalar(&format!("{name}.scale"), -lowest as f32);
            return self.graph.add("BipolarQuant", name, &[&values, &scale], vec![]);
        }
        let Some(range) = Range::of(lowest, step, most) else { return values };
        let Range { zero, bits, signed, narrow } = range;
        self.quant(name, &values, step as f32, zero, bits, signed, narrow)
    }

    /// Adds the weight of a convolution that computes in floats.
    pub(super) fn float_weight(&mut self, name: &str, conv: &Conv) -> String {
        let dims = dims(conv);
        let name = format!("{name}.weight");
        let codes = match &conv.weight {
            Weight::Float(numbers) => return self.graph.floats(&name, &dims, numbers),
            Weight::Codes(codes) => codes,
        };
        match self.format {
            Format::Qonnx => {
                let values: Vec<f32> =
                    (0..codes.codes.len()).map(|at| codes.value_of(at)).collect();
                self.scaled_weight(&name, conv, codes, &values)
                    .unwrap_or_else(|| self.graph.floats(&name, &dims, &values))
            }
            Format::Compact => self.table_weight(&name, &dims, codes),
            Format::Int8 => {
                let values: Vec<f32> =
                    (0..codes.codes.len()).map(|at| codes.value_of(at)).collect();
                self.graph.floats(&name, &dims, &values)
            }
        }
    }

    /// Adds a weight of one scale as a quantizer, if that gives the very values.
    fn scaled_weight(
        &mut self,
        name: &str,
        conv: &Conv,
        codes: &WeightCodes,
        values: &[f32],
    ) -> Option<String> {
        let terms = codes.terms.as_ref().filter(|terms| terms.0.len() == 1)?;
        let term = &terms.0[0];
        let numbers = integers(conv, codes, term);
        let Spaced { lowest, step, most } = Spaced::of(&numbers);
        let of_output = codes.codes.len() / conv.out_channels;
        let scales: Vec<f32> = (0..conv.out_channels)
            .map(|output| term.scale_of(codes.group_of(output * of_output)) * step as f32)
            .collect();
        let equal = |(at, integer): (usize, &i32)| {
            *integer as f32 / step as f32 * scales[at / of_output] == values[at]
        };
        if !numbers.iter().enumerate().all(equal) || scales.iter().any(|scale| *scale <= 0.0) {
            return None;
        }
        let one = scales.iter().all(|scale| *scale == scales[0]);
        let (sides, scales) =
            if one { (vec![], &scales[..1]) } else { (vec![scales.len(), 1, 1, 1], &scales[..]) };
        let weight = self.graph.floats(&format!("{name}.values"), &dims(conv), values);
        let scale = self.graph.floats(&format!("{name}.scale"), &sides, scales);
        if most == 1 && 2 * lowest + step == 0 {
            // Half of a step is the distance from 0.
            let halves: Vec<f32> = scales.iter().map(|scale| scale / 2.0).collect();
            let scale = self.graph.floats(&format!("{name}.scale"), &sides, &halves);
            return Some(self.graph.add("BipolarQuant", name, &[&weight, &scale], vec![]));
        }
        let Range { zero, bits, signed, narrow } = Range::of(lowest, step, most)?;
        let zero = self.graph.scalar(&format!("{name}.zero_point"), zero);
        let bits = self.graph.scalar(&format!("{name}.bits"), bits as f32);
        let attributes = vec![
            int("signed", i64::from(signed)),
            int("narrow", i64::from(narrow)),
            super::graph::text("rounding_mode", "ROUND"),
        ];
        Some(self.graph.add("Quant", name, &[&weight, &scale, &zero, &bits], attributes))
    }

    /// Adds a weight as codes and a table of their values.
    fn table_weight(&mut self, name: &str, dims: &[usize; 4], codes: &WeightCodes) -> String {
        let (_, packed) =
            self.small(&format!("{name}.codes"), dims, &codes.codes, codes.levels as i32 - 1);
        let step = format!("{name}/index");
        let to_int = vec![int("to", data_type::INT64.into())];
        let one = self.graph.scalar(&format!("{name}.one"), 1.0);
        let index = self.graph.add("DequantizeLinear", &step, &[&packed, &one], vec![]);
        let mut index = self.graph.add("Cast", &step, &[&index], to_int);
        if codes.groups > 1 {
            // The place of a group's values in the table, for each element or each channel.
            let of_output = codes.codes.len() / dims[0];
            let by_channel = codes.run.is_multiple_of(of_output);
            let (sides, step_of) =
                if by_channel { (vec![dims[0], 1, 1, 1], of_output) } else { (dims.to_vec(), 1) };
            let count: usize = sides.iter().product();
            let bytes = (0..count)
                .map(|at| (codes.group_of(at * step_of) * codes.levels) as i64)
                .flat_map(i64::to_le_bytes)
                .collect();
            let starts = self.graph.raw(&format!("{name}.starts"), data_type::INT64, &sides, bytes);
            index = self.graph.add("Add", &step, &[&index, &starts], vec![]);
        }
        let table =
            self.graph.floats(&format!("{name}.table"), &[codes.values.len()], &codes.values);
        self.graph.add("Gather", name, &[&table, &index], vec![])
    }
}

/// A range of QONNX's quantizer for values (q - zero)·step.
struct Range {
    zero: f32,
    bits: u32,
    signed: bool,
    narrow: bool,
}

impl Range {
    /// Returns the range of the integers lowest + q·step, with q from 0 to `most`, or `None` where
    /// none gives them exactly.
    fn of(lowest: i32, step: i32, most: i32) -> Option<Self> {
        let levels = most as usize + 1;
        if levels < 2 {
            return None;
        }
        // A signed quantizer of one bit has the values -1 and 1.
        let bits = if lowest < 0 { bits(levels).max(2) } else { bits(levels) };
        let half = 1 << (bits - 1);
        let first = lowest as f32 / step as f32;
        let found = if lowest >= 0 {
            Self { zero: -first, bits, signed: false, narrow: false }
        } else if (levels + 1).is_power_of_two() {
            let low = 1 - half;
            Self { zero: low as f32 - first, bits, signed: true, narrow: true }
        } else if lowest % step == 0 && lowest / step >= -half && lowest / step + most < half {
            Self { zero: 0.0, bits, signed: true, narrow: false }
        } else {
            Self { zero: -half as f32 - first, bits, signed: true, narrow: false }
        };
        let exact = |q: i32| {
            let integer = (lowest + q * step) as f32;
            let code = (integer / step as f32 + found.zero).round_ties_even();
            (code - found.zero) * step as f32 == integer
        };
        (0..=most).all(exact).then_some(found)
    }
}
