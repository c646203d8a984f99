//! The operations composed of ordinary tensor operations. Tests compare the kernels with them, and
//! every backend falls back to them.

use burn::{
    backend::{
        Backend, TensorMetadata, get_device_settings,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{BoolDType, FloatDType, Scalar, Slice},
};

mod basis;

pub(crate) use basis::{basis_levels, fit_basis};

use super::{Elementwise, Rule, SignSlope};

/// A tensor with the operators that formulas are written with.
struct Values<B: Backend>(FloatTensor<B>);

impl<B: Backend> Clone for Values<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Returns how the tensor's device stores booleans.
fn bool_type<B: Backend>(tensor: &FloatTensor<B>) -> BoolDType {
    get_device_settings::<B>(&tensor.device()).bool_dtype
}

/// Returns the tensor in this type.
fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: FloatDType) -> FloatTensor<B> {
    if tensor.dtype() == dtype.into() { tensor } else { B::float_cast(tensor, dtype) }
}

macro_rules! operators {
    ($($trait:ident $method:ident $tensors:ident $scalar:ident),*) => {$(
        impl<B: Backend> std::ops::$trait for Values<B> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self(B::$tensors(self.0, other.0))
            }
        }
        impl<B: Backend> std::ops::$trait<f32> for Values<B> {
            type Output = Self;
            fn $method(self, other: f32) -> Self {
                Self(B::$scalar(self.0, other.into()))
            }
        }
    )*};
}

operators!(
    Add add float_add float_add_scalar,
    Sub sub float_sub float_sub_scalar,
    Mul mul float_mul float_mul_scalar,
    Div div float_div float_div_scalar
);

impl<B: Backend> Values<B> {
    fn clamp(self, lowest: f32, highest: f32) -> Self {
        Self(B::float_clamp(self.0, lowest.into(), highest.into()))
    }

    fn round(self) -> Self {
        Self(B::float_round(self.0))
    }

    fn recip(self) -> Self {
        Self(B::float_recip(self.0))
    }

    fn negative(self) -> Self {
        Self(B::float_neg(self.0))
    }

    fn absolute(self) -> Self {
        Self(B::float_abs(self.0))
    }

    fn sign(self) -> Self {
        Self(B::float_sign(self.0))
    }

    fn zeros(&self) -> Self {
        let zeros = B::float_zeros(self.0.shape(), &self.0.device(), self.0.dtype().into());
        Self(zeros)
    }

    fn above(&self, other: &Self) -> BoolTensor<B> {
        B::float_greater(self.0.clone(), other.0.clone(), bool_type::<B>(&self.0))
    }

    fn equals(&self, other: &Self) -> BoolTensor<B> {
        B::float_equal(self.0.clone(), other.0.clone(), bool_type::<B>(&self.0))
    }

    fn above_number(&self, other: f32) -> BoolTensor<B> {
        B::float_greater_elem(self.0.clone(), other.into(), bool_type::<B>(&self.0))
    }

    fn below(&self, other: &Self) -> BoolTensor<B> {
        B::float_lower(self.0.clone(), other.0.clone(), bool_type::<B>(&self.0))
    }

    fn below_number(&self, other: f32) -> BoolTensor<B> {
        B::float_lower_elem(self.0.clone(), other.into(), bool_type::<B>(&self.0))
    }

    /// Returns whether lowest < x < highest.
    fn between(&self, lowest: f32, highest: f32) -> BoolTensor<B> {
        B::bool_and(self.above_number(lowest), self.below_number(highest))
    }

    /// Returns `other` where the mask is set, else x.
    fn or_where(self, mask: BoolTensor<B>, other: Self) -> Self {
        let shape = mask.shape();
        let other = Self(B::float_expand(other.0, shape));
        Self(B::float_mask_where(self.0, mask, other.0))
    }

    /// Returns x where the mask is set, else 0.
    fn only(self, mask: BoolTensor<B>) -> Self {
        Self(B::float_mask_fill(self.0, B::bool_not(mask), Scalar::from(0f32)))
    }

    /// Returns x where `source` is a number, and NaN where `source` is NaN.
    fn not_a_number_where(self, source: &Self) -> Self {
        let mask = B::float_is_nan(source.0.clone(), bool_type::<B>(&source.0));
        Self(B::float_mask_fill(self.0, mask, Scalar::from(f32::NAN)))
    }

