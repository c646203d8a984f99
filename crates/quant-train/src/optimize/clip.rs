//! Clipping of gradients by their norm.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Gradients, Tensor},
};

/// Returns the gradients of a network, scaled to a global L2 norm of at most `largest`. As
/// PyTorch's `clip_grad_norm_` does, it multiplies them by min(1, largest/(norm + 1e-6)).
#[doc(hidden)]
pub fn clipped_gradients<M: Module>(
    gradients: Gradients,
    network: &M,
    largest: Option<f64>,
) -> GradientsParams {
    clip_gradients(GradientsParams::from_grads(gradients, network), network, largest)
}

/// Clips gradients that already belong to parameters, by the same formula. `None` does not clip.
pub(crate) fn clip_gradients<M: Module>(
    mut grads: GradientsParams,
    network: &M,
    largest: Option<f64>,
) -> GradientsParams {
    if let Some(largest) = largest {
        let mut squares = SumOfSquares { grads: &grads, sum: None };
        network.visit(&mut squares);
        if let Some(sum) = squares.sum {
            let factor = sum.sqrt().add_scalar(1e-6).recip().mul_scalar(largest).clamp_max(1.0);
            network.visit(&mut Scale { grads: &mut grads, factor });
        }
    }
    grads
}

struct SumOfSquares<'a> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let square = (grad.clone() * grad).sum();
            self.sum = Some(match self.sum.take() {
                None => square,
                Some(sum) => sum + square,
            });
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let scaled = grad * self.factor.clone().reshape([1; D]);
            self.grads.register::<D>(param.id, scaled);
        }
    }
}
