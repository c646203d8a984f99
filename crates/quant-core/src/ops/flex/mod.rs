//! CPU kernels: one pass over memory, in chunks that do not depend on the number of threads, so
//! that sums, and with them whole runs, are the same on every machine size.

use std::ops::Range;

use burn::{
    backend::{Flex, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, Shape, TensorData},
};
use burn_flex::FlexTensor;
use quant_simd::vectorized;
use rayon::prelude::*;

use super::{Basis, Elementwise, QuantOps, Rule, reference};
use kernels::{
    Clip, INTERVAL_TERMS, Intervals, Kernel, Sign, SignedSlopes, Slopes, Step, Table, Ternary,
};

mod basis;
mod kernels;

/// Elements of one task. Tensors up to this size are done on the calling thread.
const CHUNK: usize = 1 << 14;

/// Numbers that are worked on together: the compiler turns them into vector registers.
const LANES: usize = 64;

type Lanes = [f32; LANES];

/// `$body` with `$kernel` being that of the rule; `$factor` is what [`Rule::Clip`] rescales gradients by.
macro_rules! each_kernel {
    ($rule:expr, $factor:expr, ($kernel:ident, $terms:ident) => $body:expr) => {{
        macro_rules! with {
            ($t:expr, $k:expr) => {{
                const $terms: usize = $t;
                let $kernel = $k;
                $body
            }};
        }
        let factor = $factor;
        match $rule {
            Rule::Clip { steps, signed, learned_bound, ewgs, .. } => {
                match (signed, learned_bound, ewgs != 0.0) {
                    (false, false, false) => {
                        with!(1, Clip::<false, false, false> { steps, ewgs, factor })
                    }
                    (false, false, true) => {
                        with!(1, Clip::<false, false, true> { steps, ewgs, factor })
                    }
                    (false, true, false) => {
                        with!(1, Clip::<false, true, false> { steps, ewgs, factor })
                    }
                    (false, true, true) => {
                        with!(1, Clip::<false, true, true> { steps, ewgs, factor })
                    }
                    (true, false, false) => {
                        with!(1, Clip::<true, false, false> { steps, ewgs, factor })
                    }
                    (true, false, true) => {
                        with!(1, Clip::<true, false, true> { steps, ewgs, factor })
                    }
                    (true, true, false) => {
                        with!(1, Clip::<true, true, false> { steps, ewgs, factor })
                    }
                    (true, true, true) => {
                        with!(1, Clip::<true, true, true> { steps, ewgs, factor })
                    }
                }
            }
            Rule::Step { lowest, highest, ewgs: 0.0 } => {
                with!(2, Step::<false> { lowest, highest, ewgs: 0.0 })
            }
            Rule::Step { lowest, highest, ewgs } => {
                with!(2, Step::<true> { lowest, highest, ewgs })
            }
            Rule::Slopes { signed: true, .. } => with!(2, SignedSlopes),
            Rule::Slopes { pieces: 1, .. } => with!(1, Slopes::<1>),
            Rule::Slopes { pieces: 2, .. } => with!(2, Slopes::<2>),
            Rule::Slopes { .. } => with!(3, Slopes::<3>),
            Rule::Intervals { pieces } => with!(INTERVAL_TERMS, Intervals { pieces }),
            Rule::Ternary => with!(2, Ternary),
            Rule::Table { thresholds: 1 } => with!(1, Table::<1> { thresholds: 1 }),
            Rule::Table { thresholds: 2 } => with!(1, Table::<2> { thresholds: 2 }),
            Rule::Table { thresholds: 3 } => with!(1, Table::<3> { thresholds: 3 }),
            Rule::Table { thresholds: 7 } => with!(1, Table::<7> { thresholds: 7 }),
            Rule::Table { thresholds: 15 } => with!(1, Table::<15> { thresholds: 15 }),
            Rule::Table { thresholds } => with!(1, Table::<0> { thresholds }),
            Rule::Sign { slope } => with!(1, Sign { slope }),
        }
    }};
}

