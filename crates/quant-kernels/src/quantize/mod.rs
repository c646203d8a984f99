//! The loops of quantizers: the quantized values, the gradients, and the fitting of learned levels.
//!
//! Each is one pass over memory, in tasks that do not depend on the number of threads, so that
//! sums, and with them whole runs, are the same on every machine. A [`Rule`] is the formula for one
//! number; an [`Elementwise`] also says how a tensor is divided into groups with their own
//! parameters.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use crate::{
    parallel,
    simd::{vectorize, vectorize_narrow},
};
use arithmetic::{Arithmetic, WithArithmetic, with_arithmetic};
use lanes::{in_place, into, sum_lanes};

mod arithmetic;
mod basis;
mod lanes;
mod rule;
#[cfg(test)]
mod tests;

pub use basis::{Basis, basis_levels, fit_basis};
pub use rule::{Elementwise, MAX_INTERVALS, Rule, SignSlope};

/// Number of elements per task. Tensors up to this size are processed on the calling thread.
const CHUNK: usize = 1 << 14;

/// Returns the quantized values of x. `parameters` holds the parameters of every group,
/// `[groups, parameters]`, in the order that [`Rule`] gives.
///
/// # Panics
/// If a length does not fit `operation`.
pub fn quantize(x: &[f32], parameters: &[f32], operation: Elementwise) -> Vec<f32> {
    let rows = Rows::new(operation, x.len(), parameters);
    let mut output = vec![0.0; x.len()];
    with_arithmetic(operation.rule, 1.0, Quantize { x: Some(x), output: &mut output, rows: &rows });
    output
}

/// Does the same as [`quantize`], and writes the result in place of x.
///
/// # Panics
/// As [`quantize`].
pub fn quantize_in_place(x: &mut [f32], parameters: &[f32], operation: Elementwise) {
    let rows = Rows::new(operation, x.len(), parameters);
    with_arithmetic(operation.rule, 1.0, Quantize { x: None, output: x, rows: &rows });
}

/// Turns `gradient`, which is that of the quantized values, into the gradient of x. Returns the
/// gradient of the parameters, `[groups, parameters]`.
///
/// # Panics
/// As [`quantize`].
pub fn quantize_backward(
    x: &[f32],
    parameters: &[f32],
    gradient: &mut [f32],
    operation: Elementwise,
) -> Vec<f32> {
    assert_eq!(gradient.len(), x.len(), "every element has a gradient");
    let rows = Rows::new(operation, x.len(), parameters);
    let factor = rescale_factor(operation.rule, x, &rows);
    let sums = with_arithmetic(operation.rule, factor, Backward { x, gradient, rows: &rows });
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Returns, for each element of x, the number of thresholds of its group that it is above, as a
/// float; 0 for NaN. x has the shape `view`, which is `[outer, groups, inner]`. `thresholds` is
/// `[groups, count]`, in ascending order within each group.
///
/// # Panics
/// If a length does not fit `view` and `count`.
pub fn count_below(x: &[f32], thresholds: &[f32], view: [usize; 3], count: usize) -> Vec<f32> {
    let rows = Rows { view, parameters: thresholds, count };
    rows.check(x.len());
    let mut output = vec![0.0; x.len()];
    for_each_chunk_mut(&mut output, |start, chunk| {
        rows.split(start, chunk.len(), |_, thresholds, range| {
            let x = &x[start + range.start..start + range.end];
            let pairs = chunk[range].iter_mut().zip(x);
            vectorize_narrow(
                #[inline(always)]
                || pairs.for_each(|(y, x)| *y = count_of(*x, thresholds)),
            );
        });
    });
    output
}

/// For a few thresholds, comparing with all of them is faster than searching, because it needs no
/// branches.
#[inline(always)]
fn count_of(x: f32, thresholds: &[f32]) -> f32 {
    match thresholds.len() {
        0..=16 => thresholds.iter().map(|t| if x > *t { 1.0 } else { 0.0 }).sum(),
        _ => thresholds.partition_point(|t| x > *t) as f32,
    }
}

fn for_each_chunk_mut(values: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    parallel::for_each_chunk_mut(values, CHUNK, || (), |(), index, chunk| f(index * CHUNK, chunk));
}

/// A tensor as rows of equal length. Row r belongs to group r mod groups.
struct Rows<'a> {
    /// The sizes of the outer dimensions, the groups and the inner dimensions.
    view: [usize; 3],
    /// The parameters of all groups.
    parameters: &'a [f32],
    /// Number of parameters per group.
    count: usize,
}

impl<'a> Rows<'a> {
    fn new(operation: Elementwise, elements: usize, parameters: &'a [f32]) -> Self {
        let rows = Self { view: operation.view, parameters, count: operation.rule.parameters() };
        rows.check(elements);
        rows
    }

