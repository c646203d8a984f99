//! Quantized weights.

use quant_core::{QuantizedWeight, Reached};
use quant_infer::model::{Terms, Weight, WeightCodes};

use super::{layer::Layer, terms::terms};
use crate::error::LowerError;

/// Returns the weight of a layer, without terms.
pub(super) fn weight(layer: &Layer<'_>) -> Result<Weight, LowerError> {
    let Some(quantizer) = layer.weight_quantizer else {
        return Ok(Weight::Float(layer.weight.clone().into_data().iter().collect()));
    };
    let reached = Reached { path: layer.name.to_owned(), quantizer: quantizer.clone() };
    let shape = layer.weight.dims().to_vec();
    let found = QuantizedWeight { reached, weight: layer.weight.clone(), shape };
    if found.levels() > 256 {
        let quantized = quantizer.forward(layer.weight.clone());
        return Ok(Weight::Float(quantized.into_data().iter().collect()));
    }
    let found = found.to_codes();
    let levels = found.values[0].len();
    if let Some(values) = found.values.iter().find(|v| v.iter().any(|value| !value.is_finite())) {
        return Err(LowerError::Values { layer: layer.name.to_owned(), values: values.clone() });
    }
    let one = found.values.iter().all(|values| *values == found.values[0]);
    let (groups, run) = if one { (1, found.codes.len()) } else { (found.values.len(), found.run) };
    let values = found.values[..groups].concat();
    Ok(Weight::Codes(WeightCodes { levels, codes: found.codes, groups, run, values, terms: None }))
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
