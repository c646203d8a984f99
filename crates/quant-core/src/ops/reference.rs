//! The operations composed from ordinary tensor operations: the oracle that kernels are held to,
//! and the fallback of every backend.

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{BoolDType, Scalar, Slice},
};

use super::{
    Elementwise, Rule,
    rule::{Basis, SignSlope},
};

/// A tensor that formulas are written with.
struct Values<B: Backend>(FloatTensor<B>);

impl<B: Backend> Clone for Values<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
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
        B::float_greater(self.0.clone(), other.0.clone(), BoolDType::Native)
    }

    fn above_number(&self, other: f32) -> BoolTensor<B> {
        B::float_greater_elem(self.0.clone(), other.into(), BoolDType::Native)
    }

    fn below(&self, other: &Self) -> BoolTensor<B> {
        B::float_lower(self.0.clone(), other.0.clone(), BoolDType::Native)
    }

    fn below_number(&self, other: f32) -> BoolTensor<B> {
        B::float_lower_elem(self.0.clone(), other.into(), BoolDType::Native)
    }

    /// Whether lowest < x < highest.
    fn between(&self, lowest: f32, highest: f32) -> BoolTensor<B> {
        B::bool_and(self.above_number(lowest), self.below_number(highest))
    }

    /// `other` where the mask is set.
    fn or_where(self, mask: BoolTensor<B>, other: Self) -> Self {
        let shape = mask.shape();
        let other = Self(B::float_expand(other.0, shape));
        Self(B::float_mask_where(self.0, mask, other.0))
    }

    /// x where the mask is set, else 0.
    fn only(self, mask: BoolTensor<B>) -> Self {
        Self(B::float_mask_fill(self.0, B::bool_not(mask), Scalar::from(0f32)))
    }

    /// x where `source` is a number, elsewhere none.
    fn not_a_number_where(self, source: &Self) -> Self {
        let mask = B::float_is_nan(source.0.clone(), BoolDType::Native);
        Self(B::float_mask_fill(self.0, mask, Scalar::from(f32::NAN)))
    }

    /// Over all but the groups of `[outer, groups, inner]`: `[1, groups, 1]`.
    fn sum_groups(self) -> Self {
        Self(B::float_sum_dim(B::float_sum_dim(self.0, 2), 0))
    }
}

/// x as `[outer, groups, inner]` and its groups' parameters as `[1, groups, 1]` each.
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

