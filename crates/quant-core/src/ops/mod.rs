//! The operations that are ours: one backend extension trait, with a fallback composed of tensor
//! operations, a hand-written backward, and kernels where a backend has them.
//!
//! Nothing outside this module names a backend.

use std::{fmt, sync::Arc};

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    tensor::{Tensor, TensorData},
};

use crate::{
    calibrate::{Calibration, GroupSamples},
    codes::Affine,
    config::{QuantizerConfig, Range},
    gradient::Estimator,
    normalize::Restore,
    site::Grouping,
    staircase::Staircase,
};

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

    /// Number of thresholds that x is above, as a float; 0 where x is not a number. `thresholds` is
    /// `[1, groups, count]`, ascending in each group.
    #[fusion(dtype = x, shape = x)]
    fn count_below(x: FloatTensor<Self>, thresholds: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::count_below::<Self>(x, thresholds)
    }

    /// `value`, with a stand-in for its derivative by x: g·slope, or where `scaled`
    /// g·(1 + sign(g)·slope). The autodiff backend overrides it, every other passes the value on.
    #[fusion(dtype = value, shape = value)]
    fn estimated_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        scaled: bool,
    ) -> FloatTensor<Self> {
        let _only_backward = (x, slope, scaled);
        value
    }

    /// `value`, whose gradient reaches x through `map`. The autodiff backend overrides it, every other passes
    /// the value on.
    #[fusion(dtype = value, shape = value)]
    fn mapped_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        map: GradientMap,
    ) -> FloatTensor<Self> {
        let _only_backward = (x, map);
        value
    }
}

/// What becomes of a gradient's values on their way back.
#[derive(Clone)]
pub struct GradientMap(Arc<dyn Fn(Vec<f32>) -> Vec<f32> + Send + Sync>);

impl fmt::Debug for GradientMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GradientMap")
    }
}

/// `map` of the values of x, whose gradient is `map` of the gradient's: for linear maps that are their own
/// transpose and are not computed on the device, such as a sum over processes. `map` keeps the number of values.
pub fn mapped_on_host<const D: usize>(
    x: Tensor<D>,
    map: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static,
) -> Tensor<D> {
    let fixed = x.clone().detach();
    let fixed = if fixed.device().is_autodiff() { fixed.inner() } else { fixed };
    let (shape, device, dtype) = (fixed.shape(), fixed.device(), fixed.dtype());
    let values = map(fixed.into_data().iter::<f32>().collect());
    let value = Tensor::<D>::from_data(TensorData::new(values, shape), &device).cast(dtype);
    if !x.device().is_autodiff() {
        return value;
    }
    Tensor::from_dispatch(<Dispatch as QuantOps>::mapped_tracked(
        Tensor::from_inner(value).into_dispatch(),
        x.into_dispatch(),
        GradientMap(Arc::new(map)),
    ))
}

/// `value` with the gradient `g·slope` for x, of the same shape; the slope may broadcast to it.
pub(crate) fn estimated<const D: usize>(
    value: Tensor<D>,
    x: Tensor<D>,
    slope: Tensor<D>,
) -> Tensor<D> {
    estimated_by(value, x, slope, false)
}

/// `value` with the gradient of x as it comes: the straight-through estimator.
pub(crate) fn straight_through<const D: usize>(value: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
    let ones = Tensor::<D>::ones([1; D], &value.device()).cast(value.dtype());
    estimated_by(value, x, ones, false)
}

fn estimated_by<const D: usize>(
    value: Tensor<D>,
    x: Tensor<D>,
    slope: Tensor<D>,
    scaled: bool,
) -> Tensor<D> {
    if !x.device().is_autodiff() {
        return value;
    }
    Tensor::from_dispatch(<Dispatch as QuantOps>::estimated_tracked(
        value.detach().into_dispatch(),
        x.into_dispatch(),
        slope.detach().into_dispatch(),
        scaled,
    ))
}

/// clamp(f(x), lowest, highest), passing the gradients of f strictly inside; f(0) is what is
/// differentiated elsewhere, so that not even infinities reach a gradient.
pub(crate) fn clamped<const D: usize>(
    x: Tensor<D>,
    f: impl Fn(Tensor<D>) -> Tensor<D>,
    lowest: f32,
    highest: f32,
) -> Tensor<D> {
    if !x.device().is_autodiff() {
        return f(x).clamp(lowest, highest);
    }
    let fixed = f(x.clone()).detach();
    let below = fixed.clone().lower_equal_elem(lowest);
    let outside = below.bool_or(fixed.clone().greater_equal_elem(highest));
    let inside = f(x.mask_fill(outside, 0.0));
    straight_through(fixed.clamp(lowest, highest), inside)
}