    /// Returns the sums over each group of `[outer, groups, inner]`: `[1, groups, 1]`.
    fn sum_groups(self) -> Self {
        Self(B::float_sum_dim(B::float_sum_dim(self.0, 2), 0))
    }
}

/// Returns x as `[outer, groups, inner]`, and the parameters of its groups as `[1, groups, 1]`
/// each.
fn viewed<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    operation: Elementwise,
) -> (Values<B>, Vec<Values<B>>) {
    let groups = operation.view[1];
    let column = |index: usize| {
        let slices = [Slice::from(..), Slice::from(index..index + 1)];
        let column = B::float_slice(parameters.clone(), &slices);
        Values(B::float_reshape(column, [1, groups, 1].into()))
    };
    let columns = (0..operation.rule.parameters()).map(column).collect();
    (Values(B::float_reshape(x, operation.view.into())), columns)
}

/// Implements [`QuantOps::fake_quantize`](super::QuantOps::fake_quantize).
pub(crate) fn fake_quantize<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    operation: Elementwise,
    output: FloatDType,
) -> FloatTensor<B> {
    let shape = x.shape();
    let (x, p) = viewed::<B>(x, parameters, operation);
    let y = match operation.rule {
        Rule::Clip { steps, signed, learned_bound, .. } => {
            let scale = clip_scale(&p[0], learned_bound);
            clip_levels(x / scale.clone(), steps, signed) * scale
        }
        Rule::Step { lowest, highest, .. } => {
            let (s, b) = (p[0].clone(), p[1].clone());
            ((x - b.clone()) / s.clone()).clamp(lowest, highest).round() * s + b
        }
        Rule::Slopes { signed: true, .. } => {
            let below = (x.clone() * p[0].clone()).clamp(-1.0, 0.0).round();
            below + (x * p[1].clone()).clamp(0.0, 1.0).round()
        }
        Rule::Slopes { signed: false, .. } => {
            let rounded = |u: Values<B>| u.clamp(0.0, 1.0).round();
            let mut y = rounded(x.clone() * p[0].clone());
            let mut start = p[0].clone().recip();
            for slope in &p[1..] {
                y = y + rounded((x.clone() - start.clone()) * slope.clone());
                start = start + slope.clone().recip();
            }
            y
        }
        Rule::Intervals { .. } => {
            let mut y = x.zeros();
            let mut start = p[1].clone();
            for width in &p[2..] {
                y = y + ((x.clone() - start.clone()) / width.clone()).clamp(0.0, 1.0).round();
                start = start + width.clone();
            }
            y * p[0].clone()
        }
        Rule::Ternary => {
            let (above, below) = sides(&x, &p[2]);
            let y = x.zeros().or_where(above, p[0].clone());
            y.or_where(below, p[1].clone().negative()).not_a_number_where(&x)
        }
        Rule::Table { thresholds } => {
            let v = x / p[0].clone();
            (table_values(&v, &p, thresholds) * p[0].clone()).not_a_number_where(&v)
        }
        Rule::Sign { .. } => {
            let below = (x.clone() - p[0].clone()).below_number(0.0);
            let y = x.zeros() + p[1].clone();
            y.or_where(below, p[1].clone().negative()).not_a_number_where(&x)
        }
    };
    cast::<B>(B::float_reshape(y.0, shape), output)
}

