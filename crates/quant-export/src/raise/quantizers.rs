//! The configurations and parameters of a network's quantizers.

use burn::tensor::Device;
use quant_core::{Granularity, QuantizerConfig, Role};
use quant_nn::{
    FirstLast, FirstLastQuantizers, Network, NetworkConfig, QuantizedModule, layers::norm::NormKind,
};

use super::{RaiseError, inputs::Found, layers::RaisedLayer};

/// Sets the kind of all norms to that whose statistics do not change.
pub(super) fn set_static_norms(config: &mut NetworkConfig) {
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
pub(super) fn quantized(
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
pub(super) fn set_quantizers(
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
