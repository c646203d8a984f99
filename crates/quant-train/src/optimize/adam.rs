//! Adam and AdamW as PyTorch computes them. Burn's own implementation computes the bias corrections
//! in single precision, and differs from PyTorch by 1.1e-3 after a dozen steps. Here they are in
//! double precision.

use burn::{
    optim::{AdamState, AdaptiveMomentumState, LearningRate, Optimizer},
    tensor::{Device, Tensor},
};

use super::foreach::{AdamRule, Foreach, Kept};

/// Adam (Kingma and Ba 2015), or with `decoupled` decay AdamW (Loshchilov and Hutter 2019). With
/// the gradient g, to which Adam adds decay·w, step t is:
///
/// m := m + (1 - b1)·(g - m), v := b2·v + (1 - b2)·g²,
/// w := w - lr/(1 - b1^t)·m/(sqrt(v)/sqrt(1 - b2^t) + eps)
///
/// AdamW first computes w := w·(1 - lr·decay). The state has Burn's type, with t, m and v.
#[derive(Debug, Clone)]
pub(crate) struct Adam {
    pub(crate) rule: AdamRule,
    /// The steps of several parameters, which clones share.
    pub(crate) foreach: Foreach,
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let kept = state.map(|AdamState { momentum: m }| Kept {
            first: m.moment_1,
            second: Some(m.moment_2),
            steps: m.time,
        });
        if let Some((weight, kept)) = self.foreach.next(&weight, &gradient, kept.clone()) {
            return (weight, kept.and_then(state_of));
        }
        let AdamRule { beta1, beta2, epsilon, weight_decay, decoupled } = self.rule;
        let (weight, gradient) = if weight_decay == 0.0 {
            (weight, gradient)
        } else if decoupled {
            (weight.mul_scalar(1.0 - rate * weight_decay), gradient)
        } else {
            let gradient = gradient + weight.clone().mul_scalar(weight_decay);
            (weight, gradient)
        };
        let (steps, mean, square) = match kept {
            Some(Kept { first, second: Some(second), steps }) => (steps + 1, first, second),
            _ => (1, gradient.zeros_like(), gradient.zeros_like()),
        };
        let mean = mean.clone() + (gradient.clone() - mean).mul_scalar(1.0 - beta1);
        let square = square.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
        let power = i32::try_from(steps).unwrap_or(i32::MAX);
        let size = rate / (1.0 - beta1.powi(power));
        let correction = (1.0 - beta2.powi(power)).sqrt();
        let divisor = square.clone().sqrt().div_scalar(correction).add_scalar(epsilon);
        let weight = weight - (mean.clone() / divisor).mul_scalar(size);
        (weight, Some(AdamState::new(AdaptiveMomentumState::new(steps, mean, square))))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        AdamState::new(state.momentum.to_device(device))
    }
}

fn state_of<const D: usize>(kept: Kept<Tensor<D>>) -> Option<AdamState<D>> {
    let Kept { first, second, steps } = kept;
    Some(AdamState::new(AdaptiveMomentumState::new(steps, first, second?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adam(weight_decay: f64, decoupled: bool) -> Adam {
        let rule = AdamRule { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decoupled };
        Adam { rule, foreach: Foreach::default() }
    }

    /// Returns the weight after two steps from 1 with the gradients 0.5 and -2, by the formula in
    /// double precision.
    fn expected(weight_decay: f64, decoupled: bool) -> f64 {
        let (mut w, mut m, mut v, rate) = (1.0f64, 0.0f64, 0.0f64, 0.1);
        for (t, g) in [(1, 0.5f64), (2, -2.0)] {
            let g = if decoupled { g } else { g + weight_decay * w };
            if decoupled {
                w *= 1.0 - rate * weight_decay;
            }
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mean, square) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            w -= rate * mean / (square.sqrt() + 1e-8);
        }
        w
    }

    #[test]
    fn two_steps_follow_the_formula() {
        let device = Device::flex();
        for (decay, decoupled) in [(0.0, false), (0.3, false), (0.3, true)] {
            let (mut weight, mut state) = (Tensor::<1>::ones([1], &device), None);
            for gradient in [0.5, -2.0] {
                let gradient = Tensor::<1>::full([1], gradient, &device);
                (weight, state) = adam(decay, decoupled).step(0.1, weight, gradient, state);
            }
            let actual: f32 = weight.into_scalar();
            let expected = expected(decay, decoupled);
            assert!((f64::from(actual) - expected).abs() < 1e-6, "{actual} {expected}");
        }
    }
}
