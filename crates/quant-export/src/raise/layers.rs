//! The numbers and quantizers of a network's layers, from the nodes of a model.

use burn::tensor::Device;
use quant_core::Role;
use quant_infer::model::{Conv, Input, Model, Op, Quantizer};
use quant_nn::state::Entry;

use super::{
    RaiseError,
    inputs::{self, Found},
    of_model::ModelNodes,
    operation::{Kind, Operation},
    options::{RaiseOptions, Statistics},
    products::{self, Products, products, reads_bytes},
    weights,
};
use crate::lower::terms;

/// Added to variances.
const EPSILON: f32 = 1e-5;

/// A convolution or linear layer, with what its quantizers have to be.
pub(super) struct RaisedLayer {
    pub(super) name: String,
    /// The node of the model whose codes are those of the layer's input.
    pub(super) node: usize,
    pub(super) activation: Option<Found>,
    pub(super) weight: Option<Found>,
    pub(super) output: Option<Found>,
    /// Whether zeros have to be added before quantizing or after it; `None` if both are the same.
    pub(super) pads_first: Option<bool>,
}

/// A model that becomes a network.
pub(super) struct Raising<'a> {
    pub(super) model: &'a Model,
    pub(super) input: &'a Input,
    pub(super) options: &'a RaiseOptions,
    pub(super) device: &'a Device,
    pub(super) theirs: &'a [Operation<ModelNodes>],
}

