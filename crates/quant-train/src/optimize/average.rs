//! A moving average of a network's weights, which often scores better than its last weights (Polyak
//! and Juditsky 1992).

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use quant_nn::Classifier;

/// The average a := decay·a + (1 - decay)·w over optimizer steps, for parameters and running
/// statistics.
#[derive(Debug, Clone)]
pub struct Average<M> {
    /// The averaged network, on the plain device.
    pub network: M,
    decay: f64,
}

impl<M: Classifier> Average<M> {
    /// Returns an average that starts at `network`.
    pub fn new(network: &M, decay: f64) -> Self {
        // `valid` copies the running statistics, so that training does not change those of the
        // average.
        Self { network: network.valid(), decay }
    }

    /// Returns an average that continues from a stored one.
    pub fn resume(network: M, decay: f64) -> Self {
        Self { network, decay }
    }

    /// Adds the weights after step `step`, counted from 1. The decay is at most (1 + step)/(10 +
    /// step), so that the weights of the start soon have little influence.
    pub fn update(&mut self, network: &M, step: usize) {
        let early = (1 + step) as f64 / (10 + step) as f64;
        let mut now = Values(GradientsParams::new());
        network.valid().visit(&mut now);
        let mut towards = Towards { now: now.0, decay: self.decay.min(early) };
        self.network = self.network.clone().map(&mut towards);
    }
}

/// Tensors by the parameter to which they belong. Burn's container of gradients can also hold other
/// tensors.
struct Values(GradientsParams);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register::<D>(param.id, param.val());
    }
}

struct Towards {
    now: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Towards {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(now) = self.now.remove::<D>(param.id) else {
            return param;
        };
        let decay = self.decay;
        param.map(|average| average.mul_scalar(decay) + now.mul_scalar(1.0 - decay))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use quant_nn::{
        Network, NetworkConfig, ResNetConfig, StateDict,
        resnet::{Depth, Stem},
    };

    use super::*;

    fn network(seed: u64) -> Network {
        let config = ResNetConfig {
            width_alpha: 0.05,
            ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
        };
        NetworkConfig::from(config).init_seeded(seed, &Device::flex().autodiff()).unwrap()
    }

    #[test]
    fn the_average_follows_parameters_and_running_statistics() {
        let trained = network(1);
        let images = Tensor::<4>::ones([2, 3, 32, 32], &Device::flex().autodiff());
        let mut average = Average::new(&trained, 0.9);
        let before = StateDict::of(&average.network);
        // Training changes the running statistics of the network, and those of the average stay.
        trained.forward(images);
        assert_eq!(StateDict::of(&average.network), before);
        average.update(&trained, 1000);
        let (now, after) = (StateDict::of(&trained), StateDict::of(&average.network));
        let mut moved = 0;
        for (name, entry) in after.entries() {
            let (old, new) = (before.get(name).unwrap(), now.get(name).unwrap());
            for ((value, old), new) in entry.values.iter().zip(&old.values).zip(&new.values) {
                assert!((value - (0.9 * old + 0.1 * new)).abs() < 1e-6, "{name}");
                moved += usize::from(value != old);
            }
        }
        assert!(moved > 0);
    }
}