/// See [`QuantOps::fake_quantize`](super::QuantOps::fake_quantize).
pub(crate) fn fake_quantize<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    operation: Elementwise,
) -> FloatTensor<B> {
    let shape = x.shape();
    let (x, p) = viewed::<B>(x, parameters, operation);
    let y = match operation.rule {
        Rule::Clip { steps, signed, .. } => {
            clip_levels(x / p[0].clone(), steps, signed) * p[0].clone()
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
    B::float_reshape(y.0, shape)
}

/// See [`QuantOps::fake_quantize_backward`](super::QuantOps::fake_quantize_backward).
pub(crate) fn fake_quantize_backward<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    grad: FloatTensor<B>,
    operation: Elementwise,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (shape, parameters_shape) = (x.shape(), parameters.shape());
    let (x, p) = viewed::<B>(x, parameters, operation);
    let g = Values::<B>(B::float_reshape(grad, operation.view.into()));
    let (grad_x, terms) = match operation.rule {
        Rule::Clip { steps, signed, rescale, learned_bound, ewgs } => {
            let lowest = if signed { -1.0 } else { 0.0 };
            let v = x / p[0].clone();
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
            let term = match learned_bound {
                true => {
                    let above = B::float_greater_equal_elem(v.0, 1f32.into(), BoolDType::Native);
                    g.only(above)
                }
                false => {
                    let levels = clip_levels(v.clone(), steps, signed);
                    g * levels - grad_x.clone() * v.clamp(lowest, 1.0)
                }
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

/// sqrt(elements / elements inside the range), `[1]`.
fn factor_inside<B: Backend>(v: &Values<B>, lowest: f32) -> FloatTensor<B> {
    let count = B::float_sum(ones(v).only(v.between(lowest, 1.0)).0);
    let count = B::float_clamp_min(count, 1f32.into());
    let elements = v.0.shape().num_elements() as f32;
    B::float_sqrt(B::float_mul_scalar(B::float_recip(count), elements.into()))
}

/// What [`Rule::Clip`] rescales gradients by, `[1]`: 1 where it does not.
#[cfg(feature = "cube")]
pub(crate) fn rescale_factor<B: Backend>(
    x: FloatTensor<B>,
    parameters: FloatTensor<B>,
    operation: Elementwise,
) -> FloatTensor<B> {
    match operation.rule {
        Rule::Clip { rescale: true, signed, .. } => {
            let (x, p) = viewed::<B>(x, parameters, operation);
            factor_inside(&(x / p[0].clone()), if signed { -1.0 } else { 0.0 })
        }
        _ => B::float_ones([1].into(), &x.device(), x.dtype().into()),
    }
}

fn ones<B: Backend>(x: &Values<B>) -> Values<B> {
    x.zeros() + 1.0
}

/// u of [`Rule::Clip`].
fn clip_position<B: Backend>(v: Values<B>, signed: bool) -> Values<B> {
    match signed {
        false => v.clamp(0.0, 1.0),
        true => (v.clamp(-1.0, 1.0) + 1.0) * 0.5,
    }
}

/// m·R(n·u)/n - z of [`Rule::Clip`].
fn clip_levels<B: Backend>(v: Values<B>, steps: f32, signed: bool) -> Values<B> {
    let parts = (clip_position(v, signed) * steps).round() / steps;
    match signed {
        false => parts,
        true => parts * 2.0 - 1.0,
    }
}

/// g·(1 + factor·sign(g)·(u - R(u))).
fn scaled_by_element<B: Backend>(g: Values<B>, u: Values<B>, factor: f32) -> Values<B> {
    let error = (u.clone() - u.round()) * factor;
    g.clone() * (g.sign() * error + 1.0)
}

/// Where x > bound, and where x < -bound.
fn sides<B: Backend>(x: &Values<B>, bound: &Values<B>) -> (BoolTensor<B>, BoolTensor<B>) {
    (x.above(bound), x.below(&bound.clone().negative()))
}

/// q of [`Rule::Table`].
fn table_values<B: Backend>(v: &Values<B>, p: &[Values<B>], thresholds: usize) -> Values<B> {
    let first = v.zeros() + p[3 + thresholds].clone();
    (0..thresholds).fold(first, |y, index| {
        y.or_where(v.above(&p[3 + index]), p[4 + thresholds + index].clone())
    })
}

/// See [`QuantOps::pad`](super::QuantOps::pad).
pub(crate) fn pad<B: Backend>(x: FloatTensor<B>, zeros: usize) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let shape = [batch, channels, height + 2 * zeros, width + 2 * zeros];
    let around = B::float_zeros(shape.into(), &x.device(), x.dtype().into());
    B::float_slice_assign(around, &inside_padding([height, width], zeros), x)
}

/// Where the tensor lies within its padding.
pub(crate) fn inside_padding([height, width]: [usize; 2], zeros: usize) -> [Slice; 4] {
    let along = |size: usize| Slice::from(zeros..zeros + size);
    [Slice::from(..), Slice::from(..), along(height), along(width)]
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

/// One column of `[groups, columns]`.
fn column<B: Backend>(tensor: &FloatTensor<B>, index: usize) -> Values<B> {
    let slices = [Slice::from(..), Slice::from(index..index + 1)];
    Values(B::float_slice(tensor.clone(), &slices))
}

/// The levels of each group in ascending order, and their digits by level and bit, `[groups, 1]` each.
fn ladder<B: Backend>(
    values: &FloatTensor<B>,
    basis: Basis,
) -> (Vec<Values<B>>, Vec<Vec<Values<B>>>) {
    let Basis { bits, levels, .. } = basis;
    let zero = column::<B>(values, 0).zeros();
    let unsorted: Vec<Values<B>> = (0..levels)
        .map(|code| {
            let terms = (0..bits).map(|bit| column::<B>(values, bit) * basis.digit(code, bit));
            terms.fold(zero.clone(), |sum, term| sum + term)
        })
        .collect();
    // How many codes come before: those of lower levels, and earlier ones of the same.
    let rank = |code: usize| {
        let earlier = (0..levels).map(|other| match other < code {
            true => B::bool_not(unsorted[other].above(&unsorted[code])),
            false => unsorted[other].below(&unsorted[code]),
        });
        earlier.fold(zero.clone(), |rank, before| rank.clone() + (rank.zeros() + 1.0).only(before))
    };
    let ranks: Vec<Values<B>> = (0..levels).map(rank).collect();
    let is_at = |code: usize, level: usize| {
        B::float_equal_elem(ranks[code].0.clone(), (level as f32).into(), BoolDType::Native)
    };
    let at = |level: usize, of_code: &dyn Fn(usize) -> Values<B>| {
        (0..levels).fold(zero.clone(), |at, code| at.or_where(is_at(code, level), of_code(code)))
    };
    let sorted = (0..levels).map(|level| at(level, &|code| unsorted[code].clone()));
    let digits = (0..levels).map(|level| {
        let digit = |bit| at(level, &|code| zero.clone() + basis.digit(code, bit));
        (0..bits).map(digit).collect()
    });
    (sorted.collect(), digits.collect())
}

/// See [`QuantOps::basis_levels`](super::QuantOps::basis_levels).
pub(crate) fn basis_levels<B: Backend>(values: FloatTensor<B>, basis: Basis) -> FloatTensor<B> {
    let (levels, _) = ladder::<B>(&values, basis);
    let thresholds = (1..basis.levels).map(|index| {
        let share = basis.share(index);
        let (lower, upper) = (levels[index - 1].clone(), levels[index].clone());
        (lower * share as f32 + upper * (1.0 - share) as f32).0
    });
    let levels = levels.iter().map(|level| level.0.clone());
    B::float_cat(thresholds.chain(levels).collect(), 1)
}

/// See [`QuantOps::fit_basis`](super::QuantOps::fit_basis).
pub(crate) fn fit_basis<B: Backend>(
    x: FloatTensor<B>,
    values: FloatTensor<B>,
    basis: Basis,
    view: [usize; 3],
) -> FloatTensor<B> {
    let Basis { bits, levels, weight, .. } = basis;
    let groups = view[1];
    let (_, digits) = ladder::<B>(&values, basis);
    let limits = B::float_slice(
        basis_levels::<B>(values.clone(), basis),
        &[Slice::from(..), Slice::from(0..levels - 1)],
    );
    let x = Values::<B>(B::float_reshape(x, view.into()));
    let limits = B::float_reshape(limits, [1, groups, levels - 1].into());
    let indices = count_below::<B>(x.0.clone(), limits);
    let of_group =
        |x: Values<B>| Values::<B>(B::float_reshape(x.sum_groups().0, [groups, 1].into()));

    let zero = column::<B>(&values, 0).zeros();
    let mut matrix = vec![vec![zero.clone(); bits]; bits];
    let mut right = vec![zero.clone(); bits];
    for (level, digits) in digits.iter().enumerate() {
        let here = B::float_equal_elem(indices.clone(), (level as f32).into(), BoolDType::Native);
        let count = of_group(ones(&x).only(here.clone()));
        let sum = of_group(x.clone().only(here));
        for (i, digit) in digits.iter().enumerate() {
            right[i] = right[i].clone() + digit.clone() * sum.clone();
            for (entry, other) in matrix[i].iter_mut().zip(digits) {
                let product = digit.clone() * other.clone();
                *entry = entry.clone() + product * count.clone();
            }
        }
    }
    for bit in 0..bits {
        let diagonal = matrix[bit][bit].clone();
        matrix[bit][bit] = match weight {
            true => (diagonal + 1e-4) * 1.000_001,
            false => {
                let none = B::float_equal_elem(diagonal.0.clone(), 0f32.into(), BoolDType::Native);
                diagonal.or_where(none, zero.clone() + 1e-5)
            }
        };
        if weight {
            right[bit] = right[bit].clone() + column::<B>(&values, bit) * 1e-4;
        }
    }
    let trace = (0..bits).fold(zero.clone(), |sum, bit| sum + matrix[bit][bit].clone());
    let damping = Values::<B>(B::float_clamp_min(trace.0, 1e-5f32.into())) * 1e-4;
    let mut damped = matrix.clone();
    for (bit, row) in damped.iter_mut().enumerate() {
        row[bit] = row[bit].clone() + damping.clone();
    }
    let (first, singular) = eliminate(matrix, right.clone());
    let (second, lost) = eliminate(damped, right);
    let old = (0..bits).map(|bit| column::<B>(&values, bit)).chain([zero + f32::INFINITY]);
    let rows = first.into_iter().zip(second).zip(old).map(|((first, second), old)| {
        let second = second.or_where(lost.clone(), old);
        first.or_where(singular.clone(), second).0
    });
    B::float_cat(rows.collect(), 1)
}

/// The solution of a symmetric, positive system for each group and, last, the largest over the smallest pivot; and where
/// the system is singular to the precision of f32.
fn eliminate<B: Backend>(
    mut matrix: Vec<Vec<Values<B>>>,
    mut right: Vec<Values<B>>,
) -> (Vec<Values<B>>, BoolTensor<B>) {
    let bits = right.len();
    let larger = |a: Values<B>, b: Values<B>| {
        let mask = b.above(&a);
        a.or_where(mask, b)
    };
    let smaller = |a: Values<B>, b: Values<B>| {
        let mask = b.below(&a);
        a.or_where(mask, b)
    };
    let diagonal = (0..bits).map(|bit| matrix[bit][bit].clone().absolute());
    let scale = diagonal.reduce(larger).unwrap_or_else(|| right[0].zeros());
    for column in 0..bits {
        for row in column + 1..bits {
            let factor = matrix[row][column].clone() / matrix[column][column].clone();
            for k in column..bits {
                matrix[row][k] =
                    matrix[row][k].clone() - factor.clone() * matrix[column][k].clone();
            }
            right[row] = right[row].clone() - factor * right[column].clone();
        }
    }
    let pivots = || (0..bits).map(|bit| matrix[bit][bit].clone().absolute());
    let largest = pivots().reduce(larger).unwrap_or_else(|| scale.clone());
    let smallest = pivots().reduce(smaller).unwrap_or_else(|| scale.clone());
    // A pivot that is not a number makes its system singular, too.
    let singular = B::bool_not(smallest.above(&(scale * 1e-6)));
    let condition = largest / smallest;
    for column in (0..bits).rev() {
        for k in column + 1..bits {
            right[column] = right[column].clone() - matrix[column][k].clone() * right[k].clone();
        }
        right[column] = right[column].clone() / matrix[column][column].clone();
    }
    right.push(condition);
    (right, singular)
}
