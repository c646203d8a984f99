//! Mixed precision: products in 16 bits, all else in 32, and a loss scale that keeps small
//! gradients from vanishing (Micikevicius et al., ICLR 2018).

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use quant_nn::Compute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::choices::Choice;

/// The type of convolutions and linear layers in training. Weights, quantizers, normalisation,
/// activations between layers, the loss and the optimizer stay in 32 bits; evaluation is in 32 bits
/// altogether.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrecisionRecipe {
    /// The type of products. Choose `bf16` where the device has it; `f16` is more exact, and needs
    /// a loss scale.
    #[schemars(with = "Choice<Compute>")]
    pub compute: Compute,
    /// Loss scale at the start. By default it is 65536 for f16, and stays 1 for bf16, which has the
    /// range of 32 bits.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub loss_scale: Option<f64>,
    /// Steps without an infinite gradient after which the scale doubles. Raise it where many steps
    /// are skipped.
    #[serde(default = "growth")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub growth_steps: usize,
}

impl PrecisionRecipe {
    /// f16 as usual.
    pub const F16: Self = Self { compute: Compute::F16, loss_scale: None, growth_steps: 2000 };
}

fn growth() -> usize {
    2000
}

/// The loss scale, and how it has fared: doubled after `growth_steps` good steps, halved by a step
/// whose gradients are not finite, which is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor on the loss.
    pub scale: f64,
    /// Good steps since it last changed.
    pub good_steps: usize,
    /// Steps that were skipped.
    pub skipped: usize,
}

impl LossScale {
    /// At the start of a phase; none in 32 bits.
    pub fn new(recipe: Option<PrecisionRecipe>) -> Option<Self> {
        let recipe = recipe.filter(|recipe| recipe.compute != Compute::F32)?;
        let usual = if recipe.compute == Compute::F16 { 65536.0 } else { 1.0 };
        let scale = recipe.loss_scale.unwrap_or(usual);
        Some(Self { scale, good_steps: 0, skipped: 0 })
    }

    /// Divides the gradients by the scale. None where one is not finite: the step is to be skipped,
    /// and the scale is halved.
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
    /// Elements that are not finite so far, `[1]`.
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
        let mut scale = LossScale::new(Some(recipe)).unwrap();
        assert_eq!(step(&mut scale, recipe, 3.0), Some(3.0));
        assert_eq!(scale.scale, 1.0);
        let plain = PrecisionRecipe { compute: Compute::F32, ..recipe };
        assert_eq!(LossScale::new(Some(plain)), None);
        assert_eq!(LossScale::new(None), None);
    }
}
