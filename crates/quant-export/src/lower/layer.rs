//! Convolutions and linear layers, those of `quant-nn` and those of Burn.

use burn::{
    module::Param,
    nn::{Linear, PaddingConfig2d, conv::Conv2d},
    tensor::{Device, Tensor},
};
use quant_core::{QuantizedWeight, Quantizer, quantized_weights};
use quant_infer::model::{Conv, Dynamic, Input, Op, Quantizer as Lowered, Terms, Weight};
use quant_nn::layers::{conv::QuantConv2d, linear::QuantLinear};

use super::{image, norm::host, quantizer, terms::terms, weight};
use crate::{error::LowerError, explain::groups_of_an_output};

/// The most groups of activations that an output channel may read in integers.
const MOST_GROUPS: usize = 16;

/// The most pairs of terms. Each is a convolution of its own, so that one in floats takes less time
/// from about here on.
const MOST_PAIRS: usize = 16;

/// What a convolution and a linear layer have in common, without quantizers that are not enabled.
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
    /// Without terms.
    pub(super) weight: Weight,
    /// `[out, in / groups, height, width]`.
    pub(super) shape: [usize; 4],
    pub(super) bias: Option<Vec<f32>>,
    pub(super) activation: Option<&'a Quantizer>,
    pub(super) output: Option<&'a Quantizer>,
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) groups: usize,
    pub(super) padding_after_quant: bool,
}

fn enabled(quantizer: &Option<Quantizer>) -> Option<&Quantizer> {
    quantizer.as_ref().filter(|quantizer| quantizer.is_enabled())
}

/// Returns the numbers of a bias.
fn numbers(bias: &Option<Param<Tensor<1>>>) -> Option<Vec<f32>> {
    bias.as_ref().map(host)
}

impl<'a> Layer<'a> {
    pub(super) fn of_conv(name: &'a str, conv: &'a QuantConv2d) -> Result<Self, LowerError> {
        let weight = conv.weight.val().inner();
        Ok(Self {
            name,
            shape: weight.dims(),
            weight: weight::weight(name, weight, enabled(&conv.quant_weight))?,
            bias: numbers(&conv.bias),
            activation: enabled(&conv.quant_activation),
            output: enabled(&conv.quant_output),
            stride: [conv.stride; 2],
            padding: [conv.padding; 2],
            dilation: [conv.dilation; 2],
            groups: conv.groups,
            padding_after_quant: conv.padding_after_quant,
        })
    }

    pub(super) fn of_linear(name: &'a str, linear: &'a QuantLinear) -> Result<Self, LowerError> {
        let weight = linear.weight.val().inner();
        let [outputs, inputs] = weight.dims();
        let weight = weight.reshape([outputs, inputs, 1, 1]);
        let weight = weight::weight(name, weight, enabled(&linear.quant_weight))?;
        Ok(Self {
            activation: enabled(&linear.quant_activation),
            output: enabled(&linear.quant_output),
            ..Self::plain_linear(name, weight, [outputs, inputs], numbers(&linear.bias))
        })
    }

    /// A convolution of Burn, whose input this quantizer quantizes.
    pub(super) fn of_burn_conv(
        name: &'a str,
        conv: &Conv2d,
        activation: Option<&'a Quantizer>,
    ) -> Result<Self, LowerError> {
        let shape = conv.weight.dims();
        let weight = match burn_weight(&quantized_weights(conv)) {
            Some((weight, quantizer)) => weight::weight(name, weight, Some(&quantizer))?,
            None => weight::weight(name, conv.weight.val(), None)?,
        };
        Ok(Self {
            name,
            weight,
            shape,
            bias: numbers(&conv.bias),
            activation: activation.filter(|quantizer| quantizer.is_enabled()),
            output: None,
            stride: conv.stride,
            padding: burn_padding(name, conv)?,
            dilation: conv.dilation,
            groups: conv.groups,
            padding_after_quant: true,
        })
    }

