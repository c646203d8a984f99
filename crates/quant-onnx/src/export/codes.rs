//! Quantizers as nodes: the codes of a tensor, and what the codes stand for.

use quant_infer::model::{Dynamic, Quantizer, Term};

use super::{
    exporter::{Codes, Exporter},
    format::Format,
    formula::{self, Formula},
    graph::{float, int, text},
};
use crate::proto::data_type;

/// One number for each channel, or a single one where all channels have the same.
pub(super) fn per_channel(numbers: &[f32], channels: usize) -> (Vec<usize>, Vec<f32>) {
    if numbers.iter().all(|number| number.to_bits() == numbers[0].to_bits()) {
        return (vec![], vec![numbers[0]]);
    }
    let of = |channel: usize| numbers[channel * numbers.len() / channels];
    (vec![1, channels, 1, 1], (0..channels).map(of).collect())
}

/// Whether integers are evenly spaced: then i = step·code + first.
pub(super) fn evenly_spaced(integers: &[i16]) -> Option<(i32, i32)> {
    let first = i32::from(*integers.first()?);
    let step = i32::from(*integers.get(1)?) - first;
    let even = |pair: &[i16]| i32::from(pair[1]) - i32::from(pair[0]) == step;
    integers.windows(2).all(even).then_some((step, first))
}

