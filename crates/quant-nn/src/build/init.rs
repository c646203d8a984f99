//! Makes a network of any structure. Its weights are determined by a seed if one is given.

use burn::tensor::Device;

use crate::{
    config::{NetworkConfig, each_config},
    error::NetworkError,
    network::Network,
    state::{StateDict, drawing},
    visit::QuantizedModule,
};

impl NetworkConfig {
    /// Makes the network with freshly drawn weights.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use quant_nn::{NetworkConfig, resnet::{Depth, ResNetConfig, Stem}};
    ///
    /// let config = NetworkConfig::from(ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32));
    /// config.validate()?;
    /// assert_eq!((config.classes(), config.input_size()), (10, 32));
    /// let network = config.init(&Device::flex())?;
    /// assert_eq!(network.config(), &config);
    /// # Ok::<(), quant_nn::NetworkError>(())
    /// ```
    ///
    /// # Errors
    /// [`NetworkError::Field`] and [`NetworkError::Structure`] if parts do not fit together, and
    /// the errors of the quantizers.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        each_config!(self, config => config.init(device))
    }

    /// Makes the network with weights that depend only on `seed`, on the configuration and on the
    /// kind of the device.
    ///
    /// A device has one random generator for the whole process. Networks that are made by this
    /// function therefore wait for each other. If anything else draws from the generator meanwhile,
    /// the weights change.
    ///
    /// # Errors
    /// The errors of [`init`](Self::init).
    pub fn init_seeded(&self, seed: u64, device: &Device) -> Result<Network, NetworkError> {
        init_seeded(seed, device, || self.init(device))
    }
}

impl StateDict {
    /// Makes the network that the state describes, with new weights, and with the quantizers that
    /// it had when the state was taken, including the changes of policies. Returns `None` if the
    /// state does not describe its network.
    ///
    /// # Errors
    /// The errors of [`NetworkConfig::init`]; [`NetworkError::Structure`] if the described network
    /// has more weights than the state has numbers.
    pub fn network(&self, device: &Device) -> Result<Option<Network>, NetworkError> {
        let Some(config) = self.network_config() else { return Ok(None) };
        let mut network = config.init(device)?;
        // Weights are drawn when they are first used: so far they take no memory.
        let weights: usize = (network.layer_shapes().iter())
            .map(|layer| layer.weight.iter().fold(1usize, |all, size| all.saturating_mul(*size)))
            .fold(0, usize::saturating_add);
        let numbers: usize = self.entries().map(|(_, entry)| entry.values.len()).sum();
        if weights > numbers {
            let reason = format!(
                "it has {weights} weights, and the file has {numbers} numbers: the file is cut \
                 off, or its description is that of another network"
            );
            return Err(NetworkError::Structure { at: "the described network".into(), reason });
        }
        self.restore_quantizers(&mut network)?;
        Ok(Some(network))
    }
}

/// Calls `make` and returns its network, with weights that depend only on `seed`, on what `make`
/// makes and on the kind of the device.
///
/// A device has one random generator for the whole process. Networks that are made by this
/// function, or whose states are taken or loaded, therefore wait for each other. If anything else
/// draws from the generator meanwhile, such as a dropout layer in another thread, the weights
/// change.
///
/// # Errors
/// The errors of `make`.
pub fn init_seeded<M: QuantizedModule, E>(
    seed: u64,
    device: &Device,
    make: impl FnOnce() -> Result<M, E>,
) -> Result<M, E> {
    let _drawing = drawing();
    device.seed(seed);
    let network = make()?;
    // Parameters are drawn when they are first used, so this draws them directly after the seed is
    // set.
    StateDict::of(&network);
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        mobilenet::{MobileNetV1Config, MobileNetV2Config},
        resnet::{Depth, ResNetConfig, Stem},
    };

    #[test]
    fn a_mobilenet_has_the_strides_of_its_images_unless_told_otherwise() {
        let width_alpha = 0.0625;
        let v1 = |strided_stem, size| {
            let config =
                MobileNetV1Config { width_alpha, strided_stem, ..MobileNetV1Config::new(2, size) };
            config.init(&Device::flex()).unwrap().block_shapes()
        };
        let v2 = |small_images, size| {
            let config =
                MobileNetV2Config { width_alpha, small_images, ..MobileNetV2Config::new(2, size) };
            config.init(&Device::flex()).unwrap().block_shapes()
        };
        assert_eq!((v1(None, 32), v1(None, 64)), (v1(Some(false), 32), v1(Some(true), 64)));
        assert_ne!(v1(None, 32), v1(Some(true), 32));
        assert_eq!((v2(None, 32), v2(None, 64)), (v2(Some(true), 32), v2(Some(false), 64)));
        assert_ne!(v2(None, 32), v2(Some(false), 32));
    }

    #[test]
    fn a_seed_gives_the_same_weights_whatever_networks_other_threads_make() {
        let config: NetworkConfig = ResNetConfig {
            width_alpha: 0.05,
            ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
        }
        .into();
        let draw = |seed| {
            let network = config.init_seeded(seed, &Device::flex()).unwrap();
            StateDict::of(&network)
        };
        let expected = draw(5);
        assert_ne!(expected, draw(6));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(|| draw(5))).collect();
            // Networks without a seed, which are drawn when their states are taken or loaded.
            for load in [false, true].repeat(6) {
                let (config, expected) = (&config, &expected);
                scope.spawn(move || {
                    let network = config.init(&Device::flex()).unwrap();
                    if load {
                        drop(expected.load_into(network));
                    } else {
                        StateDict::of(&network);
                    }
                });
            }
            for thread in threads {
                assert!(thread.join().unwrap() == expected, "the weights differ");
            }
        });
    }
}