    /// A linear layer of Burn, whose input this quantizer quantizes.
    pub(super) fn of_burn_linear(
        name: &'a str,
        linear: &Linear,
        activation: Option<&'a Quantizer>,
    ) -> Result<Self, LowerError> {
        let [inputs, outputs] = linear.weight.dims();
        let weight = match burn_weight(&quantized_weights(linear)) {
            Some((weight, quantizer)) => weight::weight(name, weight, Some(&quantizer))?,
            None => {
                let weight = linear.weight.val().reshape([inputs, outputs, 1, 1]);
                weight::weight(name, weight, None)?
            }
        };
        let weight = weight::transposed(&weight, inputs, outputs);
        Ok(Self {
            activation: activation.filter(|quantizer| quantizer.is_enabled()),
            ..Self::plain_linear(name, weight, [outputs, inputs], numbers(&linear.bias))
        })
    }

    fn plain_linear(
        name: &'a str,
        weight: Weight,
        [outputs, inputs]: [usize; 2],
        bias: Option<Vec<f32>>,
    ) -> Self {
        Self {
            name,
            weight,
            shape: [outputs, inputs, 1, 1],
            bias,
            activation: None,
            output: None,
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            padding_after_quant: true,
        }
    }

    fn in_channels(&self) -> usize {
        self.shape[1] * self.groups
    }
}

/// Returns the weight of a layer of Burn as it is before its quantizer, and the quantizer, if there
/// is one that is enabled.
fn burn_weight(found: &[QuantizedWeight]) -> Option<(Tensor<4>, Quantizer)> {
    let found = found.iter().find(|found| found.reached.quantizer.is_enabled())?;
    Some((found.weight.clone(), found.reached.quantizer.clone()))
}

/// Returns the padding of a convolution of Burn by height and width.
fn burn_padding(name: &str, conv: &Conv2d) -> Result<[usize; 2], LowerError> {
    let refused = |reason: String| Err(LowerError::Layer { layer: name.to_owned(), reason });
    match conv.padding {
        PaddingConfig2d::Valid => Ok([0; 2]),
        PaddingConfig2d::Explicit(top, left, bottom, right) if (top, left) == (bottom, right) => {
            Ok([top, left])
        }
        PaddingConfig2d::Explicit(top, left, bottom, right) => refused(format!(
            "its padding is {top} at the top, {left} at the left, {bottom} at the bottom and \
             {right} at the right; only a convolution with equal padding on opposite sides can be \
             packed"
        )),
        PaddingConfig2d::Same => {
            let [height, width] = conv.kernel_size;
            if conv.stride != [1; 2] || height.is_multiple_of(2) || width.is_multiple_of(2) {
                return refused(format!(
                    "its padding is Same, its kernel {height}x{width} and its stride {}x{}, so \
                     that the padding depends on the image or differs between the sides; a \
                     convolution with PaddingConfig2d::Explicit and equal padding on opposite \
                     sides can be packed",
                    conv.stride[0], conv.stride[1]
                ));
            }
            Ok([height / 2, width / 2])
        }
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
    layer: Layer<'_>,
    image: Option<&Input>,
    device: &Device,
) -> Result<LoweredLayer, LowerError> {
    let [out_channels, _, height, width] = layer.shape;
    let (in_channels, groups) = (layer.in_channels(), layer.groups);
    let mut before = Vec::new();
    let mut weight = layer.weight;
    let (mut padding, mut pads_codes, mut quantizer) = (layer.padding, false, None);
    let mut reason = None;
    if let Some(found) = layer.activation {
        let steps = quantizer::steps(layer.name, found, device)?;
        let pads_first = padding != [0; 2] && !layer.padding_after_quant;
        let is_plain = steps.quantizer.dynamic == Dynamic::None && steps.after.is_none();
        if pads_first && !is_plain {
            // Only layers of `quant-nn` pad first, and all of their sides alike.
            before.push(Op::Pad(padding[0]));
            padding = [0; 2];
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
    let per_channel = layer.shape[1..].iter().product();
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
    let conv = Conv {
        in_channels,
        out_channels,
        kernel: [height, width],
        stride: layer.stride,
        padding,
        dilation: layer.dilation,
        groups,
        quantizer,
        pads_codes,
        weight,
        bias: layer.bias,
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
