//! Convolutions of bytes between `QuantizeLinear` and `DequantizeLinear`.

use quant_infer::model::{Conv, Quantizer, Weight};

use super::{
    codes::evenly_spaced,
    conv::{attributes, reason},
    exporter::{Codes, Exporter},
    formula::{self, Formula},
    graph::int,
    weights::{dims, gcd, integers},
};
use crate::proto::data_type;

/// How the input becomes bytes.
#[derive(Debug, Clone, PartialEq)]
enum Bytes {
    /// By division and rounding, after half a step is added if `half` is set.
    Rounded { formula: Formula, half: bool, exact: bool },
    /// By the codes, which are multiplied by this.
    Coded { factor: u8 },
}

/// A convolution that multiplies bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    bytes: Bytes,
    /// The byte that stands for 0.
    zero: u8,
    /// What one byte more stands for.
    scale: f32,
    /// How far the values of the input are from those of the bytes, in units of `scale`. It is not
    /// 0 for values that lie half a step beside 0.
    offset: f32,
    /// The integers of the weights.
    weights: Vec<i32>,
    /// What one of these integers stands for, for each output channel.
    scales: Vec<f32>,
    /// Whether zeros are put around the image first.
    pads: bool,
}

/// Returns how a convolution multiplies bytes, or why it does not.
pub(super) fn plan(conv: &Conv) -> Result<Plan, String> {
    let (Some((of_input, of_weight)), Some(quantizer), Weight::Codes(codes)) =
        (conv.integer_terms(), &conv.quantizer, &conv.weight)
    else {
        return Err(reason(conv));
    };
    let (terms, of_weights) = (of_input.0.len(), of_weight.0.len());
    if terms * of_weights > 1 {
        return Err(format!(
            "it is a sum of {} products of integers: the values of its input are sums of {terms} \
             terms, and those of its weight of {of_weights}",
            terms * of_weights
        ));
    }
    let (input_term, weight_term) = (&of_input.0[0], &of_weight.0[0]);
    if input_term.scales.len() > 1 || quantizer.groups > 1 {
        return Err("the scales or thresholds of its input differ between channels".into());
    }
    let Some((step, first)) =
        evenly_spaced(input_term.integers_of(0, quantizer.levels)).filter(|(step, _)| *step > 0)
    else {
        return Err("the values of its input are not evenly spaced".into());
    };
    let mut weights = integers(conv, codes, weight_term);
    let divisor = weights.iter().fold(0, |divisor, i| gcd(divisor, i.abs())).max(1);
    let largest = weights.iter().map(|i| i.abs() / divisor).max().unwrap_or(0).max(1);
    if largest > 127 {
        return Err(format!(
            "its weight has integers up to {largest}, and signed bytes hold up to 127"
        ));
    }
    // Integers as large as bytes allow, by powers of two: runtimes round biases to multiples of
    // what a product stands for. Two products of the largest bytes must fit into 16 bits, where
    // processors without instructions for 8 bits sum them.
    let most = (32767 / (2 * quantizer.levels as i32)).min(127);
    let power = (0..7).rev().map(|power| 1 << power).find(|power| power * largest <= most);
    let power = power.unwrap_or(1);
    weights.iter_mut().for_each(|i| *i = *i / divisor * power);
    let of_output = codes.codes.len() / conv.out_channels;
    let scales = (0..conv.out_channels)
        .map(|output| {
            let scale = weight_term.scale_of(codes.group_of(output * of_output));
            scale * divisor as f32 / power as f32
        })
        .collect();
    let scale = input_term.scale_of(0);
    let (bytes, zero, scale, offset) = bytes(conv, quantizer, scale, step, first)?;
    let number_of_zero = i32::from(quantizer.code_of(0, 0.0)) * step + first;
    let pads = conv.pads_codes && (number_of_zero != 0 || offset != 0.0);
    Ok(Plan { bytes, zero, scale, offset, weights, scales, pads })
}

