//! Convolutions.

use alloc::vec::Vec;

use super::{quantize, value::Value};
use crate::model::{Conv, Quantizer, Terms, Weight, WeightCodes};

/// The elements below the kernel at an output position, in the documented order.
struct Window {
    /// The channel of each element, and its row and column unless it is beyond the edge.
    elements: Vec<(usize, Option<(usize, usize)>)>,
}

impl Window {
    fn new(conv: &Conv, x: &Value, group: usize, at: [usize; 2]) -> Self {
        let channels = conv.in_channels / conv.groups;
        let place = |axis: usize, tap: usize| {
            let position = at[axis] * conv.stride[axis] + tap * conv.dilation[axis];
            position.checked_sub(conv.padding[axis]).filter(|place| *place < x.shape[1 + axis])
        };
        let mut elements = Vec::new();
        for channel in group * channels..(group + 1) * channels {
            for row in 0..conv.kernel[0] {
                for column in 0..conv.kernel[1] {
                    elements.push((channel, place(0, row).zip(place(1, column))));
                }
            }
        }
        Self { elements }
    }
}

pub(super) fn value(conv: &Conv, x: &Value, shape: [usize; 3]) -> Value {
    let sums = match (conv.integer_terms(), &conv.quantizer, &conv.weight) {
        (Some((input, weight)), Some(quantizer), Weight::Codes(codes)) => {
            in_integers(conv, x, shape, quantizer, codes, (input, weight))
        }
        _ => in_floats(conv, x, shape),
    };
    match &conv.bias {
        Some(bias) => sums.map(|channel, sum| sum + bias[channel]),
        None => sums,
    }
}

fn in_integers(
    conv: &Conv,
    x: &Value,
    shape: [usize; 3],
    quantizer: &Quantizer,
    weights: &WeightCodes,
    (input_terms, weight_terms): (&Terms, &Terms),
) -> Value {
    let codes = quantize::codes(quantizer, x);
    let groups = input_terms.0[0].scales.len();
    let of_output = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
    Value::from_fn(shape, |output, y, column| {
        let conv_group = output / (conv.out_channels / conv.groups);
        let window = Window::new(conv, x, conv_group, [y, column]);
        let weight_group = weights.group_of(output * of_output);
        let mut total: Option<f32> = None;
        for input_term in &input_terms.0 {
            for group in 0..groups {
                let of_channel = |channel: usize| channel * groups / conv.in_channels;
                if !window.elements.iter().any(|(channel, _)| of_channel(*channel) == group) {
                    continue;
                }
                for weight_term in &weight_terms.0 {
                    let mut sum = 0i64;
                    for (index, (channel, place)) in window.elements.iter().enumerate() {
                        if of_channel(*channel) != group {
                            continue;
                        }
                        let quantizer_group = quantizer.group_of(*channel, conv.in_channels);
                        let code = match place {
                            Some((y, column)) => {
                                codes[(channel * x.shape[1] + y) * x.shape[2] + column]
                            }
                            None if conv.pads_codes => quantizer.code_of(quantizer_group, 0.0),
                            None => continue,
                        };
                        let integers = input_term.integers_of(group, quantizer.levels);
                        let weight_code = weights.codes[output * of_output + index];
                        let weight_integers = weight_term.integers_of(weight_group, weights.levels);
                        sum += i64::from(integers[usize::from(code)])
                            * i64::from(weight_integers[usize::from(weight_code)]);
                    }
                    let scale = input_term.scale_of(group) * weight_term.scale_of(weight_group);
                    let summand = sum as f32 * scale;
                    total = Some(total.map_or(summand, |total| total + summand));
                }
            }
        }
        total.unwrap_or(0.0)
    })
}

fn in_floats(conv: &Conv, x: &Value, shape: [usize; 3]) -> Value {
    let values = match &conv.quantizer {
        Some(quantizer) => quantize::values(quantizer, x),
        None => x.clone(),
    };
    let of_output = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
    Value::from_fn(shape, |output, y, column| {
        let group = output / (conv.out_channels / conv.groups);
        let window = Window::new(conv, x, group, [y, column]);
        let mut sum = 0.0;
        for (index, (channel, place)) in window.elements.iter().enumerate() {
            let value = match (place, &conv.quantizer) {
                (Some((y, column)), _) => values.at(*channel, *y, *column),
                (None, Some(quantizer)) if conv.pads_codes => {
                    let group = quantizer.group_of(*channel, conv.in_channels);
                    quantizer.value_of(group, quantizer.code_of(group, 0.0))
                }
                (None, _) => 0.0,
            };
            let weight = match &conv.weight {
                Weight::Float(weights) => weights[output * of_output + index],
                Weight::Codes(codes) => codes.value_of(output * of_output + index),
            };
            sum += value * weight;
        }
        sum
    })
}