impl Exporter<'_> {
    /// Adds an operation with a constant for each group of channels, unless the constant changes
    /// nothing.
    pub(super) fn with_constant(
        &mut self,
        op: &str,
        name: &str,
        x: &str,
        numbers: &[f32],
        channels: usize,
    ) -> String {
        let neutral = if matches!(op, "Mul" | "Div") { 1.0 } else { 0.0 };
        if numbers.iter().all(|number| *number == neutral) {
            return x.to_owned();
        }
        let (dims, numbers) = per_channel(numbers, channels);
        let constant = self.graph.floats(&format!("{name}.constant"), &dims, &numbers);
        self.graph.add(op, name, &[x, &constant], vec![])
    }

    /// Adds the codes of a quantizer without a part that depends on the image.
    pub(super) fn codes(
        &mut self,
        name: &str,
        quantizer: &Quantizer,
        x: &str,
        channels: usize,
    ) -> Codes {
        let formulas = formula::formulas(quantizer);
        if let Some(found) = &formulas {
            self.count_quantizer(found.exact);
            return self.rounded(name, &found.groups, quantizer.levels, x, channels);
        }
        self.count_quantizer(true);
        if self.format != Format::Qonnx {
            return self.compared(name, quantizer, x, channels);
        }
        if quantizer.levels == 2 {
            let minus: Vec<f32> = quantizer.thresholds.clone();
            if minus.iter().all(|threshold| threshold.is_finite()) {
                let x = self.with_constant("Sub", &format!("{name}/shifted"), x, &minus, channels);
                let one = self.graph.scalar(&format!("{name}/codes.scale"), 1.0);
                let tensor =
                    self.graph.add("BipolarQuant", &format!("{name}/codes"), &[&x, &one], vec![]);
                return Codes { tensor, factor: 0.5, offset: 0.5, channels };
            }
        }
        let rows = if quantizer.groups == 1 { 1 } else { channels };
        let count = quantizer.levels - 1;
        let thresholds: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let group = row * quantizer.groups / rows;
                quantizer.thresholds[group * count..][..count].to_vec()
            })
            .collect();
        let thresholds =
            self.graph.floats(&format!("{name}/thresholds"), &[rows, count], &thresholds);
        let kind = format!("UINT{}", bits(quantizer.levels));
        let attributes = vec![text("out_dtype", &kind), float("out_scale", 1.0)];
        let codes = format!("{name}/codes");
        let tensor = self.graph.add("MultiThreshold", &codes, &[x, &thresholds], attributes);
        Codes { tensor, factor: 1.0, offset: 0.0, channels }
    }

    /// Adds codes by division and rounding.
    fn rounded(
        &mut self,
        name: &str,
        formulas: &[Formula],
        levels: usize,
        x: &str,
        channels: usize,
    ) -> Codes {
        let of = |f: &dyn Fn(&Formula) -> f32| formulas.iter().map(f).collect::<Vec<f32>>();
        let (low, steps) = (formulas[0].low, (levels - 1) as f32);
        let mut x = x.to_owned();
        let step = format!("{name}/steps");
        x = self.with_constant("Sub", &step, &x, &of(&|f| f.sub.unwrap_or(0.0)), channels);
        x = self.with_constant("Div", &step, &x, &of(&|f| f.div), channels);
        x = self.with_constant("Add", &step, &x, &of(&|f| f.add.unwrap_or(0.0)), channels);
        x = self.with_constant("Mul", &step, &x, &of(&|f| f.mul.unwrap_or(1.0)), channels);
        let zeros = of(&|f| f.zero);
        let one_zero = zeros.iter().all(|zero| *zero == zeros[0]);
        // Other zero points are added before, so that codes minus zero points are exact.
        let halves = zeros.iter().all(|zero| (2.0 * zero).fract() == 0.0 && zero.abs() < 4096.0);
        let zeros = if one_zero && halves {
            zeros
        } else {
            x = self.with_constant("Add", &step, &x, &zeros, channels);
            vec![0.0]
        };
        let range = integer_range(low, levels);
        if let (Format::Qonnx, Some((bits, signed, narrow))) = (self.format, range) {
            let tensor =
                self.quant(&format!("{name}/codes"), &x, 1.0, zeros[0], bits, signed, narrow);
            return Codes { tensor, factor: 1.0, offset: zeros[0] - low, channels };
        }
        x = self.with_constant("Add", &step, &x, &zeros, channels);
        let (lowest, highest) = (
            self.graph.scalar(&format!("{name}/lowest"), low),
            self.graph.scalar(&format!("{name}/highest"), low + steps),
        );
        x = self.graph.add("Clip", &step, &[&x, &lowest, &highest], vec![]);
        let tensor = if self.format == Format::Qonnx {
            // A range that is no number of bits: the clip above limits it.
            let (bits, signed) = (bits(levels) + u32::from(low != 0.0), low != 0.0);
            self.quant(&format!("{name}/codes"), &x, 1.0, 0.0, bits, signed, false)
        } else {
            self.graph.add("Round", &format!("{name}/codes"), &[&x], vec![])
        };
        Codes { tensor, factor: 1.0, offset: -low, channels }
    }

    /// Adds the node `Quant` of QONNX.
    #[expect(clippy::too_many_arguments, reason = "these are the operator's inputs")]
    pub(super) fn quant(
        &mut self,
        name: &str,
        x: &str,
        scale: f32,
        zero: f32,
        bits: u32,
        signed: bool,
        narrow: bool,
    ) -> String {
        let scale = self.graph.scalar(&format!("{name}.scale"), scale);
        let zero = self.graph.scalar(&format!("{name}.zero_point"), zero);
        let bits = self.graph.scalar(&format!("{name}.bits"), bits as f32);
        let attributes = vec![
            int("signed", i64::from(signed)),
            int("narrow", i64::from(narrow)),
            text("rounding_mode", "ROUND"),
        ];
        self.graph.add("Quant", name, &[x, &scale, &zero, &bits], attributes)
    }

    /// Adds codes by comparisons with all thresholds.
    fn compared(&mut self, name: &str, quantizer: &Quantizer, x: &str, channels: usize) -> Codes {
        let count = quantizer.levels - 1;
        let rows = if quantizer.groups == 1 { 1 } else { channels };
        let thresholds: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let group = row * quantizer.groups / rows;
                quantizer.thresholds[group * count..][..count].to_vec()
            })
            .collect();
        let step = format!("{name}/steps");
        let codes = format!("{name}/codes");
        let thresholds_name = format!("{name}/thresholds");
        let to_float = vec![int("to", data_type::FLOAT.into())];
        if count == 1 {
            let thresholds = self.graph.floats(&thresholds_name, &[1, rows, 1, 1], &thresholds);
            let is = self.graph.add("GreaterOrEqual", &step, &[x, &thresholds], vec![]);
            let tensor = self.graph.add("Cast", &codes, &[&is], to_float);
            return Codes { tensor, factor: 1.0, offset: 0.0, channels };
        }
        let thresholds = self.graph.floats(&thresholds_name, &[1, rows, 1, 1, count], &thresholds);
        let axis = self.graph.list(&format!("{name}/axis"), &[4]);
        let x = self.graph.add("Unsqueeze", &step, &[x, &axis], vec![]);
        let is = self.graph.add("GreaterOrEqual", &step, &[&x, &thresholds], vec![]);
        let is = self.graph.add("Cast", &step, &[&is], to_float);
        let keep = vec![int("keepdims", 0)];
        let tensor = self.graph.add("ReduceSum", &codes, &[&is, &axis], keep);
        Codes { tensor, factor: 1.0, offset: 0.0, channels }
    }

    /// Adds what codes stand for by a table `[rows, levels]`.
    fn looked_up(&mut self, name: &str, codes: &Codes, table: &[f32], levels: usize) -> String {
        let step = format!("{name}/index");
        let one = [codes.factor];
        let x = self.with_constant("Mul", &step, &codes.tensor, &one, codes.channels);
        let mut x = self.with_constant("Add", &step, &x, &[codes.offset], codes.channels);
        let rows = table.len() / levels;
        if rows > 1 {
            let starts: Vec<f32> = (0..rows).map(|row| (row * levels) as f32).collect();
            x = self.with_constant("Add", &step, &x, &starts, codes.channels);
        }
        let to_int = vec![int("to", data_type::INT64.into())];
        let x = self.graph.add("Cast", &step, &[&x], to_int);
        let table = self.graph.floats(&format!("{name}/table"), &[table.len()], table);
        self.graph.add("Gather", &format!("{name}/values"), &[&table, &x], vec![])
    }

    /// Adds the integers of a term, divided by a power of two. Returns the tensor and this power.
    pub(super) fn plane(
        &mut self,
        name: &str,
        codes: &Codes,
        term: &Term,
        levels: usize,
    ) -> (String, f32) {
        let rows: Vec<_> = term.integers.chunks(levels).map(evenly_spaced).collect();
        let first = rows[0].filter(|first| rows.iter().all(|row| *row == Some(*first)));
        let Some((step, start)) = first else {
            let table: Vec<f32> = term.integers.iter().map(|i| f32::from(*i)).collect();
            return (self.looked_up(name, codes, &table, levels), 1.0);
        };
        // i = step·(tensor·factor + offset) + start.
        let factor = step as f32 * codes.factor;
        let offset = step as f32 * codes.offset + start as f32;
        if step == 0 {
            let table = vec![start as f32; levels];
            return (self.looked_up(name, codes, &table, levels), 1.0);
        }
        let power = if factor > 0.0 && factor.log2().fract() == 0.0 { factor } else { 1.0 };
        let step = format!("{name}/integers");
        let x = [factor / power];
        let x = self.with_constant("Mul", &step, &codes.tensor, &x, codes.channels);
        (self.with_constant("Add", &step, &x, &[offset / power], codes.channels), power)
    }

    /// Adds the values of a quantizer, with the part of it that depends on the image. Returns the
    /// values, and records the codes under `name`.
    pub(super) fn values(
        &mut self,
        name: &str,
        quantizer: &Quantizer,
        x: &str,
        channels: usize,
    ) -> String {
        let factor = self.image_factor(name, quantizer.dynamic, x);
        let before = matches!(quantizer.dynamic, Dynamic::Mean | Dynamic::Deviation);
        let numbers = match &factor {
            Some(factor) if before => {
                self.graph.add("Div", &format!("{name}/normalised"), &[x, factor], vec![])
            }
            _ => x.to_owned(),
        };
        let codes = self.codes(name, quantizer, &numbers, channels);
        self.record(name, &codes);
        let values = self.values_of(name, quantizer, &codes);
        match factor {
            Some(factor) => {
                self.graph.add("Mul", &format!("{name}/scaled"), &[&values, &factor], vec![])
            }
            None => values,
        }
    }

    /// Adds what the codes stand for: by a scale where that gives the very values, else by a table.
    fn values_of(&mut self, name: &str, quantizer: &Quantizer, codes: &Codes) -> String {
        let levels = quantizer.levels;
        let scale_of = |values: &[f32]| -> Option<f32> {
            let number = |code: usize| (code as f32 - codes.offset) / codes.factor;
            let last = values[levels - 1] / number(levels - 1);
            let fits = |scale: &f32| {
                (0..levels).all(|code| number(code) * scale == values[code]) && *scale > 0.0
            };
            [last, last.next_up(), last.next_down()].into_iter().find(fits)
        };
        let scales: Option<Vec<f32>> = quantizer.values.chunks(levels).map(scale_of).collect();
        match scales {
            Some(scales) => {
                let values = format!("{name}/values");
                self.with_constant("Mul", &values, &codes.tensor, &scales, codes.channels)
            }
            None => self.looked_up(name, codes, &quantizer.values, levels),
        }
    }

    /// Adds the number of an image, a position or a channel on which a quantizer depends. Sums are
    /// of 64-bit floats.
    fn image_factor(&mut self, name: &str, dynamic: Dynamic, x: &str) -> Option<String> {
        let step = format!("{name}/mean");
        let axes: &[usize] = match dynamic {
            Dynamic::None => return None,
            Dynamic::MeanOverChannels => &[1],
            Dynamic::MeanOverPositions => &[2, 3],
            Dynamic::Mean | Dynamic::Deviation => &[1, 2, 3],
        };
        let to_double = vec![int("to", data_type::DOUBLE.into())];
        let to_float = vec![int("to", data_type::FLOAT.into())];
        let mut wide = self.graph.add("Cast", &step, &[x], to_double);
        if matches!(dynamic, Dynamic::MeanOverChannels | Dynamic::MeanOverPositions) {
            wide = self.graph.add("Abs", &step, &[&wide], vec![]);
        }
        let mean = self.mean(&step, &wide, axes);
        match dynamic {
            Dynamic::MeanOverChannels | Dynamic::MeanOverPositions => {
                Some(self.graph.add("Cast", &step, &[&mean], to_float))
            }
            Dynamic::Mean => {
                let mean = self.graph.add("Cast", &step, &[&mean], to_float);
                Some(self.with_constant("Add", &step, &mean, &[1e-5], 1))
            }
            _ => {
                let difference = self.graph.add("Sub", &step, &[&wide, &mean], vec![]);
                let squares = self.graph.add("Mul", &step, &[&difference, &difference], vec![]);
                let variance = self.mean(&step, &squares, axes);
                let count = self.elements as f64;
                // The sum is divided by one less than the number of elements.
                let bessel = if count > 1.0 { count / (count - 1.0) } else { 0.0 };
                let bytes = bessel.to_le_bytes().to_vec();
                let bessel =
                    self.graph.raw(&format!("{name}/bessel"), data_type::DOUBLE, &[], bytes);
                let variance = self.graph.add("Mul", &step, &[&variance, &bessel], vec![]);
                let variance = self.graph.add("Cast", &step, &[&variance], to_float);
                let deviation = self.graph.add("Sqrt", &step, &[&variance], vec![]);
                Some(self.with_constant("Add", &step, &deviation, &[1e-5], 1))
            }
        }
    }
}

/// Returns the number of bits of so many levels.
pub(super) fn bits(levels: usize) -> u32 {
    usize::BITS - (levels - 1).leading_zeros()
}

/// Returns the bits, and whether they are signed and narrow, of the integers from `low` on, if that
/// is a range of QONNX's.
fn integer_range(low: f32, levels: usize) -> Option<(u32, bool, bool)> {
    let half = (levels / 2) as f32;
    match (levels.is_power_of_two(), (levels + 1).is_power_of_two()) {
        (true, _) if low == 0.0 => Some((bits(levels), false, false)),
        (true, _) if low == -half => Some((bits(levels), true, false)),
        (_, true) if low == -half => Some((bits(levels), true, true)),
        _ => None,
    }
}
