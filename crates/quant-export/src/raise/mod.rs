//! Models become networks that can be trained: the inverse of [`lower`](crate::lower()).

mod error;
mod inputs;
mod pieces;
mod products;
mod search;
mod verify;
mod weights;

use std::collections::BTreeMap;

use burn::tensor::Device;
use quant_core::{Granularity, QuantizerConfig, Role};
use quant_infer::model::{Conv, Input, Model, Op, Quantizer};
use quant_nn::{
    FirstLast, FirstLastQuantizers, Network, NetworkConfig, QuantizedModule, StateDict,
    layers::norm::NormKind, network::Submodule, state::Entry,
};

pub use self::{error::RaiseError, search::describe, verify::Verified};
use self::{
    inputs::Found,
    pieces::{Kind, Parts, Piece, Place},
    products::{Products, products, reads_bytes},
};
use crate::lower::terms;

/// What a model does not say about the network that it was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RaiseOptions {
    /// Whether quantizers are left out whose values are read by anything but convolutions, such as
    /// a sum. Trainable networks quantize only what convolutions and linear layers read and give.
    pub leave_out_quantizers: bool,
    /// The statistics of batch norms, by the name of the model's node.
    pub statistics: BTreeMap<String, Statistics>,
    /// How the pixels of images become numbers, for a model that reads bytes.
    pub input: Option<Input>,
}

/// The numbers of a batch norm, one of each for a channel: (x - mean)/sqrt(variance + 1e-5)·weight
/// + bias.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// The factor γ of each channel.
    pub weight: Vec<f32>,
    /// The number β that is added to each channel.
    pub bias: Vec<f32>,
    /// The mean of each channel.
    pub mean: Vec<f32>,
    /// The variance of each channel.
    pub variance: Vec<f32>,
}

/// A network that was made from a model.
#[derive(Debug, Clone)]
pub struct Raised {
    /// The network, which can be evaluated and trained.
    pub network: Network,
    /// How the pixels of its images become numbers.
    pub input: Input,
    /// What differs from the model, and why.
    pub notes: Vec<String>,
    /// How the scores and codes of the network and of the model differ on images of noise.
    pub verified: Verified,
}

/// Added to variances.
const EPSILON: f32 = 1e-5;

/// Makes a network of a model whose structure is that of a configuration of `quant-nn`: ResNets,
/// MobileNets, VGG-small and NiN, with any order of layers that these configurations have.
///
/// Quantizers get the method whose thresholds and values those of the model are: LSQ where that
/// fits, which it does for LSQ, DoReFa, PACT and the weights of XNOR-Net as well; LSQ's other form,
/// LSQ+, signs, APoT, LQ-Nets, FATNN, N2UQ and TTQ otherwise. A weight becomes the values of its
/// codes.
///
/// A model has no statistics of batch norms. Norms for which [`RaiseOptions::statistics`] has none
/// get a mean of 0 and a variance of 1, and the network's norm is then [`NormKind::Static`], which
/// computes in training what it computes in evaluation.
///
/// # Errors
/// [`RaiseError`] with the first node that no such network has, or the layer whose numbers no
/// method has.
pub fn raise(model: &Model, options: &RaiseOptions) -> Result<Raised, RaiseError> {
    model.check()?;
    let theirs = pieces::of_model(model, options.leave_out_quantizers)?;
    let mut notes: Vec<String> = (theirs.left_out.iter())
        .map(|name| format!("{name}: its quantizer was left out, because a sum or a pool reads it"))
        .collect();
    let found = search::search(model, &theirs.pieces)?;
    let device = Device::default();
    let raw = model.input.scale.iter().all(|scale| *scale == 1.0)
        && model.input.shift.iter().all(|shift| *shift == 0.0);
    let input = match &options.input {
        Some(input) if raw && input.scale.len() == model.input.scale.len() => {
            Input { size: model.input.size, ..input.clone() }
        }
        _ => model.input.clone(),
    };
    let skeleton = found.config.init(&device)?;
    let raising =
        Raising { model, input: &input, options, device: &device, theirs: &theirs.pieces };
    let mut layers: Vec<RaisedLayer> = Vec::new();
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut all_statistics = true;
    for (our, their) in &found.pairs {
        let Place::Submodule(index) = found.pieces[*our].source else { continue };
        let name = skeleton.submodule_name(index);
        let piece = &theirs.pieces[*their];
        match &skeleton.pieces[index] {
            Submodule::Conv(_) | Submodule::Linear(_) => {
                layers.push(raising.layer(name, piece, &mut entries)?);
            }
            Submodule::Norm(_) => {
                all_statistics &= raising.norm(name, piece, &mut entries);
            }
            Submodule::Activation(_) | Submodule::Scalar(_) => {
                raising.numbers(name, piece, &mut entries);
            }
        }
    }
    let mut config = found.config;
    if !all_statistics {
        set_static_norms(&mut config);
    }
    let mut network = quantized(config, &layers, &device)?;
    set_quantizers(&mut network, &mut layers, &mut notes)?;
    let mut state: BTreeMap<String, Entry> = StateDict::of(&network)
        .entries()
        .map(|(name, entry)| (name.to_owned(), entry.clone()))
        .collect();
    for (name, entry) in entries {
        if let Some(own) = state.get_mut(&name)
            && own.values.len() == entry.values.len()
        {
            own.values = entry.values;
        } else {
            let reason = format!("its network has no {name} of {} numbers", entry.values.len());
            return Err(RaiseError::Layer { layer: name, reason });
        }
    }
    let (network, _) = StateDict::from_entries(state).load_into(network);
    let pairs: Vec<(usize, String)> = layers.iter().map(|l| (l.node, l.name.clone())).collect();
    let verified = verify::verify(model, &network, &input, &pairs)?;
    Ok(Raised { network, input, notes, verified })
}