/// R(u), with the gradient of u as it comes, or scaled by element with `ewgs` = d, u being n times what
/// lies in 0..1: g·(1 + d·sign(g)·(u - R(u))/n).
pub(crate) fn rounded<const D: usize>(u: Tensor<D>, steps: f32, ewgs: Option<f32>) -> Tensor<D> {
    let fixed = u.clone().detach();
    let value = fixed.clone().round();
    match ewgs {
        None => straight_through(value, u),
        Some(factor) => {
            let error = (fixed - value.clone()).mul_scalar(factor / steps);
            estimated_by(value, u, error, true)
        }
    }
}

/// The number of thresholds, `[groups, count]` and ascending, that each element of x is above.
pub(crate) fn count_below(x: Tensor<3>, thresholds: Tensor<2>) -> Tensor<3> {
    let [groups, count] = thresholds.dims();
    let tracked = x.device().is_autodiff();
    let x = if tracked { x.inner() } else { x };
    let thresholds = match thresholds.device().is_autodiff() {
        true => thresholds.inner(),
        false => thresholds,
    };
    let counts = Tensor::from_dispatch(<Dispatch as QuantOps>::count_below(
        x.into_dispatch(),
        thresholds.reshape([1, groups, count]).into_dispatch(),
    ));
    if tracked { Tensor::from_inner(counts) } else { counts }
}

/// x with `factor` times its gradient: a finite x is changed by exactly 0.
pub(crate) fn scale_gradient<const D: usize>(x: Tensor<D>, factor: f32) -> Tensor<D> {
    let fixed = x.clone().detach();
    fixed.clone() + (x - fixed).mul_scalar(factor)
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
    /// d of the estimator `ewgs`.
    pub(crate) ewgs_factor: f32,
}

impl ClipQuantize {
    pub(crate) fn new(config: &QuantizerConfig, clip_gradient_scale: f64) -> Self {
        Self {
            steps: config.levels.steps(),
            range: config.range,
            estimator: config.estimator,
            learned_bound: false,
            clip_gradient_scale: clip_gradient_scale as f32,
            ewgs_factor: config.ewgs_factor as f32,
        }
    }

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
        if self.estimator == Estimator::Ewgs {
            return self.scaled_by_element(x, clip, view);
        }
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

    /// The same, rounding with element-wise gradient scaling: composed, in the same order.
    fn scaled_by_element<const D: usize>(
        &self,
        x: Tensor<D>,
        clip: Tensor<1>,
        view: [usize; 3],
    ) -> Tensor<D> {
        let shape = x.shape();
        let clip = clip.reshape([1, view[1], 1]);
        let fixed = clip.clone().detach();
        let clip = scale_gradient(clip, self.clip_gradient_scale);
        let divisor = if self.learned_bound { fixed.clone() } else { clip.clone() };
        let x = x.reshape(view);
        let scaled = |x: Tensor<3>| x / divisor.clone();
        let u = match self.range {
            Range::Unsigned => clamped(x.clone(), scaled, 0.0, 1.0),
            Range::Signed => clamped(x.clone(), scaled, -1.0, 1.0).add_scalar(1.0).mul_scalar(0.5),
        };
        let codes = rounded(u.mul_scalar(self.steps), self.steps, Some(self.ewgs_factor));
        let parts = codes.div_scalar(self.steps);
        let y = match self.range {
            Range::Unsigned => parts,
            Range::Signed => parts.mul_scalar(2.0).sub_scalar(1.0),
        };
        let y = y * divisor.clone();
        let y = match self.learned_bound {
            false => y,
            true => {
                let above = (x / fixed.clone()).detach().greater_equal_elem(1.0);
                y + (clip - fixed) * above.float()
            }
        };
        y.reshape(shape)
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

    /// What it does to one number, with clipping value 1.
    pub(crate) fn unit(&self) -> Staircase {
        let count = self.steps as usize + 1;
        match self.range {
            Range::Unsigned => Staircase::even(0.0, 1.0 / self.steps, count),
            Range::Signed => Staircase::even(-1.0, 2.0 / self.steps, count),
        }
    }

    /// Qp: steps up to the clipping value.
    pub(crate) fn positive_steps(&self) -> f32 {
        match self.range {
            Range::Unsigned => self.steps,
            Range::Signed => self.steps / 2.0,
        }
    }

    /// The initial clipping value for samples; none where they do not say.
    pub(crate) fn calibrated(
        &self,
        samples: &GroupSamples,
        calibration: Calibration,
    ) -> Vec<(&'static str, Vec<f32>)> {
        let clip = samples.clipping_value(calibration, &self.unit(), self.positive_steps());
        clip.map(|clip| ("clip_val", vec![clip])).into_iter().collect()
    }

    /// A code's value: (m·code/n - z)·s.
    pub(crate) fn decoding(&self, clip: Tensor<1>, grouping: Grouping) -> Affine {
        let (multiplier, offset) = match self.range {
            Range::Unsigned => (1.0, 0.0),
            Range::Signed => (2.0, -1.0),
        };
        Affine {
            steps: self.steps,
            multiplier,
            offset,
            scale: clip,
            shift: None,
            gamma: None,
            grouping,
            restore: Restore::None,
        }
    }
}