/// Returns how the input becomes bytes, the byte of 0, what a byte stands for, and how far the
/// values are from those of the bytes. The value of a code is scale·(step·code + first).
fn bytes(
    conv: &Conv,
    quantizer: &Quantizer,
    scale: f32,
    step: i32,
    first: i32,
) -> Result<(Bytes, u8, f32, f32), String> {
    let zero = -f64::from(first) / f64::from(step);
    let whole = zero.fract() == 0.0;
    if !(0.0..=255.0).contains(&zero) {
        return Err("the values of its input do not include 0".into());
    }
    let pads_alike = conv.pads_codes || conv.padding == [0, 0];
    let found = if whole {
        formula::rounding(quantizer)
    } else if (2.0 * zero).fract() == 0.0 && pads_alike {
        formula::rounding_of_halves(quantizer)
    } else {
        None
    };
    if let Some(found) = found {
        let formula = found.groups[0];
        // The formula's lowest integer has the code 0.
        let byte = -formula.low;
        let bytes = Bytes::Rounded { formula, half: !whole, exact: found.exact };
        let offset = byte - zero as f32;
        return Ok((bytes, byte as u8, scale * step as f32, offset));
    }
    if whole {
        return Ok((Bytes::Coded { factor: 1 }, zero as u8, scale * step as f32, 0.0));
    }
    if (2.0 * zero).fract() == 0.0 && quantizer.levels <= 128 {
        let zero = (2.0 * zero) as u8;
        return Ok((Bytes::Coded { factor: 2 }, zero, scale * step as f32 / 2.0, 0.0));
    }
    Err("0 lies between two values of its input, which needs a ninth bit".into())
}

impl Plan {
    /// The step by which the input becomes bytes, if a `QuantizeLinear` makes them.
    pub(super) fn step(&self) -> Option<f32> {
        match &self.bytes {
            Bytes::Rounded { formula, .. } => Some(formula.div),
            Bytes::Coded { .. } => None,
        }
    }
}

/// The largest error of a bias that is accepted, in steps of the quantizer that reads the result.
const BIAS_ERROR: f64 = 0.05;

/// Returns the largest error of a bias, in steps, where biases are rounded to whole products of
/// integers. `units` are what a product stands for.
fn bias_error(bias: &[f32], units: impl Iterator<Item = f64>, step: f32) -> f64 {
    let error = |(bias, unit): (&f32, f64)| {
        let bias = f64::from(*bias);
        ((bias / unit).round_ties_even() * unit - bias).abs() / f64::from(step)
    };
    bias.iter().zip(units).map(error).fold(0.0, f64::max)
}

