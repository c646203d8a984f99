//! Quantized weights.

use burn::tensor::Tensor;
use quant_core::{QuantizedWeight, Quantizer, Reached};
use quant_infer::model::{Terms, Weight, WeightCodes};

use super::terms::terms;
use crate::error::LowerError;

/// Returns the weight of a layer as this quantizer quantizes it, without terms.
pub(super) fn weight(
    layer: &str,
    weight: Tensor<4>,
    quantizer: Option<&Quantizer>,
) -> Result<Weight, LowerError> {
    let Some(quantizer) = quantizer else {
        return Ok(Weight::Float(weight.into_data().iter().collect()));
    };
    let reached = Reached { path: layer.to_owned(), quantizer: quantizer.clone() };
    let shape = weight.dims().to_vec();
    let found = QuantizedWeight { reached, weight, shape };
    if found.levels() > 256 {
        let quantized = quantizer.forward(found.weight);
        return Ok(Weight::Float(quantized.into_data().iter().collect()));
    }
    let found = found.to_codes();
    let levels = found.values[0].len();
    if let Some(values) = found.values.iter().find(|v| v.iter().any(|value| !value.is_finite())) {
        return Err(LowerError::Values { layer: layer.to_owned(), values: values.clone() });
    }
    let one = found.values.iter().all(|values| *values == found.values[0]);
    let (groups, run) = if one { (1, found.codes.len()) } else { (found.values.len(), found.run) };
    let values = found.values[..groups].concat();
    Ok(Weight::Codes(WeightCodes { levels, codes: found.codes, groups, run, values, terms: None }))
}

/// Returns a weight `[inputs, outputs]`, whose groups divide the outputs, as `[outputs, inputs]`.
pub(super) fn transposed(weight: &Weight, inputs: usize, outputs: usize) -> Weight {
    fn swapped<T: Copy>(elements: &[T], outputs: usize) -> Vec<T> {
        let of = |output: usize| elements.iter().skip(output).step_by(outputs).copied();
        (0..outputs).flat_map(of).collect()
    }
    match weight {
        Weight::Float(values) => Weight::Float(swapped(values, outputs)),
        Weight::Codes(codes) => Weight::Codes(WeightCodes {
            codes: swapped(&codes.codes, outputs),
            run: match codes.groups {
                1 => codes.run,
                _ => codes.run * inputs,
            },
            ..codes.clone()
        }),
    }
}

/// Returns the terms of a weight whose channels have `per_channel` elements, or why it has none.
pub(super) fn weight_terms(weight: &Weight, per_channel: usize) -> Result<Terms, &'static str> {
    let Weight::Codes(codes) = weight else {
        return Err("its weight is not quantized, or to more than 256 values");
    };
    if codes.groups > 1 && !codes.run.is_multiple_of(per_channel) {
        return Err("the scales of its weight differ within an output channel");
    }
    terms(&codes.values, codes.levels)
        .ok_or("the values of its weight are no sums of few integers times scales")
}
