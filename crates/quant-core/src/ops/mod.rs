//! The operations that are ours: one backend extension trait, with a fallback composed of tensor
//! operations, a hand-written backward, and kernels where a backend has them.
//!
//! Nothing outside this module names a backend.

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};

use crate::{codes::Affine, config::Range, gradient::Estimator, site::Grouping};

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
pub(crate) mod reference;
#[cfg(all(test, feature = "flex"))]
mod tests;

/// Quantization to evenly spaced levels within a clipping value, forward and backward.
///
/// Tensors are viewed as `[outer, groups, inner]`; the clipping value is `[1, groups, 1]`.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub trait QuantOps: Backend {
    /// y = (m·R(n·u)/n - z)·s, where v = clamp(x/s, lo, 1) and R rounds half to even; unsigned:
    /// lo = 0, u = v, m = 1, z = 0; signed: lo = -1, u = (v + 1)/2, m = 2, z = 1.
    #[fusion(dtype = x, shape = x)]
    fn clip_quantize(
        x: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        steps: f32,
        signed: bool,
    ) -> FloatTensor<Self> {
        reference::clip_quantize::<Self>(x, clip, steps, signed)
    }

    /// Gradients of [`clip_quantize`](Self::clip_quantize) with respect to x and, reduced over
    /// each group, to s. `rescale` multiplies the clamp's gradient by sqrt(elements / elements inside
    /// the range). `learned_bound`: s has its gradient as the clamp's bound alone (the sum over elements
    /// at or above it), not through the scaling and the division.
    #[fusion(meta = |x, clip, _grad, _steps, _signed, _rescale, _bound| (x.clone(), clip.clone()))]
    fn clip_quantize_backward(
        x: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        steps: f32,
        signed: bool,
        rescale: bool,
        learned_bound: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let rule = (steps, signed, rescale, learned_bound);
        reference::clip_quantize_backward::<Self>(x, clip, grad, rule)
    }

    /// [`clip_quantize`](Self::clip_quantize) as a differentiable operation: the autodiff backend
    /// overrides it, every other computes the value alone.
    #[fusion(dtype = x, shape = x)]
    fn clip_quantize_tracked(
        x: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        steps: f32,
        signed: bool,
        rescale: bool,
        learned_bound: bool,
        clip_gradient_scale: f32,
    ) -> FloatTensor<Self> {
        let _only_backward = (rescale, learned_bound, clip_gradient_scale);
        Self::clip_quantize(x, clip, steps, signed)
    }
}

/// The clipping quantizer of one call: levels, range, and which gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClipQuantize {
    /// n, one less than the number of levels.
    pub(crate) steps: f32,
    pub(crate) range: Range,
    pub(crate) estimator: Estimator,
    /// The clipping value's gradient: `false`, through the scaling and the division (LSQ); `true`,
    /// only as the bound of the clamp (PACT), which is the sum over elements at or above it.
    pub(crate) learned_bound: bool,
    /// Factor on the clipping value's gradient.
    pub(crate) clip_gradient_scale: f32,
}

impl ClipQuantize {
    fn signed(&self) -> bool {
        self.range == Range::Signed
    }

    /// Quantizes `x`, viewed as `view`, within `clip` of shape `[groups]`. Differentiable in both.
    pub(crate) fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        clip: Tensor<1>,
        view: [usize; 3],
    ) -> Tensor<D> {
        let shape = x.shape();
        let out = <Dispatch as QuantOps>::clip_quantize_tracked(
            x.reshape(view).into_dispatch(),
            clip.reshape([1, view[1], 1]).into_dispatch(),
            self.steps,
            self.signed(),
            self.estimator == Estimator::SteScale,
            self.learned_bound,
            self.clip_gradient_scale,
        );
        Tensor::<3>::from_dispatch(out).reshape(shape)
    }

    /// The code R(n·u) of every element, as floats 0 to n.
    pub(crate) fn codes<const D: usize>(
        &self,
        x: Tensor<D>,
        clip: Tensor<1>,
        grouping: Grouping,
    ) -> Tensor<D> {
        let shape = x.shape();
        let view = grouping.view(&shape);
        let v = x.reshape(view) / clip.reshape([1, view[1], 1]);
        let u = match self.range {
            Range::Unsigned => v.clamp(0.0, 1.0),
            Range::Signed => v.clamp(-1.0, 1.0).add_scalar(1.0).mul_scalar(0.5),
        };
        u.mul_scalar(self.steps).round().reshape(shape)
    }

    /// A code's value: (m·code/n - z)·s.
    pub(crate) fn decoding(&self, clip: Tensor<1>, grouping: Grouping) -> Affine {
        let (multiplier, offset) = match self.range {
            Range::Unsigned => (1.0, 0.0),
            Range::Signed => (2.0, -1.0),
        };
        Affine { steps: self.steps, multiplier, offset, scale: clip, gamma: None, grouping }
    }
}