impl Exporter<'_> {
    /// Adds a convolution of bytes, with the batch norm that follows it. The names are those of the
    /// convolution and of the last layer. `step` is that of the quantizer that reads the result, if
    /// nothing else does.
    ///
    /// ONNX Runtime makes a convolution of integers only of one that a quantizer follows. Any other
    /// it computes in floats, and it would compute the floats of its weights again for each image
    /// if these came from a `DequantizeLinear`. Those of a `Cast` and a `Mul` it computes once.
    /// OpenVINO takes both for the same.
    ///
    /// ONNX Runtime also rounds the biases of convolutions of integers to whole products, which can
    /// be several steps of the next quantizer for a channel with a large factor. Such layers are
    /// left in floats too.
    pub(super) fn int8(
        &mut self,
        [name, last]: [&str; 2],
        conv: &Conv,
        plan: Plan,
        x: &str,
        norm: Option<(&[f32], &[f32])>,
        step: Option<f32>,
    ) -> String {
        let Some(quantizer) = &conv.quantizer else { return x.to_owned() };
        let mut padding = conv.padding;
        let mut x = x.to_owned();
        if plan.pads {
            x = self.padded(name, &x, &mut padding);
        }
        let x = self.bytes(name, quantizer, &plan, &x, conv.in_channels);
        // The batch norm's factors become factors of the weights' scales.
        let outputs = conv.out_channels;
        let of_output = plan.weights.len() / outputs;
        let (mut weights, mut scales) = (plan.weights, plan.scales);
        let mut bias = conv.bias.clone().unwrap_or_else(|| vec![0.0; outputs]);
        for output in 0..outputs {
            let row = &mut weights[output * of_output..][..of_output];
            // What the bytes' values lack, which is the same at every position.
            let sum: i64 = row.iter().map(|i| i64::from(*i)).sum();
            let lack = f64::from(plan.offset) * f64::from(plan.scale) * f64::from(scales[output]);
            let mut total = f64::from(bias[output]) + lack * sum as f64;
            if let Some((factor, shift)) = norm {
                total = total * f64::from(factor[output]) + f64::from(shift[output]);
                scales[output] *= factor[output];
            }
            if scales[output] < 0.0 {
                scales[output] = -scales[output];
                row.iter_mut().for_each(|i| *i = -*i);
            }
            // Scales must be positive.
            if scales[output] < f32::MIN_POSITIVE {
                scales[output] = 1.0;
                row.fill(0);
            }
            bias[output] = total as f32;
        }
        let units = scales.iter().map(|scale| f64::from(*scale) * f64::from(plan.scale));
        let worst = step.map(|step| bias_error(&bias, units, step));
        let integers = worst.is_some_and(|error| error <= BIAS_ERROR);
        let part = |part: &str| format!("{name}.weight{part}");
        let sides = dims(conv);
        let bytes = weights.iter().map(|i| *i as i8 as u8).collect();
        let weight = self.graph.raw(&part(".integers"), data_type::INT8, &sides, bytes);
        let weight = if integers {
            let scale = self.graph.floats(&part(".scale"), &[outputs], &scales);
            let zeros = vec![0; outputs];
            let zero = self.graph.raw(&part(".zero_point"), data_type::INT8, &[outputs], zeros);
            let axis = vec![int("axis", 0)];
            self.graph.add("DequantizeLinear", &part(""), &[&weight, &scale, &zero], axis)
        } else {
            let scale = self.graph.floats(&part(".scale"), &[outputs, 1, 1, 1], &scales);
            let to_float = vec![int("to", data_type::FLOAT.into())];
            let floats = self.graph.add("Cast", &part("/floats"), &[&weight], to_float);
            self.graph.add("Mul", &part(""), &[&floats, &scale], vec![])
        };
        let mut inputs = vec![&*x, &weight];
        let named;
        if bias.iter().any(|number| *number != 0.0) {
            named = self.graph.floats(&format!("{name}.bias"), &[outputs], &bias);
            inputs.push(&named);
        }
        self.graph.add("Conv", last, &inputs, attributes(conv, padding))
    }

    /// Adds the input's bytes, and what they stand for.
    fn bytes(
        &mut self,
        name: &str,
        quantizer: &Quantizer,
        plan: &Plan,
        x: &str,
        channels: usize,
    ) -> String {
        let step = format!("{name}/steps");
        let codes_name = format!("{name}/codes");
        let zero_point = format!("{name}/zero_point");
        let zero = self.graph.raw(&zero_point, data_type::UINT8, &[], vec![plan.zero]);
        let scale = self.graph.scalar(&format!("{name}/scale"), plan.scale);
        let bytes = match &plan.bytes {
            Bytes::Rounded { formula, half, exact } => {
                self.count_quantizer(*exact);
                let mut x = x.to_owned();
                if let (true, Some(sub)) = (*half, formula.sub) {
                    x = self.with_constant("Add", &step, &x, &[-sub], channels);
                }
                let divisor = if formula.div == plan.scale {
                    scale.clone()
                } else {
                    self.graph.scalar(&format!("{name}/step"), formula.div)
                };
                let inputs = [&*x, &divisor, &zero];
                let codes = self.graph.add("QuantizeLinear", &codes_name, &inputs, vec![]);
                let most = (quantizer.levels - 1) as u8;
                let codes = if most == 255 {
                    codes
                } else {
                    let bound = |most: u8| vec![most];
                    let lowest = format!("{name}/lowest");
                    let lowest = self.graph.raw(&lowest, data_type::UINT8, &[], bound(0));
                    let highest = format!("{name}/highest");
                    let highest = self.graph.raw(&highest, data_type::UINT8, &[], bound(most));
                    let inputs = [&*codes, &lowest, &highest];
                    self.graph.add("Clip", &format!("{name}/clipped"), &inputs, vec![])
                };
                self.record(
                    name,
                    &Codes { tensor: codes.clone(), factor: 1.0, offset: 0.0, channels },
                );
                codes
            }
            Bytes::Coded { factor } => {
                let codes = self.codes(name, quantizer, x, channels);
                self.record(name, &codes);
                let x = self.with_constant("Add", &step, &codes.tensor, &[codes.offset], channels);
                let x = self.with_constant("Mul", &step, &x, &[f32::from(*factor)], channels);
                let to_byte = vec![int("to", data_type::UINT8.into())];
                self.graph.add("Cast", &format!("{name}/bytes"), &[&x], to_byte)
            }
        };
        let inputs = [&*bytes, &scale, &zero];
        self.graph.add("DequantizeLinear", &format!("{name}/values"), &inputs, vec![])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_bias_is_that_of_its_rounding() {
        // 2.2 is nearest to 0 products of 6.5, and 1.1 nearest to 11 products of 0.1.
        let error = bias_error(&[1.1, 2.2], [0.1, 6.5].into_iter(), 0.5);
        assert!((error - 4.4).abs() < 1e-6, "{error}");
        let error = bias_error(&[1.12], [0.1].into_iter(), 0.5);
        assert!((error - 0.04).abs() < 1e-6, "{error}");
    }
}