/// Implements [`QuantOps::fake_quantize_backward`](super::QuantOps::fake_quantize_backward).
pub(crate) fn fake_quantize_backward<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    grad: FloatTensor<B>,
    operation: Elementwise,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (shape, parameters_shape, dtype) = (x.shape(), parameters.shape(), x.dtype());
    let (x, p) = viewed::<B>(x, parameters, operation);
    let grad = cast::<B>(grad, dtype.into());
    let g = Values::<B>(B::float_reshape(grad, operation.view.into()));
    let (grad_x, terms) = match operation.rule {
        Rule::Clip { steps, signed, rescale, learned_bound, ewgs } => {
            let lowest = if signed { -1.0 } else { 0.0 };
            let v = x.clone() / clip_scale(&p[0], learned_bound);
            let inside = v.between(lowest, 1.0);
            let mut grad_x = g.clone();
            if ewgs != 0.0 {
                let u = clip_position(v.clone(), signed) * steps;
                grad_x = scaled_by_element(grad_x, u, ewgs / steps);
            }
            grad_x = grad_x.only(inside.clone());
            if rescale {
                let factor = factor_inside(&v, lowest);
                grad_x = grad_x * Values(B::float_reshape(factor, [1, 1, 1].into()));
            }
            let term = if learned_bound {
                let bools = bool_type::<B>(&x.0);
                g.only(B::float_greater_equal(x.0, p[0].0.clone(), bools))
            } else {
                let levels = clip_levels(v.clone(), steps, signed);
                g * levels - grad_x.clone() * v.clamp(lowest, 1.0)
            };
            (grad_x, vec![term])
        }
        Rule::Step { lowest, highest, ewgs } => {
            let v = (x - p[1].clone()) / p[0].clone();
            let inside = v.between(lowest, highest);
            let v = v.clamp(lowest, highest);
            let mut grad_x = g.clone();
            if ewgs != 0.0 {
                grad_x = scaled_by_element(grad_x, v.clone(), ewgs / (highest - lowest));
            }
            let grad_x = grad_x.only(inside);
            let step = g.clone() * v.clone().round() - grad_x.clone() * v;
            (grad_x.clone(), vec![step, g - grad_x])
        }
        Rule::Slopes { signed: true, .. } => {
            let part = |slope: &Values<B>, low, high| {
                let inside = (x.clone() * slope.clone()).between(low, high);
                let passed = (g.clone() * slope.clone()).only(inside.clone());
                (passed, (g.clone() * x.clone()).only(inside))
            };
            let (below, below_term) = part(&p[0], -1.0, 0.0);
            let (above, above_term) = part(&p[1], 0.0, 1.0);
            (below + above, vec![below_term, above_term])
        }
        Rule::Slopes { signed: false, .. } => {
            let mut grad_x = x.zeros();
            let mut terms: Vec<Values<B>> = Vec::new();
            let mut start = x.zeros();
            for slope in &p {
                let from = x.clone() - start.clone();
                let inside = (from.clone() * slope.clone()).between(0.0, 1.0);
                let passed = (g.clone() * slope.clone()).only(inside.clone());
                for (term, earlier) in terms.iter_mut().zip(&p) {
                    let moved = passed.clone() / (earlier.clone() * earlier.clone());
                    *term = term.clone() + moved;
                }
                terms.push((g.clone() * from).only(inside));
                grad_x = grad_x + passed;
                start = start + slope.clone().recip();
            }
            (grad_x, terms)
        }
        Rule::Intervals { .. } => {
            let mut grad_x = x.zeros();
            let mut integers = x.zeros();
            let mut widths: Vec<Values<B>> = Vec::new();
            let mut start = p[1].clone();
            for width in &p[2..] {
                let u = (x.clone() - start.clone()) / width.clone();
                let inside = u.between(0.0, 1.0);
                integers = integers + u.clone().clamp(0.0, 1.0).round();
                let passed = (g.clone() * (p[0].clone() / width.clone())).only(inside.clone());
                for earlier in &mut widths {
                    *earlier = earlier.clone() - passed.clone();
                }
                widths.push((passed.clone() * u).negative().only(inside));
                grad_x = grad_x + passed;
                start = start + width.clone();
            }
            let mut terms = vec![g * integers, grad_x.clone().negative()];
            terms.extend(widths);
            (grad_x, terms)
        }
        Rule::Ternary => {
            let (above, below) = sides(&x, &p[2]);
            let slope = ones(&x).or_where(above.clone(), p[0].clone());
            let slope = slope.or_where(below.clone(), p[1].clone());
            let positive = g.clone().only(above);
            let negative = g.clone().negative().only(below);
            (g * slope, vec![positive, negative, x.zeros()])
        }
        Rule::Table { thresholds } => {
            let v = x / p[0].clone();
            let inside = B::bool_and(v.above(&p[1]), v.below(&p[2]));
            let grad_x = g.clone().only(inside.clone());
            let passed = grad_x.clone() * v.clone().only(inside);
            let term = g * table_values(&v, &p, thresholds) - passed;
            let none = v.zeros();
            let terms = std::iter::once(term).chain(std::iter::repeat(none));
            (grad_x, terms.take(p.len()).collect())
        }
        Rule::Sign { slope } => {
            let at = (x - p[0].clone()).absolute();
            let inside = at.below_number(1.0);
            let grad_x = match slope {
                SignSlope::One => g,
                SignSlope::Box => g.only(inside),
                SignSlope::Triangle => (g * (at * -2.0 + 2.0)).only(inside),
            };
            let none = grad_x.zeros();
            (grad_x.clone(), vec![grad_x.negative(), none])
        }
    };
    let rows = terms
        .into_iter()
        .map(|term| B::float_reshape(term.sum_groups().0, [operation.view[1], 1].into()));
    let grad_parameters = B::float_cat(rows.collect(), 1);
    (B::float_reshape(grad_x.0, shape), B::float_reshape(grad_parameters, parameters_shape))
}