    fn check(&self, elements: usize) {
        let [outer, groups, inner] = self.view;
        assert_eq!(elements, outer * groups * inner, "elements");
        assert_eq!(self.parameters.len(), groups * self.count, "parameters of groups");
    }

    /// Returns the number of elements per row. If there is one group, the whole tensor is one row,
    /// whatever the view.
    fn length(&self) -> usize {
        let [outer, groups, inner] = self.view;
        if groups == 1 { outer * inner } else { inner }.max(1)
    }

    /// Divides a chunk into ranges that lie within one row, and calls `f` for each with the group,
    /// its parameters, and the range within the chunk.
    fn split(&self, start: usize, length: usize, mut f: impl FnMut(usize, &[f32], Range<usize>)) {
        let (row_length, groups) = (self.length(), self.view[1]);
        let mut at = 0;
        while at < length {
            let row = (start + at) / row_length;
            let end = ((row + 1) * row_length - start).min(length);
            let group = row % groups;
            f(group, &self.parameters[group * self.count..][..self.count], at..end);
            at = end;
        }
    }
}

/// The job that writes quantized values: those of `x` or, if it is `None`, those of the values in
/// `output`.
struct Quantize<'a> {
    x: Option<&'a [f32]>,
    output: &'a mut [f32],
    rows: &'a Rows<'a>,
}

impl WithArithmetic for Quantize<'_> {
    type Output = ();

    fn run<const T: usize>(self, arithmetic: impl Arithmetic<T>) {
        for_each_chunk_mut(self.output, |start, chunk| {
            self.rows.split(start, chunk.len(), |_, parameters, range| {
                let group = arithmetic.group(parameters);
                let x = self.x.map(|x| &x[start + range.start..start + range.end]);
                let output = &mut chunk[range];
                vectorize(
                    #[inline(always)]
                    move || match x {
                        Some(x) => into(
                            x,
                            output,
                            #[inline(always)]
                            move |x| arithmetic.quantize(group, x),
                        ),
                        None => in_place(
                            output,
                            #[inline(always)]
                            move |x| arithmetic.quantize(group, x),
                        ),
                    },
                );
            });
        });
    }
}

/// The job that turns the gradient into that of x, and sums the gradient of the parameters,
/// `[groups, parameters]`.
struct Backward<'a> {
    x: &'a [f32],
    gradient: &'a mut [f32],
    rows: &'a Rows<'a>,
}

impl WithArithmetic for Backward<'_> {
    type Output = Vec<f64>;

    fn run<const T: usize>(self, arithmetic: impl Arithmetic<T>) -> Vec<f64> {
        let Self { x, gradient, rows } = self;
        // For each chunk and each row in it: the group, and the sums of the terms of its
        // parameters.
        let partial =
            parallel::map(gradient.chunks_mut(CHUNK).collect(), |index, gradient: &mut [f32]| {
                let start = index * CHUNK;
                let mut sums = Vec::new();
                rows.split(start, gradient.len(), |group, parameters, range| {
                    let constants = arithmetic.group(parameters);
                    let x = &x[start + range.start..start + range.end];
                    let gradient = &mut gradient[range];
                    let terms = vectorize(
                        #[inline(always)]
                        move || {
                            sum_lanes(
                                x,
                                gradient,
                                #[inline(always)]
                                move |x, g, terms| arithmetic.backward(constants, x, g, terms),
                            )
                        },
                    );
                    sums.push((group, terms));
                });
                sums
            });
        let mut sums = vec![0.0; rows.parameters.len()];
        for (group, terms) in partial.into_iter().flatten() {
            for (sum, term) in sums[group * rows.count..][..rows.count].iter_mut().zip(terms) {
                *sum += term;
            }
        }
        sums
    }
}

/// Returns sqrt(elements / elements inside the range) if the rule rescales gradients, otherwise 1.
fn rescale_factor(rule: Rule, x: &[f32], rows: &Rows) -> f32 {
    let Rule::Clip { rescale: true, signed, learned_bound, .. } = rule else { return 1.0 };
    let lowest = if signed { -1.0 } else { 0.0 };
    let mut inside = 0usize;
    rows.split(0, x.len(), |_, parameters, range| {
        let clip = match parameters[0] {
            clip if learned_bound && clip < f32::MIN_POSITIVE => f32::MIN_POSITIVE,
            clip => clip,
        };
        let within = |x: &&f32| (**x / clip > lowest) & (**x / clip < 1.0);
        inside += x[range].iter().filter(within).count();
    });
    libm::sqrtf(x.len() as f32 * (1.0 / inside.max(1) as f32))
}
