//! Mixed precision: products in 16 bits, everything else in 32 bits, and a loss scale that prevents
//! small gradients from becoming 0 (Micikevicius et al., ICLR 2018).

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use quant_nn::Compute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::choices::Choice;

/// The type in which convolutions and linear layers compute in training. Weights, quantizers,
/// normalisation, activations between layers, the loss and the optimizer stay in 32 bits.
/// Evaluation is entirely in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrecisionRecipe {
    /// The type of the products. Choose `bf16` if the device supports it, as NVIDIA's GPUs do since
    /// Ampere (2020). `f16` is more exact and needs a loss scale.
    #[schemars(with = "Choice<Compute>")]
    pub compute: Compute,
    /// The loss scale at the start. By default it is 65536 for f16. For bf16, which has the range
    /// of 32 bits, the loss is then not scaled.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub loss_scale: Option<f64>,
    /// The number of steps without an infinite gradient after which the loss scale doubles. Raise
    /// it if many steps are skipped.
    #[serde(default = "growth")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub growth_steps: usize,
}

impl PrecisionRecipe {
    /// f16 with the defaults.
    pub const F16: Self = Self { compute: Compute::F16, loss_scale: None, growth_steps: 2000 };
}

fn growth() -> usize {
    2000
}

/// The loss scale and its history. It doubles after `growth_steps` good steps. A step whose
/// gradients are not finite is skipped and halves it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor on the loss.
    pub scale: f64,
    /// The number of good steps since the scale last changed.
    pub good_steps: usize,
    /// The number of steps that were skipped.
    pub skipped: usize,
}

impl LossScale {
    /// Returns the loss scale at the start of a phase. `None` in 32 bits, and in bf16 unless the
    /// recipe gives a scale: a step then reads nothing back from the device.
    pub fn new(recipe: Option<PrecisionRecipe>) -> Option<Self> {
        let recipe = recipe?;
        let scale = match recipe.compute {
            Compute::F32 => return None,
            Compute::F16 => recipe.loss_scale.unwrap_or(65536.0),
            Compute::Bf16 => recipe.loss_scale?,
        };
        Some(Self { scale, good_steps: 0, skipped: 0 })
    }

    /// Divides the gradients by the scale. If one of them is not finite, it halves the scale and
    /// returns `None`, and the step has to be skipped.
    pub fn unscale<M: Module>(
        &mut self,
        recipe: PrecisionRecipe,
        network: &M,
        mut grads: GradientsParams,
    ) -> Option<GradientsParams> {
        let mut unscale = Unscale { grads: &mut grads, factor: 1.0 / self.scale, broken: None };
        network.visit(&mut unscale);
        let broken: f64 = unscale.broken.map_or(0.0, |count| count.into_scalar());
        if broken != 0.0 {
            self.skipped += 1;
            self.good_steps = 0;
            self.scale = (self.scale / 2.0).max(f64::MIN_POSITIVE);
            return None;
        }
        self.good_steps += 1;
        let fixed = recipe.compute == Compute::Bf16 && recipe.loss_scale.is_none();
        if self.good_steps >= recipe.growth_steps && !fixed {
            self.good_steps = 0;
            self.scale *= 2.0;
        }
        Some(grads)
    }
}

struct Unscale<'a> {
    grads: &'a mut GradientsParams,
    factor: f64,
    /// The number of elements so far that are not finite, `[1]`.
    broken: Option<Tensor<1>>,
}

impl ModuleVisitor for Unscale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let broken = grad.clone().is_finite().bool_not().float().sum();
        self.broken = Some(match self.broken.take() {
            None => broken,
            Some(sum) => sum + broken,
        });
        self.grads.register::<D>(param.id, grad.mul_scalar(self.factor));
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::Module,
        nn::{Linear, LinearConfig},
        tensor::Device,
    };

    use super::*;

    fn step(scale: &mut LossScale, recipe: PrecisionRecipe, gradient: f32) -> Option<f32> {
        let device = Device::flex().autodiff();
        let layer: Linear = LinearConfig::new(1, 1).with_bias(false).init(&device);
        let mut grads = GradientsParams::new();
        let value = Tensor::<2>::from_floats([[gradient]], &Device::flex());
        grads.register(layer.weight.id, value);
        let grads = scale.unscale(recipe, &layer, grads)?;
        assert_eq!(layer.num_params(), 1);
        Some(grads.get::<2>(layer.weight.id).unwrap().into_scalar())
    }

    #[test]
    fn the_scale_halves_after_an_overflow_and_doubles_after_good_steps() {
        let recipe =
            PrecisionRecipe { compute: Compute::F16, loss_scale: Some(8.0), growth_steps: 2 };
        let mut scale = LossScale::new(Some(recipe)).unwrap();
        assert_eq!(step(&mut scale, recipe, 16.0), Some(2.0));
        assert_eq!(step(&mut scale, recipe, f32::INFINITY), None);
        assert_eq!((scale.scale, scale.good_steps, scale.skipped), (4.0, 0, 1));
        assert_eq!(step(&mut scale, recipe, f32::NAN), None);
        assert_eq!((scale.scale, scale.skipped), (2.0, 2));
        assert_eq!(step(&mut scale, recipe, 3.0), Some(1.5));
        assert_eq!(step(&mut scale, recipe, 3.0), Some(1.5));
        assert_eq!((scale.scale, scale.good_steps), (4.0, 0));
    }

    #[test]
    fn bf16_needs_no_scale_and_32_bits_have_none() {
        let recipe = PrecisionRecipe { compute: Compute::Bf16, loss_scale: None, growth_steps: 1 };
        assert_eq!(LossScale::new(Some(recipe)), None);
        // A phase that an earlier version began has a scale, which stays as it is.
        let mut scale = LossScale { scale: 1.0, good_steps: 0, skipped: 0 };
        assert_eq!(step(&mut scale, recipe, 3.0), Some(3.0));
        assert_eq!(scale.scale, 1.0);
        let plain = PrecisionRecipe { compute: Compute::F32, ..recipe };
        assert_eq!(LossScale::new(Some(plain)), None);
        assert_eq!(LossScale::new(None), None);
    }
}
