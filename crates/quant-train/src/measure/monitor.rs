//! The health of quantizers: how many weights change their code, how many values are clipped, which
//! levels are unused, and which scales change too much.

use std::collections::HashMap;

use burn::{module::ParamId, tensor::Tensor};
use quant_core::{Quantizer, Reached, Recorded, Role, number::significant, record};
use quant_nn::Classifier;
use serde::{Deserialize, Serialize};

/// The health of a quantizer at the end of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The name of the quantizer, such as `layer1.0.conv1.quant_weight`.
    pub quantizer: String,
    /// The role of the quantizer.
    pub role: Role,
    /// The share of the weights whose code differs from that at the end of the previous epoch. It
    /// is `None` in the first epoch, and for activations and outputs.
    pub flip_rate: Option<f64>,
    /// The share of the values with the lowest or the highest code. It is `None` for two levels,
    /// where all values have one of them.
    pub at_bounds: Option<f64>,
    /// The number of levels that no value has.
    pub unused_levels: usize,
    /// The number of levels.
    pub levels: usize,
    /// The mean of the first learned parameter, which is the clipping value or step size. It is
    /// `None` if nothing is learned.
    pub scale: Option<f64>,
}

/// Remembers the codes and scales of the quantizers at the end of the previous epoch.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    codes: HashMap<String, Vec<u8>>,
    scales: HashMap<String, f64>,
}

/// The factor from which the growth or fall of a scale within an epoch gives a warning.
const JUMP: f64 = 10.0;

impl Monitor {
    /// Measures every quantizer of `network` that quantizes: those of weights on the weights, and
    /// the others on the values that `images` give. Returns the health of each quantizer, and
    /// warnings with the name of the quantizer and a hint.
    pub(crate) fn look<M: Classifier>(
        &mut self,
        network: &M,
        images: Tensor<4>,
    ) -> (Vec<Health>, Vec<String>) {
        let device = images.device();
        let wanted = |reached: &Reached| {
            reached.quantizer.config().role != Role::Weight && reached.quantizer.is_enabled()
        };
        let recorded = record(network, wanted, |network| {
            network.forward(images);
        });
        let mut recorded: HashMap<ParamId, Recorded> = recorded
            .into_iter()
            .map(|recorded| (recorded.reached.quantizer.training.id, recorded))
            .collect();
        let (mut healths, mut warnings) = (Vec::new(), Vec::new());
        let weights = network.quantized_weights();
        for (layer, role, quantizer) in network.quantizers() {
            if !quantizer.is_enabled() {
                continue;
            }
            let scale = self.follow(&quantizer, &mut warnings);
            let seen = match role {
                Role::Weight => {
                    let weight = weights.iter().find(|(other, _)| *other == layer);
                    weight.map(|(_, weight)| weight.codes())
                }
                _ => recorded.remove(&quantizer.training.id).and_then(|seen| seen.codes(&device)),
            };
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                let health = self.assess(role, &quantizer, seen, scale, &mut warnings);
                healths.push(health);
            }
        }
        (healths, warnings)
    }

    /// Returns the mean of the quantizer's first learned parameter. Warns if it has changed too
    /// much, or if a learned parameter is invalid.
    fn follow(&mut self, quantizer: &Quantizer, warnings: &mut Vec<String>) -> Option<f64> {
        if let Err(error) = quantizer.validate() {
            let how = "groups.exceptions of the phase can give it its own learning rate";
            warnings.push(format!("{error} ({how})"));
        }
        let name = quantizer.name();
        let learned = quantizer.learned().first()?.name;
        let values = quantizer.learned_values(learned)?;
        let now = values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len().max(1) as f64;
        if let Some(before) = self.scales.insert(name.to_owned(), now) {
            let ratio = (now / before).abs();
            if ratio.is_finite() && !(1.0 / JUMP..=JUMP).contains(&ratio) {
                let [before, now] = [before, now].map(|scale| significant(scale, 3));
                warnings.push(format!(
                    "{name}: its scale went from {before} to {now} within an epoch: lower \
                     its learning rate (groups.exceptions) or clip gradients"
                ));
            }
        }
        Some(now)
    }

    fn assess(
        &mut self,
        role: Role,
        quantizer: &Quantizer,
        codes: Vec<u8>,
        scale: Option<f64>,
        warnings: &mut Vec<String>,
    ) -> Health {
        let name = quantizer.name().to_owned();
        let levels = quantizer.config().levels.count();
        let mut counts = vec![0usize; levels];
        for code in &codes {
            counts[usize::from(*code).min(levels - 1)] += 1;
        }
        let total = codes.len() as f64;
        let old = self.codes.get(&name).filter(|old| old.len() == codes.len());
        let flip_rate = (role == Role::Weight).then_some(old).flatten().map(|old| {
            let flips = old.iter().zip(&codes).filter(|(old, new)| old != new).count();
            flips as f64 / total
        });
        let unused = counts.iter().filter(|count| **count == 0).count();
        if levels - unused <= 1 {
            let hint = match levels {
                2 => {
                    "where all its inputs have one sign, as after a ReLU or a PReLU of negative \
                     slope, another activation function or order of the block keeps both signs"
                }
                _ => "calibrate it, or start it with warm_up",
            };
            warnings.push(format!(
                "{name}: all values have the same code, so that nothing can be learned: {hint}"
            ));
        }
        if role == Role::Weight {
            self.codes.insert(name.clone(), codes);
        }
        Health {
            quantizer: name,
            role,
            flip_rate,
            at_bounds: (levels > 2).then(|| (counts[0] + counts[levels - 1]) as f64 / total),
            unused_levels: unused,
            levels,
            scale,
        }
    }
}

