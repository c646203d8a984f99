//! SGD as PyTorch computes it. On a GPU, one launch updates several parameters.

use burn::{
    optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource},
    tensor::{Device, Tensor},
};

use super::foreach::{Foreach, Kept};

/// Stochastic gradient descent, without dampening. With the gradient g, the weight w and the
/// velocity v:
///
/// g := g + decay·w, v := momentum·v + g, w := w - rate·v,
///
/// or w := w - rate·(momentum·v + g) if `nesterov`. Velocities start with v := g. Burn's own
/// implementation computes the same, one parameter after the other.
#[derive(Debug, Clone)]
pub(crate) struct Sgd {
    /// The L2 weight decay.
    pub(crate) weight_decay: f32,
    /// The weight of the old velocity, which is 0 for none.
    pub(crate) momentum: f32,
    /// Whether the momentum is Nesterov's.
    pub(crate) nesterov: bool,
    /// The steps of several parameters, which clones share.
    pub(crate) foreach: Foreach,
}

/// The velocity of a parameter. In files it has the names of Burn's own SGD.
#[derive(Debug, Clone)]
pub(crate) struct SgdState<const D: usize> {
    velocity: Option<Tensor<D>>,
}

impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        if let Some(velocity) = &self.velocity {
            let prefix = format!("{prefix}.{MOMENTUM}");
            out.push_tensor(&prefix, VELOCITY, velocity.to_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = source.take_tensor(&format!("{prefix}.{MOMENTUM}"), VELOCITY);
        Some(Self { velocity: velocity.map(|data| Tensor::from_data(data, device)) })
    }
}

const MOMENTUM: &str = "momentum";
const VELOCITY: &str = "velocity";

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let old = state.and_then(|state| state.velocity);
        let kept = old.clone().map(|first| Kept { first, second: None, steps: 1 });
        if let Some((weight, kept)) = self.foreach.next(&weight, &gradient, kept) {
            return (weight, Some(SgdState { velocity: kept.map(|kept| kept.first) }));
        }
        let gradient = if self.weight_decay == 0.0 {
            gradient
        } else {
            weight.clone().mul_scalar(self.weight_decay) + gradient
        };
        if self.momentum == 0.0 {
            let state = SgdState { velocity: None };
            return (weight - gradient.mul_scalar(rate), Some(state));
        }
        let velocity = match old {
            Some(velocity) => gradient.clone() + velocity.mul_scalar(self.momentum),
            None => gradient.clone(),
        };
        let direction = if self.nesterov {
            velocity.clone().mul_scalar(self.momentum) + gradient
        } else {
            velocity.clone()
        };
        let state = SgdState { velocity: Some(velocity) };
        (weight - direction.mul_scalar(rate), Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        SgdState { velocity: state.velocity.map(|velocity| velocity.to_device(device)) }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::{Linear, LinearConfig},
        optim::{
            GradientsParams, ModuleOptimizer, SgdConfig, decay::WeightDecayConfig,
            momentum::MomentumConfig,
        },
        tensor::TensorData,
    };

    use super::*;

    fn gradients(network: &Linear, step: usize) -> GradientsParams {
        let values: Vec<f32> = (0..12).map(|at| ((at + 5 * step) as f32).sin()).collect();
        let x = Tensor::<1>::from_floats(values.as_slice(), &network.weight.device());
        let x = x.reshape([4, 3]);
        let loss = network.forward(x).powi_scalar(2).sum();
        GradientsParams::from_grads(loss.backward(), network)
    }

    fn values(network: &Linear) -> TensorData {
        network.weight.val().into_data()
    }

    /// Steps and files are those of Burn's SGD, which earlier versions used.
    #[test]
    fn it_continues_what_burns_sgd_began() {
        let device = Device::flex().autodiff();
        for (decay, momentum, nesterov) in
            [(0.0, 0.0, false), (1e-2, 0.9, false), (0.0, 0.9, true), (1e-2, 0.9, true)]
        {
            let config = SgdConfig::new()
                .with_weight_decay((decay != 0.0).then_some(WeightDecayConfig { penalty: decay }))
                .with_momentum((momentum != 0.0).then_some(MomentumConfig {
                    momentum,
                    dampening: 0.0,
                    nesterov,
                }));
            let own = || -> ModuleOptimizer {
                let foreach = Foreach::default();
                let momentum = momentum as f32;
                Sgd { weight_decay: decay, momentum, nesterov, foreach }.into()
            };
            let mut theirs: Linear = LinearConfig::new(3, 2).init(&device);
            let mut ours = theirs.clone();
            let (mut burns, mut optimizer) = (config.init(), own());
            for step in 0..3 {
                theirs = burns.step(0.1, theirs.clone(), gradients(&theirs, step));
                ours = optimizer.step(0.1, ours.clone(), gradients(&ours, step));
                assert_eq!(values(&ours), values(&theirs), "{decay} {momentum} {nesterov}");
            }
            let bytes = burns.into_bytes().expect("a state in memory");
            let mut optimizer = own().from_bytes(bytes).expect("a state of Burn's SGD");
            let mut continued = theirs.clone();
            theirs = burns.step(0.1, theirs.clone(), gradients(&theirs, 7));
            continued = optimizer.step(0.1, continued.clone(), gradients(&continued, 7));
            assert_eq!(values(&continued), values(&theirs), "{decay} {momentum} {nesterov}");
            // And the other way round.
            let bytes = optimizer.into_bytes().expect("a state in memory");
            let mut burns = config.init().from_bytes(bytes).expect("a state of this SGD");
            theirs = burns.step(0.1, theirs.clone(), gradients(&theirs, 9));
            continued = optimizer.step(0.1, continued.clone(), gradients(&continued, 9));
            assert_eq!(values(&continued), values(&theirs), "{decay} {momentum} {nesterov}");
        }
    }
}