/// A convolution or linear layer, with what its quantizers have to be.
struct RaisedLayer {
    name: String,
    /// The node of the model whose codes are those of the layer's input.
    node: usize,
    activation: Option<Found>,
    weight: Option<Found>,
    output: Option<Found>,
    /// Whether zeros have to be added before quantizing or after it; `None` if both are the same.
    pads_first: Option<bool>,
}

/// A model that becomes a network.
struct Raising<'a> {
    model: &'a Model,
    input: &'a Input,
    options: &'a RaiseOptions,
    device: &'a Device,
    theirs: &'a [Piece<Parts>],
}

impl Raising<'_> {
    fn error(&self, piece: &Piece<Parts>, reason: String) -> RaiseError {
        let node = piece.source.nodes.first().map(|at| self.model.nodes[*at].name.clone());
        RaiseError::Layer { layer: node.unwrap_or_default(), reason }
    }

    /// Raises a convolution or linear layer.
    fn layer(
        &self,
        name: &str,
        piece: &Piece<Parts>,
        entries: &mut Vec<(String, Entry)>,
    ) -> Result<RaisedLayer, RaiseError> {
        let convs: Vec<&Conv> = (piece.source.nodes.iter())
            .filter_map(|at| match &self.model.nodes[*at].op {
                Op::Conv(conv) => Some(&**conv),
                _ => None,
            })
            .collect();
        let refused = |reason: String| self.error(piece, reason);
        let found = products(&convs).map_err(refused)?;
        let conv = convs[0];
        let of_image = piece.inputs.first().is_some_and(|at| self.is_of_image(*at));
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
        if let Some(at) = piece.source.bias {
            let bias = match &self.model.nodes[at].op {
                Op::Conv(conv) => conv.bias.clone(),
                Op::Affine { shift, .. } => Some(shift.clone()),
                _ => None,
            };
            entries.extend(bias.map(|bias| entry("bias", bias)));
        } else if self.theirs.last().is_some_and(|last| last.source.nodes == piece.source.nodes) {
            entries.push(entry("bias", vec![0.0; conv.out_channels]));
        }
        let output = match piece.source.output.map(|at| &self.model.nodes[at].op) {
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
            node: piece.source.nodes[0],
            pads_first: pads_first(conv),
            activation,
            weight,
            output,
        })
    }

    /// Whether a piece is the image, or its positions as channels.
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
    fn norm(&self, name: &str, piece: &Piece<Parts>, entries: &mut Vec<(String, Entry)>) -> bool {
        let (scale, shift, node) = match (piece.source.bias_of, piece.source.nodes.first()) {
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
            piece.source.bias_of.is_none()
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
        let of_group = piece
            .inputs
            .first()
            .is_some_and(|at| matches!(self.theirs[*at].kind, Kind::GroupNorm(_)));
        for (part, values) in parts.into_iter().take(if of_group { 2 } else { 4 }) {
            entries.push((format!("{name}.{part}"), Entry { shape: vec![count], values }));
        }
        given.is_some() || of_group
    }

    /// Adds the numbers of an activation function, and numbers that are added or multiplied.
    fn numbers(&self, name: &str, piece: &Piece<Parts>, entries: &mut Vec<(String, Entry)>) {
        let Some(at) = piece.source.nodes.first() else { return };
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

/// Sets the kind of all norms to that whose statistics do not change.
fn set_static_norms(config: &mut NetworkConfig) {
    let norm = match config {
        NetworkConfig::ResNet(config) => &mut config.norm,
        NetworkConfig::MobilenetV1(config) => &mut config.norm,
        NetworkConfig::MobilenetV2(config) => &mut config.norm,
        NetworkConfig::VggSmall(config) => &mut config.norm,
        NetworkConfig::Nin(config) => &mut config.norm,
    };
    if *norm == NormKind::Batch {
        *norm = NormKind::Static;
    }
}

/// Returns the configuration that most of these have.
fn usual<'a>(configs: impl Iterator<Item = &'a QuantizerConfig>) -> Option<QuantizerConfig> {
    let mut counts: Vec<(&QuantizerConfig, usize)> = Vec::new();
    for config in configs {
        match counts.iter_mut().find(|(other, _)| *other == config) {
            Some((_, count)) => *count += 1,
            None => counts.push((config, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.iter().find(|(_, count)| *count == most).map(|(config, _)| (*config).clone())
}

/// Makes the network in which every layer has the quantizers that it needs, of whatever
/// configuration.
fn quantized(
    mut config: NetworkConfig,
    layers: &[RaisedLayer],
    device: &Device,
) -> Result<Network, RaiseError> {
    let inner = || &layers[1.min(layers.len())..layers.len().max(2) - 1];
    let config_of = |found: &Option<Found>| found.as_ref().map(|found| found.config.clone());
    let of = |which: &dyn Fn(&RaisedLayer) -> Option<QuantizerConfig>| {
        let inner: Vec<QuantizerConfig> = inner().iter().filter_map(which).collect();
        let all: Vec<QuantizerConfig> = layers.iter().filter_map(which).collect();
        usual(inner.iter()).or_else(|| usual(all.iter()))
    };
    let quantization = config.quantization_mut();
    quantization.activation = of(&|layer| config_of(&layer.activation));
    quantization.weight = of(&|layer| config_of(&layer.weight));
    quantization.output = of(&|layer| config_of(&layer.output));
    let orders: Vec<bool> = layers.iter().filter_map(|layer| layer.pads_first).collect();
    quantization.padding_after_quant = orders.contains(&false);
    if orders.contains(&true) && orders.contains(&false) {
        let reason = "some layers add zeros before quantizing and others after it; trainable \
                      networks do one of them"
            .to_owned();
        let layer = layers.iter().find(|layer| layer.pads_first == Some(true));
        let layer = layer.map(|layer| layer.name.clone()).unwrap_or_default();
        return Err(RaiseError::Layer { layer, reason });
    }
    let ends = [layers.first(), layers.last()];
    let any = |layer: &RaisedLayer| {
        layer.activation.is_some() || layer.weight.is_some() || layer.output.is_some()
    };
    let mut choices = vec![FirstLast::FullPrecision];
    if ends.into_iter().flatten().any(any) {
        let bits = ends.into_iter().flatten().filter_map(|layer| layer.weight.as_ref());
        let bits = bits.map(|weight| weight.config.levels.bits()).max().unwrap_or(8).max(2);
        let per_channel = ends.into_iter().flatten().any(|layer| {
            let granularity = layer.weight.as_ref().map(|weight| weight.config.granularity);
            granularity == Some(Granularity::PerChannel)
        });
        let mut own = FirstLastQuantizers::new(bits);
        if !per_channel {
            own.granularity = Granularity::PerTensor;
        }
        choices = vec![FirstLast::Own(own), FirstLast::LikeOthers];
    }
    let mut missing = String::new();
    for first_last in choices {
        config.quantization_mut().first_last = first_last;
        let network = config.init(device)?;
        let wanted = |layer: &RaisedLayer| {
            let found: Vec<Role> = (network.layers().iter())
                .filter(|found| found.name == layer.name)
                .flat_map(|found| found.layer.quantizers())
                .map(|(role, _)| role)
                .collect();
            let all = [
                (Role::Activation, layer.activation.is_some()),
                (Role::Weight, layer.weight.is_some()),
                (Role::Output, layer.output.is_some()),
            ];
            all.iter().all(|(role, needed)| !needed || found.contains(role))
        };
        match layers.iter().find(|layer| !wanted(layer)) {
            None => return Ok(network),
            Some(layer) => missing.clone_from(&layer.name),
        }
    }
    let reason = "it is quantized, and in trainable networks of this structure it is not".into();
    Err(RaiseError::Layer { layer: missing, reason })
}

/// Gives the quantizers of a network their configurations and parameters.
fn set_quantizers(
    network: &mut Network,
    layers: &mut [RaisedLayer],
    notes: &mut Vec<String>,
) -> Result<(), RaiseError> {
    let mut result = Ok(());
    network.change_quantizers(|name, quantizer| {
        let Some(layer) = layers.iter().find(|layer| layer.name == name) else { return };
        let found = match quantizer.config().role {
            Role::Activation => &layer.activation,
            Role::Weight => &layer.weight,
            Role::Output => &layer.output,
        };
        let Some(found) = found else { return quantizer.set_enabled(false) };
        if !found.exact {
            notes.push(format!(
                "{name}: the thresholds of its {} quantizer are a few units in the last place from \
                 those of the file",
                found.config.role
            ));
        }
        if let (Ok(()), Err(reason)) = (&result, found.apply(quantizer)) {
            result = Err(RaiseError::Layer { layer: name.to_owned(), reason });
        }
    });
    result
}