/// Returns the lowest and the highest of the finite values, and the counts of values in 40 evenly
/// spaced bins between them. Returns `None` if no value is finite.
pub(crate) fn histogram(values: &[f32]) -> Option<(f64, f64, Vec<u64>)> {
    let finite = || values.iter().copied().filter(|x| x.is_finite()).map(f64::from);
    let low = finite().reduce(f64::min)?;
    let high = finite().reduce(f64::max)?.max(low + f64::MIN_POSITIVE);
    let mut bins = vec![0; 40];
    for value in finite() {
        let bin = ((value - low) / (high - low) * 40.0) as usize;
        bins[bin.min(39)] += 1;
    }
    Some((low, high, bins))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use quant_core::{Granularity, Levels, Method, QuantizerConfig};
    use quant_nn::{
        Network, NetworkConfig, Quantization, QuantizedModule, ResNetConfig,
        resnet::{Depth, Stem},
    };

    use super::*;

    fn network() -> Network {
        let quantizer =
            |role| QuantizerConfig::new(Method::Lsq, role, Levels::from_bits(2).unwrap());
        let config = ResNetConfig {
            width_alpha: 0.05,
            quantization: Quantization {
                activation: Some(quantizer(Role::Activation)),
                weight: Some(quantizer(Role::Weight)),
                ..Quantization::default()
            },
            ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
        };
        NetworkConfig::from(config).init_seeded(1, &Device::flex()).unwrap()
    }

    fn images() -> Tensor<4> {
        Tensor::ones([2, 3, 32, 32], &Device::flex())
    }

    fn of<'a>(healths: &'a [Health], name: &str) -> &'a Health {
        healths.iter().find(|health| health.quantizer == name).unwrap()
    }

    const WEIGHT: &str = "layer1.0.conv1.quant_weight";

    #[test]
    fn flips_are_the_codes_that_changed() {
        let (mut monitor, mut network) = (Monitor::default(), network());
        let (first, _) = monitor.look(&network, images());
        assert_eq!(of(&first, WEIGHT).flip_rate, None);
        assert_eq!(of(&first, "layer1.0.conv1.quant_activation").flip_rate, None);
        let (same, warnings) = monitor.look(&network, images());
        assert_eq!(of(&same, WEIGHT).flip_rate, Some(0.0));
        assert!(warnings.is_empty(), "{warnings:?}");
        // With another clipping value, other weights are clipped.
        network.change_quantizers(|_, quantizer| {
            if quantizer.config().role == Role::Weight {
                quantizer.set_learned("clip_val", &[0.2]);
            }
        });
        let (moved, _) = monitor.look(&network, images());
        let (old, new) = (of(&same, WEIGHT), of(&moved, WEIGHT));
        assert!(new.flip_rate > Some(0.0) && new.at_bounds > old.at_bounds);
        assert!((new.scale.unwrap() - 0.2).abs() < 1e-6);
    }

    #[test]
    fn signs_of_values_that_are_all_positive_are_a_warning() {
        let signs = QuantizerConfig::new(Method::XNOR, Role::Activation, Levels::new(2).unwrap());
        let quantization = Quantization { activation: Some(signs), ..Quantization::default() };
        // The blocks of this network begin after a ReLU.
        let config = ResNetConfig {
            width_alpha: 0.05,
            quantization,
            ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
        };
        let network = NetworkConfig::from(config).init_seeded(1, &Device::flex()).unwrap();
        let (_, warnings) = Monitor::default().look(&network, images());
        let name = "layer1.0.conv1.quant_activation";
        assert!(
            warnings.iter().any(|w| w.contains(name) && w.contains("one sign")),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_histogram_counts_everything_that_is_finite() {
        let (low, high, bins) = histogram(&[0.0, 1.0, 0.5, f32::NAN, 0.51]).unwrap();
        assert_eq!((low, high, bins.iter().sum::<u64>()), (0.0, 1.0, 4));
        assert_eq!((bins[0], bins[20], bins[39]), (1, 2, 1));
        assert_eq!(histogram(&[f32::NAN]), None);
        assert_eq!(histogram(&[2.0, 2.0]).unwrap().2.iter().sum::<u64>(), 2);
    }

    #[test]
    fn what_goes_astray_is_named_with_a_hint() {
        let (mut monitor, mut network) = (Monitor::default(), network());
        monitor.look(&network, images());
        let set = |network: &mut Network, value: f32| {
            network.change_quantizers(|_, quantizer| {
                if quantizer.name() == WEIGHT {
                    quantizer.set_learned("clip_val", &[value]);
                }
            });
        };
        for (value, part) in
            [(1000.0, "within an epoch"), (-1.0, "learning rate"), (f32::NAN, "learning rate")]
        {
            set(&mut network, value);
            let (_, warnings) = monitor.look(&network, images());
            assert!(
                warnings.iter().any(|w| w.contains(WEIGHT) && w.contains(part)),
                "{value}: {warnings:?}"
            );
        }
        assert!(!monitor.codes.is_empty());
    }

    #[test]
    fn activations_in_several_groups_are_checked_too() {
        let mut network = network();
        network.change_quantizers(|_, quantizer| {
            if quantizer.config().role == Role::Activation {
                let granularity = Granularity::PerChannel;
                let config = QuantizerConfig { granularity, ..quantizer.config().clone() };
                quantizer.reconfigure(&config, false).unwrap();
                quantizer.set_learned("clip_val", &vec![-1.0; quantizer.groups()]);
            }
        });
        let (healths, warnings) = Monitor::default().look(&network, images());
        let name = "layer1.0.conv1.quant_activation";
        assert!(warnings.iter().any(|warning| warning.contains(name)), "{warnings:?}");
        assert_eq!(of(&healths, name).levels, 4, "they have a line of their own");
    }
}