impl Raising<'_> {
    fn error(&self, operation: &Operation<ModelNodes>, reason: String) -> RaiseError {
        let node = operation.source.nodes.first().map(|at| self.model.nodes[*at].name.clone());
        RaiseError::Layer { layer: node.unwrap_or_default(), reason }
    }

    /// Raises a convolution or linear layer.
    pub(super) fn layer(
        &self,
        name: &str,
        operation: &Operation<ModelNodes>,
        entries: &mut Vec<(String, Entry)>,
    ) -> Result<RaisedLayer, RaiseError> {
        let convs: Vec<&Conv> = (operation.source.nodes.iter())
            .filter_map(|at| match &self.model.nodes[*at].op {
                Op::Conv(conv) => Some(&**conv),
                _ => None,
            })
            .collect();
        let refused = |reason: String| self.error(operation, reason);
        let found = products(&convs).map_err(refused)?;
        let conv = convs[0];
        let of_image = operation.inputs.first().is_some_and(|at| self.is_of_image(*at));
        let bytes = found.quantizer.filter(|quantizer| {
            of_image && reads_bytes(quantizer, &self.model.input) && !found.values.is_empty()
        });
        let (activation, factors) = match (bytes, found.quantizer) {
            (Some(quantizer), _) => (None, Some(self.byte_factors(quantizer, &found))),
            (None, Some(quantizer)) => {
                let (found, factors) = self.activation(conv, quantizer, &found).map_err(refused)?;
                (Some(found), Some(factors))
            }
            (None, None) => (None, None),
        };
        let shape =
            [conv.out_channels, conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]];
        let groups = factors.as_ref().map_or(1, Vec::len);
        let group_of = products::group_of(conv, groups);
        let factor = |at: usize| factors.as_ref().map_or(1.0, |factors| factors[group_of(at)]);
        let values: Vec<f64> =
            found.weight.iter().enumerate().map(|(at, weight)| weight / factor(at)).collect();
        let (weight, numbers) = if found.weight_is_quantized {
            let scale = match (&activation, &factors) {
                (Some(activation), Some(factors)) if groups == 1 => {
                    Some(lowered_scale(activation, &found.values, factors[0]))
                }
                (_, factors) => factors.as_ref().map(|factors| factors[0] as f32),
            };
            let integers = found.integers.as_ref().map(|(i, factors)| (&i[..], &factors[..]));
            let wanted = weights::Wanted { shape, values: &values, integers, input_scale: scale };
            let weight = weights::find(&wanted, self.device).map_err(refused)?;
            (Some(weight.found), weight.numbers)
        } else {
            (None, values.iter().map(|value| *value as f32).collect())
        };
        let entry = |part: &str, values: Vec<f32>| {
            (format!("{name}.{part}"), Entry { shape: vec![values.len()], values })
        };
        entries.push(entry("weight", numbers));
        if let Some(at) = operation.source.bias {
            let bias = match &self.model.nodes[at].op {
                Op::Conv(conv) => conv.bias.clone(),
                Op::Affine { shift, .. } => Some(shift.clone()),
                _ => None,
            };
            entries.extend(bias.map(|bias| entry("bias", bias)));
        } else if self.theirs.last().is_some_and(|last| last.source.nodes == operation.source.nodes)
        {
            entries.push(entry("bias", vec![0.0; conv.out_channels]));
        }
        let output = match operation.source.output.map(|at| &self.model.nodes[at].op) {
            Some(Op::Quantize(quantizer)) => {
                let values: Vec<f64> = quantizer.values.iter().copied().map(f64::from).collect();
                let mut found =
                    self.quantizer(conv.out_channels, quantizer, &values).map_err(refused)?;
                found.config.role = Role::Output;
                Some(found)
            }
            _ => None,
        };
        Ok(RaisedLayer {
            name: name.to_owned(),
            node: operation.source.nodes[0],
            pads_first: pads_first(conv),
            activation,
            weight,
            output,
        })
    }

    /// Whether an operation is the image, or its positions as channels.
    fn is_of_image(&self, at: usize) -> bool {
        match self.theirs[at].kind {
            Kind::Image => true,
            Kind::SpaceToDepth(_) => self.theirs[at].inputs.iter().all(|at| self.is_of_image(*at)),
            _ => false,
        }
    }

    /// What one unit of the values of the image's bytes stands for, by group of channels.
    fn byte_factors(&self, quantizer: &Quantizer, found: &Products<'_>) -> Vec<f64> {
        let channels = self.input.scale.len();
        let of = |group: usize| {
            let values = &found.values[group * 256..][..256];
            let channel = group * channels / quantizer.groups;
            255.0 * f64::from(self.input.scale[channel]) / (values[255] - values[0])
        };
        (0..quantizer.groups).map(of).collect()
    }

    /// Raises the quantizer of a layer's input. Also returns what one unit of the values that were
    /// found stands for, by group of channels.
    fn activation(
        &self,
        conv: &Conv,
        quantizer: &Quantizer,
        products: &Products<'_>,
    ) -> Result<(Found, Vec<f64>), String> {
        if quantizer.dynamic != quant_infer::model::Dynamic::None {
            return Err("the quantizer of its input depends on the image".into());
        }
        let found = self.quantizer(conv.in_channels, quantizer, &products.values)?;
        let levels = quantizer.levels;
        let factors: Vec<f64> = (found.values.chunks(levels).zip(products.values.chunks(levels)))
            .map(|(ours, theirs)| {
                let end = if theirs[0].abs() > theirs[levels - 1].abs() { 0 } else { levels - 1 };
                f64::from(ours[end]) / theirs[end]
            })
            .collect();
        let is_real = conv.integer_terms().is_none();
        if is_real && factors.iter().any(|factor| (factor - 1.0).abs() > 1e-4) {
            return Err("the values of its input are not those of its thresholds".into());
        }
        Ok((found, factors))
    }

    fn quantizer(
        &self,
        channels: usize,
        quantizer: &Quantizer,
        values: &[f64],
    ) -> Result<Found, String> {
        let wanted = inputs::Wanted {
            channels,
            groups: quantizer.groups,
            levels: quantizer.levels,
            thresholds: &quantizer.thresholds,
            values,
        };
        inputs::find(&wanted, self.device)
    }

    /// Adds the numbers of a norm. Returns whether they have statistics.
    pub(super) fn norm(
        &self,
        name: &str,
        operation: &Operation<ModelNodes>,
        entries: &mut Vec<(String, Entry)>,
    ) -> bool {
        let (scale, shift, node) = match (operation.source.bias_of, operation.source.nodes.first())
        {
            (Some(at), _) => match &self.model.nodes[at].op {
                Op::Conv(conv) => {
                    let bias = conv.bias.clone().unwrap_or_default();
                    (vec![1.0; bias.len()], bias, at)
                }
                _ => return false,
            },
            (None, Some(at)) => match &self.model.nodes[*at].op {
                Op::Affine { scale, shift } => (scale.clone(), shift.clone(), *at),
                _ => return false,
            },
            (None, None) => return false,
        };
        let given = self.options.statistics.get(&self.model.nodes[node].name);
        let fits = |given: &&Statistics| {
            let factor = |at: usize| given.weight[at] / (given.variance[at] + EPSILON).sqrt();
            let counts = [&given.weight, &given.bias, &given.mean, &given.variance];
            operation.source.bias_of.is_none()
                && counts.iter().all(|numbers| numbers.len() == scale.len())
                && (0..scale.len()).all(|at| {
                    factor(at) == scale[at]
                        && given.bias[at] - given.mean[at] * factor(at) == shift[at]
                })
        };
        let given = given.filter(fits);
        let count = scale.len();
        let numbers = match given {
            Some(given) => given.clone(),
            None => Statistics {
                weight: scale,
                bias: shift,
                mean: vec![0.0; count],
                variance: vec![1.0 - EPSILON; count],
            },
        };
        let parts = [
            ("weight", numbers.weight),
            ("bias", numbers.bias),
            ("running_mean", numbers.mean),
            ("running_var", numbers.variance),
        ];
        let of_group = operation
            .inputs
            .first()
            .is_some_and(|at| matches!(self.theirs[*at].kind, Kind::GroupNorm(_)));
        for (part, values) in parts.into_iter().take(if of_group { 2 } else { 4 }) {
            entries.push((format!("{name}.{part}"), Entry { shape: vec![count], values }));
        }
        given.is_some() || of_group
    }

    /// Adds the numbers of an activation function, and numbers that are added or multiplied.
    pub(super) fn numbers(
        &self,
        name: &str,
        operation: &Operation<ModelNodes>,
        entries: &mut Vec<(String, Entry)>,
    ) {
        let Some(at) = operation.source.nodes.first() else { return };
        let mut add = |part: &str, values: &[f32]| {
            let name = if part.is_empty() { name.to_owned() } else { format!("{name}.{part}") };
            entries.push((name, Entry { shape: vec![values.len()], values: values.to_vec() }));
        };
        match &self.model.nodes[*at].op {
            Op::LeakyRelu(slope) => add("weight", &[*slope]),
            Op::RPRelu { before, slope, after } => {
                add("shift_in", before);
                add("slope", slope);
                add("shift_out", after);
            }
            Op::AddScalar(number) | Op::MulScalar(number) => add("", &[*number]),
            _ => {}
        }
    }
}

/// Whether a convolution adds zeros before its quantizer. `None` where that makes no difference.
fn pads_first(conv: &Conv) -> Option<bool> {
    let quantizer = conv.quantizer.as_ref()?;
    let zero = |group| quantizer.value_of(group, quantizer.code_of(group, 0.0));
    let differs = conv.padding != [0, 0] && (0..quantizer.groups).any(|group| zero(group) != 0.0);
    differs.then_some(conv.pads_codes)
}

/// Returns the scale of a quantizer's lowered values, in units of the values that were found in the
/// model, of which one stands for `factor`.
fn lowered_scale(found: &Found, values: &[f64], factor: f64) -> f32 {
    // There may be fewer values than levels in the configuration.
    let levels = values.len();
    let Some(terms) = terms::terms(&found.values, levels) else { return factor as f32 };
    let [term] = &terms.0[..] else { return factor as f32 };
    let (theirs, ours) = (values[levels - 1], f64::from(term.integers[levels - 1]));
    if theirs == 0.0 || ours == 0.0 {
        return factor as f32;
    }
    (f64::from(term.scales[0]) * ours / theirs) as f32
}
