//! Quantizers.

use alloc::{vec, vec::Vec};

use quant_kernels::square_root;

use super::value::Value;
use crate::model::{Dynamic, Quantizer};

/// Returns the sum of f of all elements, in the order channel, row, column.
fn sum(x: &Value, f: impl Fn(f32) -> f64) -> f64 {
    x.numbers.iter().fold(0.0, |sum, x| sum + f(*x))
}

/// Returns the factor of the image by which numbers are divided before they are quantized.
fn image_factor(quantizer: &Quantizer, x: &Value) -> Option<f32> {
    let count = x.numbers.len();
    let mean = sum(x, f64::from) / count as f64;
    match quantizer.dynamic {
        Dynamic::Mean => Some(mean as f32 + 1e-5),
        Dynamic::Deviation if count == 1 => Some(1e-5),
        Dynamic::Deviation => {
            let square = |x| (f64::from(x) - mean) * (f64::from(x) - mean);
            let variance = (sum(x, square) / (count - 1) as f64) as f32;
            Some(square_root(variance) + 1e-5)
        }
        _ => None,
    }
}

/// Returns the codes.
pub(super) fn codes(quantizer: &Quantizer, x: &Value) -> Vec<u8> {
    let [channels, height, width] = x.shape;
    let factor = image_factor(quantizer, x);
    (x.numbers.iter().enumerate())
        .map(|(index, x)| {
            let group = quantizer.group_of(index / (height * width), channels);
            quantizer.code_of(group, factor.map_or(*x, |factor| x / factor))
        })
        .collect()
}

/// Returns the values.
pub(super) fn values(quantizer: &Quantizer, x: &Value) -> Value {
    let [channels, height, width] = x.shape;
    let codes = codes(quantizer, x);
    let factor = image_factor(quantizer, x);
    let of_code = |c: usize, y: usize, x: usize| {
        let group = quantizer.group_of(c, channels);
        quantizer.value_of(group, codes[(c * height + y) * width + x])
    };
    match quantizer.dynamic {
        Dynamic::None => Value::from_fn(x.shape, of_code),
        Dynamic::Mean | Dynamic::Deviation => {
            let factor = factor.unwrap_or(1.0);
            Value::from_fn(x.shape, |c, y, x| of_code(c, y, x) * factor)
        }
        Dynamic::MeanOverChannels => {
            let mut means = vec![0.0; height * width];
            for (position, mean) in means.iter_mut().enumerate() {
                let sum = (0..channels).fold(0.0, |sum, c| {
                    sum + f64::from(x.numbers[c * height * width + position].abs())
                });
                *mean = (sum / channels as f64) as f32;
            }
            Value::from_fn(x.shape, |c, y, x| of_code(c, y, x) * means[y * width + x])
        }
        Dynamic::MeanOverPositions => {
            let means: Vec<f32> = (x.numbers.chunks(height * width))
                .map(|channel| {
                    let sum = channel.iter().fold(0.0, |sum, x| sum + f64::from(x.abs()));
                    (sum / channel.len() as f64) as f32
                })
                .collect();
            Value::from_fn(x.shape, |c, y, x| of_code(c, y, x) * means[c])
        }
    }
}