/// Returns sqrt(elements / elements inside the range), `[1]`.
fn factor_inside<B: Backend>(v: &Values<B>, lowest: f32) -> FloatTensor<B> {
    let inside = ones(v).only(v.between(lowest, 1.0)).0;
    // The largest number of 16 bits is 65,504, less than there are elements.
    let count = B::float_sum(B::float_cast(inside, FloatDType::F32));
    let count = B::float_clamp_min(count, 1f32.into());
    let elements = v.0.shape().num_elements() as f32;
    let factor = B::float_sqrt(B::float_mul_scalar(B::float_recip(count), elements.into()));
    B::float_cast(factor, v.0.dtype().into())
}

/// Returns the factor by which [`Rule::Clip`] rescales gradients if it does, `[1]`.
#[cfg(feature = "cube")]
pub(crate) fn rescale_factor<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    operation: Elementwise,
) -> FloatTensor<B> {
    let Rule::Clip { signed, learned_bound, .. } = operation.rule else {
        return B::float_ones([1].into(), &x.device(), x.dtype().into());
    };
    let (x, p) = viewed::<B>(x, parameters, operation);
    let v = x / clip_scale(&p[0], learned_bound);
    factor_inside(&v, if signed { -1.0 } else { 0.0 })
}

fn ones<B: Backend>(x: &Values<B>) -> Values<B> {
    x.zeros() + 1.0
}

/// Returns the divisor of [`Rule::Clip`].
fn clip_scale<B: Backend>(s: &Values<B>, learned_bound: bool) -> Values<B> {
    if learned_bound {
        Values(B::float_clamp_min(s.0.clone(), f32::MIN_POSITIVE.into()))
    } else {
        s.clone()
    }
}

/// Returns u of [`Rule::Clip`].
fn clip_position<B: Backend>(v: Values<B>, signed: bool) -> Values<B> {
    if signed { (v.clamp(-1.0, 1.0) + 1.0) * 0.5 } else { v.clamp(0.0, 1.0) }
}

/// Returns m·R(n·u)/n - z of [`Rule::Clip`].
fn clip_levels<B: Backend>(v: Values<B>, steps: f32, signed: bool) -> Values<B> {
    let parts = (clip_position(v, signed) * steps).round() / steps;
    if signed { parts * 2.0 - 1.0 } else { parts }
}

/// Returns g·(1 + factor·sign(g)·(u - R(u))).
fn scaled_by_element<B: Backend>(g: Values<B>, u: Values<B>, factor: f32) -> Values<B> {
    let error = (u.clone() - u.round()) * factor;
    g.clone() * (g.sign() * error + 1.0)
}

/// Returns where x > bound, and where x < -bound.
fn sides<B: Backend>(x: &Values<B>, bound: &Values<B>) -> (BoolTensor<B>, BoolTensor<B>) {
    (x.above(bound), x.below(&bound.clone().negative()))
}

/// Returns q of [`Rule::Table`].
fn table_values<B: Backend>(v: &Values<B>, p: &[Values<B>], thresholds: usize) -> Values<B> {
    let first = v.zeros() + p[3 + thresholds].clone();
    (0..thresholds).fold(first, |y, index| {
        y.or_where(v.above(&p[3 + index]), p[4 + thresholds + index].clone())
    })
}

/// Implements [`QuantOps::count_below`](super::QuantOps::count_below).
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
        let above = B::float_greater(x.clone(), threshold, bool_type::<B>(&x));
        B::float_add(sum, B::bool_into_float(above, dtype))
    })
}
