//! LQ-Nets' basis, composed of tensor operations: its levels, and its least squares fit by elimination without pivoting, which
//! a symmetric, positive system does not need.

use burn::{
    backend::{
        Backend,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::Slice,
};

use super::{Values, bool_type, count_below, ones};
use crate::ops::rule::Basis;

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
    let bools = bool_type::<B>(values);
    let is_at = |code: usize, level: usize| {
        B::float_equal_elem(ranks[code].0.clone(), (level as f32).into(), bools)
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

    let (zero, bools) = (column::<B>(&values, 0).zeros(), bool_type::<B>(&values));
    let mut matrix = vec![vec![zero.clone(); bits]; bits];
    let mut right = vec![zero.clone(); bits];
    for (level, digits) in digits.iter().enumerate() {
        let here = B::float_equal_elem(indices.clone(), (level as f32).into(), bools);
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
                let none = B::float_equal_elem(diagonal.0.clone(), 0f32.into(), bools);
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