impl QuantOps for Flex {
    fn fake_quantize(x: FlexTensor, parameters: FlexTensor, operation: Elementwise) -> FlexTensor {
        if x.dtype() != DType::F32 || parameters.dtype() != DType::F32 {
            return reference::fake_quantize::<Self>(x, parameters, operation);
        }
        let shape = x.shape();
        let (input, parameters) = (x.to_contiguous(), parameters.to_contiguous());
        // The other handle, which would keep the input's memory from being reused.
        drop(x);
        let mut x = input;
        let rows = Rows::new(operation, parameters.storage::<f32>());
        // The input's memory becomes the output's where nobody else holds it.
        if let Some(values) = x.try_storage_mut::<f32>() {
            each_kernel!(operation.rule, 1.0, (kernel, TERMS) => {
                for_each_chunk_mut(values, |start, chunk| {
                    rows.split(start, chunk.len(), |_, parameters, range| {
                        let group = Kernel::<TERMS>::group(kernel, parameters);
                        let values = &mut chunk[range];
                        vectorized(#[inline(always)] move || {
                            in_place(values, #[inline(always)] move |x| Kernel::<TERMS>::quantize(kernel, group, x));
                        });
                    });
                });
            });
            return x;
        }
        let input = x.storage::<f32>();
        let mut output = vec![0f32; input.len()];
        each_kernel!(operation.rule, 1.0, (kernel, TERMS) => {
            for_each_chunk_mut(&mut output, |start, chunk| {
                rows.split(start, chunk.len(), |_, parameters, range| {
                    let group = Kernel::<TERMS>::group(kernel, parameters);
                    let input = &input[start + range.start..start + range.end];
                    let output = &mut chunk[range];
                    vectorized(#[inline(always)] move || {
                        into(input, output, #[inline(always)] move |x| Kernel::<TERMS>::quantize(kernel, group, x));
                    });
                });
            });
        });
        from_values(output, shape)
    }

    fn fake_quantize_backward(
        x: FlexTensor,
        parameters: FlexTensor,
        grad: FlexTensor,
        operation: Elementwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if [&x, &parameters, &grad].iter().any(|t| t.dtype() != DType::F32) {
            return reference::fake_quantize_backward::<Self>(x, parameters, grad, operation);
        }
        let parameters_shape = parameters.shape();
        let (x, parameters) = (x.to_contiguous(), parameters.to_contiguous());
        let (x, parameters) = (x.storage::<f32>(), parameters.storage::<f32>());
        let rows = Rows::new(operation, parameters);
        let factor = rescale_factor(operation.rule, x, &rows);

        let contiguous = grad.to_contiguous();
        // The other handle, for which the gradient would have to be copied.
        drop(grad);
        let mut grad = contiguous;
        // Its memory becomes that of the input's gradient.
        let grad_x = grad.storage_mut::<f32>();
        let count = operation.rule.parameters();
        let mut sums = vec![0f64; parameters.len()];
        each_kernel!(operation.rule, factor, (kernel, TERMS) => {
            for (group, terms) in backward::<TERMS>(kernel, x, grad_x, &rows) {
                for (sum, term) in sums[group * count..][..count].iter_mut().zip(terms) {
                    *sum += term;
                }
            }
        });
        let grad_parameters = sums.into_iter().map(|sum| sum as f32).collect();
        (grad, from_values(grad_parameters, parameters_shape))
    }

    fn count_below(x: FlexTensor, thresholds: FlexTensor) -> FlexTensor {
        if x.dtype() != DType::F32 || thresholds.dtype() != DType::F32 {
            return reference::count_below::<Self>(x, thresholds);
        }
        let (shape, count) = (x.shape(), thresholds.shape()[2]);
        let (x, thresholds) = (x.to_contiguous(), thresholds.to_contiguous());
        let (x, thresholds) = (x.storage::<f32>(), thresholds.storage::<f32>());
        let groups = thresholds.len() / count.max(1);
        let length = shape[2].max(1);
        let mut output = vec![0f32; x.len()];
        for_each_chunk_mut(&mut output, |start, chunk| {
            let mut at = 0;
            while at < chunk.len() {
                let row = (start + at) / length;
                let end = ((row + 1) * length - start).min(chunk.len());
                let group = row % groups.max(1) * count;
                let thresholds = &thresholds[group..group + count];
                let pairs = chunk[at..end].iter_mut().zip(&x[start + at..start + end]);
                vectorized(
                    #[inline(always)]
                    || pairs.for_each(|(y, x)| *y = count_of(*x, thresholds)),
                );
                at = end;
            }
        });
        from_values(output, shape)
    }

    fn basis_levels(values: FlexTensor, basis: Basis) -> FlexTensor {
        if values.dtype() != DType::F32 {
            return reference::basis_levels::<Self>(values, basis);
        }
        let groups = values.shape()[0];
        let values = values.to_contiguous();
        let levels = basis::levels(values.storage::<f32>(), basis);
        from_values(levels, Shape::from([groups, 2 * basis.levels - 1]))
    }

    fn fit_basis(x: FlexTensor, values: FlexTensor, basis: Basis, view: [usize; 3]) -> FlexTensor {
        if x.dtype() != DType::F32 || values.dtype() != DType::F32 {
            return reference::fit_basis::<Self>(x, values, basis, view);
        }
        let (x, values) = (x.to_contiguous(), values.to_contiguous());
        let solutions = basis::fit(x.storage::<f32>(), values.storage::<f32>(), basis, view);
        from_values(solutions, Shape::from([view[1], basis.bits + 1]))
    }
}

