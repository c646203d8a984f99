//! Convolutions and linear layers.

use burn::tensor::{Device, Tensor};
use quant_core::Quantizer;
use quant_infer::model::{Conv, Dynamic, Input, Op, Quantizer as Lowered, Terms, Weight};
use quant_nn::layers::{conv::QuantConv2d, linear::QuantLinear};

use super::{image, quantizer, terms::terms, weight};
use crate::{error::LowerError, explain::groups_of_an_output};

/// The most groups of activations that an output channel may read in integers.
const MOST_GROUPS: usize = 16;

/// The most pairs of terms. Each is a convolution of its own, so that one in floats takes less time
/// from about here on.
const MOST_PAIRS: usize = 16;

/// What a convolution and a linear layer have in common, without quantizers that are not enabled.
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
    /// `[out, in / groups, height, width]`.
    pub(super) weight: Tensor<4>,
    pub(super) bias: Option<Tensor<1>>,
    pub(super) activation: Option<&'a Quantizer>,
    pub(super) weight_quantizer: Option<&'a Quantizer>,
    pub(super) output: Option<&'a Quantizer>,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) dilation: usize,
    pub(super) groups: usize,
    pub(super) padding_after_quant: bool,
}

fn enabled(quantizer: &Option<Quantizer>) -> Option<&Quantizer> {
    quantizer.as_ref().filter(|quantizer| quantizer.is_enabled())
}

impl<'a> Layer<'a> {
    pub(super) fn of_conv(name: &'a str, conv: &'a QuantConv2d) -> Self {
        Self {
            name,
            weight: conv.weight.val().inner(),
            bias: conv.bias.as_ref().map(|bias| bias.val().inner()),
            activation: enabled(&conv.quant_activation),
            weight_quantizer: enabled(&conv.quant_weight),
            output: enabled(&conv.quant_output),
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            groups: conv.groups,
            padding_after_quant: conv.padding_after_quant,
        }
    }

    pub(super) fn of_linear(name: &'a str, linear: &'a QuantLinear) -> Self {
        let weight = linear.weight.val().inner();
        let [outputs, inputs] = weight.dims();
        Self {
            name,
            weight: weight.reshape([outputs, inputs, 1, 1]),
            bias: linear.bias.as_ref().map(|bias| bias.val().inner()),
            activation: enabled(&linear.quant_activation),
            weight_quantizer: enabled(&linear.quant_weight),
            output: enabled(&linear.quant_output),
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
            padding_after_quant: true,
        }
    }

    fn in_channels(&self) -> usize {
        self.weight.dims()[1] * self.groups
    }
}

/// A lowered layer, and why it computes in floats if it does.
pub(super) struct LoweredLayer {
    /// What is done to its input first.
    pub(super) before: Vec<Op>,
    pub(super) conv: Conv,
    pub(super) reason: Option<String>,
}

/// Lowers a layer. `image` is the network's input if the layer reads it.
pub(super) fn lower(
    layer: &Layer<'_>,
    image: Option<&Input>,
    device: &Device,
) -> Result<LoweredLayer, LowerError> {
    let [out_channels, _, height, width] = layer.weight.dims();
    let mut before = Vec::new();
    let mut weight = weight::weight(layer)?;
    let (mut padding, mut pads_codes, mut quantizer) = (layer.padding, false, None);
    let mut reason = None;
    if let Some(found) = layer.activation {
        let steps = quantizer::steps(layer.name, found, device)?;
        let pads_first = padding > 0 && !layer.padding_after_quant;
        let is_plain = steps.quantizer.dynamic == Dynamic::None && steps.after.is_none();
        if pads_first && !is_plain {
            before.push(Op::Pad(padding));
            padding = 0;
        }
        before.extend(steps.before);
        match steps.after {
            None => quantizer = Some(steps.quantizer),
            Some(after) => {
                reason = Some("the values of its input descend".to_owned());
                before.push(Op::Quantize(Box::new(steps.quantizer)));
                before.push(after);
            }
        }
        pads_codes = pads_first && is_plain;
    } else if let (Some(input), Weight::Codes(_)) = (image, &weight) {
        quantizer = Some(image::quantizer(layer.name, input)?);
    }
    let (in_channels, groups) = (layer.in_channels(), layer.groups);
    let per_channel = layer.weight.dims()[1..].iter().product();
    let read = |of: usize| groups_of_an_output(in_channels, groups, of);
    match (both_terms(quantizer.as_ref(), &weight, per_channel, read), &mut quantizer) {
        (Ok((of_input, of_weight)), Some(quantizer)) => {
            // What is computed in integers has the values that the terms stand for, so that a file
            // need not hold them.
            let values = of_input.values(quantizer.levels);
            if let Some(values) = values.filter(|sums| sums.len() == quantizer.values.len()) {
                quantizer.values = values;
            }
            quantizer.terms = Some(of_input);
            if let Weight::Codes(codes) = &mut weight {
                let values = of_weight.values(codes.levels);
                if let Some(values) = values.filter(|sums| sums.len() == codes.values.len()) {
                    codes.values = values;
                }
                codes.terms = Some(of_weight);
            }
        }
        (Ok(_), None) => {}
        (Err(found), _) => {
            reason.get_or_insert(found);
        }
    }
    let bias = layer.bias.clone().map(|bias| bias.into_data().iter().collect());
    let conv = Conv {
        in_channels,
        out_channels,
        kernel: [height, width],
        stride: [layer.stride; 2],
        padding: [padding; 2],
        dilation: [layer.dilation; 2],
        groups,
        quantizer,
        pads_codes,
        weight,
        bias,
    };
    Ok(LoweredLayer { before, conv, reason })
}

/// Returns the terms of input and weight, or why there are none.
fn both_terms(
    quantizer: Option<&Lowered>,
    weight: &Weight,
    per_channel: usize,
    read_groups: impl Fn(usize) -> usize,
) -> Result<(Terms, Terms), String> {
    let Some(quantizer) = quantizer else {
        return Err(match weight {
            Weight::Codes(_) => "its input is not quantized".into(),
            Weight::Float(_) => "neither its input nor its weight is quantized".into(),
        });
    };
    let of_weight = weight::weight_terms(weight, per_channel)?;
    if quantizer.dynamic != Dynamic::None {
        return Err("the scale of its input depends on the image".into());
    }
    let of_input = terms(&quantizer.values, quantizer.levels)
        .ok_or("the values of its input are no sums of few integers times scales")?;
    let groups = of_input.0[0].scales.len();
    let read = read_groups(groups);
    if read > MOST_GROUPS {
        return Err(format!(
            "the scales of its input differ by channel: an output channel reads {read}, and \
             integers are used for up to {MOST_GROUPS}"
        ));
    }
    let (a, b) = (of_input.0.len(), of_weight.0.len());
    if a * b > MOST_PAIRS {
        return Err(format!(
            "its input takes {a} terms and its weight {b}: integers are used for up to \
             {MOST_PAIRS} pairs"
        ));
    }
    Ok((of_input, of_weight))
}
