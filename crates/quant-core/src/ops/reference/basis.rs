//! LQ-Nets' basis, composed of tensor operations: its levels, and its least squares fit. The fit
//! uses elimination without pivoting, which is enough for a symmetric positive system.

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{Slice, TensorData},
};

use super::{Values, bool_type, count_below, ones};
use crate::ops::Basis;

/// Returns one column of a tensor `[groups, columns]`.
fn column<B: Backend>(tensor: &FloatTensor<B>, index: usize) -> Values<B> {
    let slices = [Slice::from(..), Slice::from(index..index + 1)];
    Values(B::float_slice(tensor.clone(), &slices))
}

/// Returns numbers as a tensor of this shape, on the device and with the type of `like`.
fn constant<B: Backend>(numbers: Vec<f32>, shape: [usize; 3], like: &FloatTensor<B>) -> Values<B> {
    let data = TensorData::new(numbers, shape).convert_dtype(like.dtype());
    Values(B::float_from_data(data, &like.device()))
}

/// Returns the levels of each group in ascending order, `[groups, levels]`, and for each bit their
/// digits in the same shape.
fn ladder<B: Backend>(values: &FloatTensor<B>, basis: Basis) -> (Values<B>, Vec<Values<B>>) {
    let Basis { bits, levels, .. } = basis;
    let groups = values.shape()[0];
    let shaped = |x: Values<B>, shape: [usize; 3]| Values::<B>(B::float_reshape(x.0, shape.into()));
    let digits: Vec<Values<B>> = (0..bits)
        .map(|bit| {
            let digits = (0..levels).map(|code| basis.digit(code, bit));
            constant(digits.collect(), [1, 1, levels], values)
        })
        .collect();
    let zeros = constant::<B>(vec![0.0; groups * levels], [groups, 1, levels], values);
    let unsorted = digits.iter().enumerate().fold(zeros, |sum, (bit, digits)| {
        sum + shaped(column::<B>(values, bit), [groups, 1, 1]) * digits.clone()
    });
    // The number of codes that come before each code: those of lower levels, and earlier codes of
    // the same level.
    let own = shaped(unsorted.clone(), [groups, levels, 1]);
    let (lower, same) = (own.above(&unsorted), own.equals(&unsorted));
    let pairs = (0..levels).flat_map(|code| (0..levels).map(move |other| (code, other)));
    let earlier = pairs.map(|(code, other)| if other < code { 1.0 } else { 0.0 }).collect();
    let earlier = constant::<B>(earlier, [1, levels, levels], values);
    let everywhere =
        |x: Values<B>| Values::<B>(B::float_expand(x.0, [groups, levels, levels].into()));
    let ones = everywhere(constant(vec![1.0], [1, 1, 1], values));
    let before = ones.only(lower) + everywhere(earlier).only(same);
    let rank = Values::<B>(B::float_sum_dim(before.0, 2));
    // Which code each level has.
    let places = constant::<B>((0..levels).map(|at| at as f32).collect(), [1, levels, 1], values);
    let at = everywhere(shaped(rank, [groups, 1, levels])).equals(&everywhere(places));
    let sorted = |of_code: Values<B>| {
        let chosen = everywhere(of_code).only(at.clone());
        let level = B::float_sum_dim(chosen.0, 2);
        Values::<B>(B::float_reshape(level, [groups, levels].into()))
    };
    (sorted(unsorted), digits.into_iter().map(sorted).collect())
}

/// Implements [`QuantOps::basis_levels`](super::super::QuantOps::basis_levels).
pub(crate) fn basis_levels<B: Backend>(values: FloatTensor<B>, basis: Basis) -> FloatTensor<B> {
    let (levels, _) = ladder::<B>(&values, basis);
    let count = basis.levels - 1;
    let neighbours = |from: usize| {
        let slices = [Slice::from(..), Slice::from(from..from + count)];
        Values::<B>(B::float_slice(levels.0.clone(), &slices))
    };
    let shares = |of: &dyn Fn(f64) -> f64| {
        let shares = (1..=count).map(|index| of(basis.share(index)) as f32).collect();
        let shares = constant::<B>(shares, [1, 1, count], &values);
        Values::<B>(B::float_reshape(shares.0, [1, count].into()))
    };
    let lower = neighbours(0) * shares(&|share| share);
    let thresholds = lower + neighbours(1) * shares(&|share| 1.0 - share);
    B::float_cat(vec![thresholds.0, levels.0], 1)
}

/// Implements [`QuantOps::fit_basis`](super::super::QuantOps::fit_basis).
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
    let of_group = |x: Values<B>| B::float_reshape(x.sum_groups().0, [groups, 1].into());

    // The number of elements of each level, and their sum, `[groups, levels]`.
    let (zero, bools) = (column::<B>(&values, 0).zeros(), bool_type::<B>(&values));
    let (mut counts, mut sums) = (Vec::new(), Vec::new());
    for level in 0..levels {
        let here = B::float_equal_elem(indices.clone(), (level as f32).into(), bools);
        counts.push(of_group(ones(&x).only(here.clone())));
        sums.push(of_group(x.clone().only(here)));
    }
    let (counts, sums) = (Values::<B>(B::float_cat(counts, 1)), Values::<B>(B::float_cat(sums, 1)));
    let over_levels = |x: Values<B>| Values::<B>(B::float_sum_dim(x.0, 1));
    let mut matrix: Vec<Vec<Values<B>>> = (digits.iter())
        .map(|row| {
            let entry = |other: &Values<B>| row.clone() * other.clone() * counts.clone();
            digits.iter().map(|other| over_levels(entry(other))).collect()
        })
        .collect();
    let mut right: Vec<Values<B>> =
        digits.iter().map(|row| over_levels(row.clone() * sums.clone())).collect();
    for bit in 0..bits {
        let diagonal = matrix[bit][bit].clone();
        matrix[bit][bit] = if weight {
            (diagonal + 1e-4) * 1.000_001
        } else {
            let none = B::float_equal_elem(diagonal.0.clone(), 0f32.into(), bools);
            diagonal.or_where(none, zero.clone() + 1e-5)
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

/// Solves a symmetric positive system for each group. Returns the solution and, in the last entry,
/// the ratio of the largest to the smallest pivot, and where the system is singular to the
/// precision of f32.
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
        let (done, rest) = matrix.split_at_mut(column + 1);
        let pivot = &done[column];
        for (offset, row) in rest.iter_mut().enumerate() {
            let factor = row[column].clone() / pivot[column].clone();
            for (entry, above) in row.iter_mut().zip(pivot).skip(column) {
                *entry = entry.clone() - factor.clone() * above.clone();
            }
            let at = column + 1 + offset;
            right[at] = right[at].clone() - factor * right[column].clone();
        }
    }
    let pivots = || (0..bits).map(|bit| matrix[bit][bit].clone().absolute());
    let largest = pivots().reduce(larger).unwrap_or_else(|| scale.clone());
    let smallest = pivots().reduce(smaller).unwrap_or_else(|| scale.clone());
    // A pivot that is NaN also makes its system singular.
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