/// Comparing with all is faster than searching while they are few: it has no branches.
#[inline(always)]
fn count_of(x: f32, thresholds: &[f32]) -> f32 {
    match thresholds.len() {
        0..=16 => thresholds.iter().map(|t| if x > *t { 1.0 } else { 0.0 }).sum(),
        _ => thresholds.partition_point(|t| x > *t) as f32,
    }
}

fn from_values(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn for_each_chunk_mut(values: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if values.len() <= CHUNK {
        return f(0, values);
    }
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(index, chunk)| f(index * CHUNK, chunk));
}

/// A tensor as rows of equal length: row r belongs to group r mod groups.
struct Rows<'a> {
    length: usize,
    groups: usize,
    /// Of all groups.
    parameters: &'a [f32],
    /// Of one.
    count: usize,
}

impl<'a> Rows<'a> {
    fn new(operation: Elementwise, parameters: &'a [f32]) -> Self {
        let [outer, groups, inner] = operation.view;
        // One group: the whole tensor is one row, whatever the view.
        let length = if groups == 1 { outer * inner } else { inner };
        Self { length: length.max(1), groups, parameters, count: operation.rule.parameters() }
    }

    /// Calls `f` with group, parameters and range within the chunk, for each run of a row.
    fn split(&self, start: usize, length: usize, mut f: impl FnMut(usize, &[f32], Range<usize>)) {
        let mut at = 0;
        while at < length {
            let row = (start + at) / self.length;
            let end = ((row + 1) * self.length - start).min(length);
            let group = row % self.groups;
            f(group, &self.parameters[group * self.count..][..self.count], at..end);
            at = end;
        }
    }
}

/// Turns the gradient into that of x. Per chunk and run of a row, the group and its parameters' terms.
fn backward<const T: usize>(
    kernel: impl Kernel<T>,
    x: &[f32],
    grad: &mut [f32],
    rows: &Rows,
) -> impl Iterator<Item = (usize, [f64; T])> {
    let partial: Vec<Vec<(usize, [f64; T])>> = grad
        .par_chunks_mut(CHUNK)
        .enumerate()
        .with_min_len(if x.len() <= CHUNK { usize::MAX } else { 1 })
        .map(|(index, grad)| {
            let start = index * CHUNK;
            let mut sums = Vec::new();
            rows.split(start, grad.len(), |group, parameters, range| {
                let constants = kernel.group(parameters);
                let x = &x[start + range.start..start + range.end];
                let grad = &mut grad[range];
                let terms = vectorized(
                    #[inline(always)]
                    move || {
                        sum_lanes(
                            x,
                            grad,
                            #[inline(always)]
                            move |x, g, terms| kernel.backward(constants, x, g, terms),
                        )
                    },
                );
                sums.push((group, terms));
            });
            sums
        })
        .collect();
    partial.into_iter().flatten()
}

/// sqrt(elements / elements inside the range) where the rule asks for it, else 1.
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
    (x.len() as f32 * (1.0 / inside.max(1) as f32)).sqrt()
}

/// What is left over of a slice, filled up with zeros.
#[inline(always)]
fn padded(rest: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

#[inline(always)]
fn in_place(values: &mut [f32], f: impl Fn(Lanes) -> Lanes) {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for lanes in chunks {
        *lanes = f(*lanes);
    }
    let last = f(padded(rest));
    rest.copy_from_slice(&last[..rest.len()]);
}

#[inline(always)]
fn into(input: &[f32], output: &mut [f32], f: impl Fn(Lanes) -> Lanes) {
    let ((input, input_rest), (output, rest)) =
        (input.as_chunks::<LANES>(), output.as_chunks_mut::<LANES>());
    for (x, y) in input.iter().zip(output) {
        *y = f(*x);
    }
    let last = f(padded(input_rest));
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Runs `f` over x and the gradients, which its result replaces; it adds to the terms, whose sums are returned.
#[inline(always)]
fn sum_lanes<const T: usize>(
    x: &[f32],
    grad: &mut [f32],
    f: impl Fn(Lanes, Lanes, &mut [Lanes; T]) -> Lanes,
) -> [f64; T] {
    let mut terms = [[0f32; LANES]; T];
    let ((x, x_rest), (grad, rest)) = (x.as_chunks::<LANES>(), grad.as_chunks_mut::<LANES>());
    for (x, grad) in x.iter().zip(grad) {
        *grad = f(*x, *grad, &mut terms);
    }
    // The zeros beside them have no gradient, and so no terms.
    let last = f(padded(x_rest), padded(rest), &mut terms);
    rest.copy_from_slice(&last[..rest.len()]);
    terms.map(|lanes| lanes.iter().map(|lane| f64::from(*lane)).sum())
}
