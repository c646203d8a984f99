//! The health of quantizers: how many weights change their code, how much is clipped, which levels
//! nothing uses, which scales go astray.

use std::collections::HashMap;

use burn::{module::ParamId, tensor::Tensor};
use quant_core::{Quantizer, Reached, Recorded, Role, number::significant, record};
use quant_nn::Classifier;
use serde::{Deserialize, Serialize};

/// How a quantizer fares at the end of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Name of the quantizer, such as `layer1.0.conv1.quant_weight`.
    pub quantizer: String,
    /// What it quantizes.
    pub role: Role,
    /// Share of the weights whose code is another than at the end of the epoch before; none for the
    /// first and for activations.
    pub flip_rate: Option<f64>,
    /// Share of the values with the lowest or the highest code; none of two levels, which are both.
    pub at_bounds: Option<f64>,
    /// Levels that no value has.
    pub unused_levels: usize,
    /// Levels.
    pub levels: usize,
    /// Mean of the first learned parameter, the clipping value or step size; none where nothing is
    /// learned.
    pub scale: Option<f64>,
}

/// Remembers what the quantizers did an epoch ago.
#[derive(Debug, Default)]
pub struct Monitor {
    codes: HashMap<String, Vec<u8>>,
    scales: HashMap<String, f64>,
}

/// From this factor on, a scale's growth or fall within an epoch is a warning.
const JUMP: f64 = 10.0;

impl Monitor {
    /// Looks at every quantizer of `network` that quantizes: at weights themselves, at activations
    /// as `images` make them. The second part are warnings, with the quantizer's name and a hint.
    pub fn look<M: Classifier>(
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

    /// The mean of its first learned parameter, compared with what it was; whatever is learned is
    /// checked.
    fn follow(&mut self, quantizer: &Quantizer, warnings: &mut Vec<String>) -> Option<f64> {
        if let Err(error) = quantizer.check() {
            let how = "groups.exceptions of the phase gives it a learning rate of its own";
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
                    "{name}: its scale went from {before} to {now} within an epoch: lower its learning rate \
                     (groups.exceptions) or clip gradients"
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
                    "where all its inputs have one sign, as behind a ReLU or a PReLU of negative slope, \
                     another activation function or order of the block keeps both"
                }
                _ => "calibrate it, or start it by warm_up",
            };
            warnings.push(format!(
                "{name}: all values have the same code, nothing is left to learn from: {hint}"
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

/// Lowest and highest of the finite values, and their counts in 40 evenly spaced bins between. None
/// where there are none.
pub fn histogram(values: &[f32]) -> Option<(f64, f64, Vec<u64>)> {
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
        Network, NetworkConfig, Quantization, ResNetConfig,
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
        for (role, quantizer) in network.quantizers_mut() {
            if role == Role::Weight {
                quantizer.set_learned("clip_val", &[0.2]);
            }
        }
        let (moved, _) = monitor.look(&network, images());
        let (old, new) = (of(&same, WEIGHT), of(&moved, WEIGHT));
        assert!(new.flip_rate > Some(0.0) && new.at_bounds > old.at_bounds);
        assert!((new.scale.unwrap() - 0.2).abs() < 1e-6);
    }

    #[test]
    fn signs_of_values_that_are_all_positive_are_a_warning() {
        let signs = QuantizerConfig::new(Method::XNOR, Role::Activation, Levels::new(2).unwrap());
        let quantization = Quantization { activation: Some(signs), ..Quantization::default() };
        // Its blocks begin behind a ReLU.
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
            for (_, quantizer) in network.quantizers_mut() {
                if quantizer.name() == WEIGHT {
                    quantizer.set_learned("clip_val", &[value]);
                }
            }
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
        for (role, quantizer) in network.quantizers_mut() {
            if role == Role::Activation {
                let granularity = Granularity::PerChannel;
                let config = QuantizerConfig { granularity, ..quantizer.config().clone() };
                quantizer.reconfigure(&config, false).unwrap();
                quantizer.set_learned("clip_val", &vec![-1.0; quantizer.groups()]);
            }
        }
        let (healths, warnings) = Monitor::default().look(&network, images());
        let name = "layer1.0.conv1.quant_activation";
        assert!(warnings.iter().any(|warning| warning.contains(name)), "{warnings:?}");
        assert_eq!(of(&healths, name).levels, 4, "they have a line of their own");
    }
}
