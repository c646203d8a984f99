//! The operations composed from ordinary tensor operations: the oracle that kernels are held to,
//! and the fallback of every backend.

use burn::{
    backend::{Backend, TensorMetadata, tensor::FloatTensor},
    tensor::{BoolDType, Slice},
};

/// Backward: `(steps, signed, rescale, learned_bound)`.
pub(crate) type Rule = (f32, bool, bool, bool);

/// Levels in units of the clipping value, for v = x/s: m·R(n·u)/n - z.
fn levels<B: Backend>(v: FloatTensor<B>, steps: f32, signed: bool) -> FloatTensor<B> {
    let u = match signed {
        false => B::float_clamp(v, 0f32.into(), 1f32.into()),
        true => {
            let v = B::float_clamp(v, (-1f32).into(), 1f32.into());
            B::float_mul_scalar(B::float_add_scalar(v, 1f32.into()), 0.5f32.into())
        }
    };
    let codes = B::float_round(B::float_mul_scalar(u, steps.into()));
    let parts = B::float_div_scalar(codes, steps.into());
    match signed {
        false => parts,
        true => B::float_add_scalar(B::float_mul_scalar(parts, 2f32.into()), (-1f32).into()),
    }
}

/// See [`QuantOps::clip_quantize`](super::QuantOps::clip_quantize).
pub(crate) fn clip_quantize<B: Backend>(
    x: FloatTensor<B>,
    clip: FloatTensor<B>,
    steps: f32,
    signed: bool,
) -> FloatTensor<B> {
    let v = B::float_div(x, clip.clone());
    B::float_mul(levels::<B>(v, steps, signed), clip)
}

/// See [`QuantOps::clip_quantize_backward`](super::QuantOps::clip_quantize_backward).
pub(crate) fn clip_quantize_backward<B: Backend>(
    x: FloatTensor<B>,
    clip: FloatTensor<B>,
    grad: FloatTensor<B>,
    (steps, signed, rescale, learned_bound): Rule,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let elements = x.shape().num_elements();
    let v = B::float_div(x, clip);
    let lowest = if signed { -1f32 } else { 0f32 };
    let native = BoolDType::Native;
    let above = B::float_greater_equal_elem(v.clone(), 1f32.into(), native);
    let below = B::float_lower_equal_elem(v.clone(), lowest.into(), native);
    let clamped = B::bool_or(below, above.clone());

    let mut grad_x = B::float_mask_fill(grad.clone(), clamped.clone(), 0f32.into());
    if rescale {
        let ones = B::float_add_scalar(B::float_mul_scalar(v.clone(), 0f32.into()), 1f32.into());
        let inside = B::float_sum(B::float_mask_fill(ones, clamped, 0f32.into()));
        let inside = B::float_clamp_min(inside, 1f32.into());
        let factor =
            B::float_sqrt(B::float_mul_scalar(B::float_recip(inside), (elements as f32).into()));
        let factor = B::float_reshape(factor, [1, 1, 1].into());
        grad_x = B::float_mul(grad_x, factor);
    }

    let per_element = match learned_bound {
        true => B::float_mask_fill(grad, B::bool_not(above), 0f32.into()),
        false => B::float_sub(
            B::float_mul(grad, levels::<B>(v.clone(), steps, signed)),
            // Clamped where grad_x is 0, so that infinities count as the bounds they are clamped to.
            B::float_mul(grad_x.clone(), B::float_clamp(v, lowest.into(), 1f32.into())),
        ),
    };
    let grad_clip = B::float_sum_dim(B::float_sum_dim(per_element, 2), 0);
    (grad_x, grad_clip)
}

/// See [`QuantOps::count_below`](super::QuantOps::count_below).
pub(crate) fn count_below<B: Backend>(
    x: FloatTensor<B>,
    thresholds: FloatTensor<B>,
) -> FloatTensor<B> {
    let count = thresholds.shape()[2];
    let dtype = x.dtype().into();
    let start = B::float_zeros(x.shape(), &x.device(), dtype);
    (0..count).fold(start, |sum, index| {
        let slices = [Slice::from(..), Slice::from(..), Slice::from(index..index + 1)];
        let threshold = B::float_slice(thresholds.clone(), &slices);
        let above = B::float_greater(x.clone(), threshold, BoolDType::Native);
        B::float_add(sum, B::bool_into_float(above, dtype))
    })
}
