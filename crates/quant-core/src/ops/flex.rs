//! CPU kernels: one pass over memory, in chunks that do not depend on the number of threads, so
//! that sums, and with them whole runs, are the same on every machine size.

use burn::{
    backend::{Flex, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, Shape, TensorData},
};
use burn_flex::FlexTensor;
use quant_simd::vectorized;
use rayon::prelude::*;

use super::{QuantOps, reference};

/// Elements of one task. Tensors up to this size are done on the calling thread.
const CHUNK: usize = 1 << 14;

/// Sums are kept in this many lanes, which the compiler turns into vector registers.
const LANES: usize = 16;

/// 1.5·2^23: added to and subtracted from a float below 2^22, it rounds half to even.
const ROUNDING: f32 = 12_582_912.0;

impl QuantOps for Flex {
    fn clip_quantize(x: FlexTensor, clip: FlexTensor, steps: f32, signed: bool) -> FlexTensor {
        if x.dtype() != DType::F32 || clip.dtype() != DType::F32 {
            return reference::clip_quantize::<Self>(x, clip, steps, signed);
        }
        let shape = x.shape();
        let (input, clip) = (x.to_contiguous(), clip.to_contiguous());
        // The other handle, which would keep the input's memory from being reused.
        drop(x);
        let mut x = input;
        let clip = clip.storage::<f32>();
        let rows = Rows::new(&shape, clip);
        let grid = Grid { steps, signed };
        // The input's memory becomes the output's where nobody else holds it.
        if let Some(values) = x.try_storage_mut::<f32>() {
            for_each_chunk_mut(values, |start, chunk| {
                rows.split(start, chunk.len(), |s, range| {
                    vectorized(
                        #[inline(always)]
                        || chunk[range].iter_mut().for_each(|x| *x = grid.quantize(*x, s)),
                    );
                });
            });
            return x;
        }
        let input = x.storage::<f32>();
        let mut output = vec![0f32; input.len()];
        for_each_chunk_mut(&mut output, |start, chunk| {
            rows.split(start, chunk.len(), |s, range| {
                let input = &input[start + range.start..start + range.end];
                vectorized(
                    #[inline(always)]
                    || {
                        for (y, x) in chunk[range].iter_mut().zip(input) {
                            *y = grid.quantize(*x, s);
                        }
                    },
                );
            });
        });
        from_values(output, shape)
    }

    fn clip_quantize_backward(
        x: FlexTensor,
        clip: FlexTensor,
        grad: FlexTensor,
        steps: f32,
        signed: bool,
        rescale: bool,
        learned_bound: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if [&x, &clip, &grad].iter().any(|t| t.dtype() != DType::F32) {
            let rule = (steps, signed, rescale, learned_bound);
            return reference::clip_quantize_backward::<Self>(x, clip, grad, rule);
        }
        let clip_shape = clip.shape();
        let rows_shape = x.shape();
        let (x, clip) = (x.to_contiguous(), clip.to_contiguous());
        let (x, clip) = (x.storage::<f32>(), clip.storage::<f32>());
        let rows = Rows::new(&rows_shape, clip);
        let grid = Grid { steps, signed };
        let factor = match rescale {
            true => grid.rescale_factor(x, &rows),
            false => 1.0,
        };

        let contiguous = grad.to_contiguous();
        // The other handle, for which the gradient would have to be copied.
        drop(grad);
        let mut grad = contiguous;
        // Its memory becomes that of the input's gradient.
        let grad_x = grad.storage_mut::<f32>();
        // Per chunk, the sum of each run of elements that share a clipping value.
        let partial: Vec<Vec<(usize, f64)>> = grad_x
            .par_chunks_mut(CHUNK)
            .enumerate()
            .with_min_len(if x.len() <= CHUNK { usize::MAX } else { 1 })
            .map(|(index, grad)| {
                let start = index * CHUNK;
                let mut sums = Vec::new();
                rows.split_groups(start, grad.len(), |group, s, range| {
                    let run = (&x[start + range.start..start + range.end], &mut grad[range]);
                    let sum = vectorized(
                        #[inline(always)]
                        || match learned_bound {
                            true => grid.backward_bound(run, s, factor),
                            false => grid.backward_scale(run, s, factor),
                        },
                    );
                    sums.push((group, sum));
                });
                sums
            })
            .collect();
        let mut grad_clip = vec![0f64; clip.len()];
        for (group, sum) in partial.into_iter().flatten() {
            grad_clip[group] += sum;
        }
        let grad_clip = grad_clip.into_iter().map(|sum| sum as f32).collect();
        (grad, from_values(grad_clip, clip_shape))
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

/// A tensor as rows of equal length: row r has clipping value r mod groups.
struct Rows<'a> {
    length: usize,
    clip: &'a [f32],
}

impl<'a> Rows<'a> {
    fn new(shape: &Shape, clip: &'a [f32]) -> Self {
        // One group: the whole tensor is one row, whatever the view.
        let length = match clip.len() {
            1 => shape.num_elements(),
            _ => shape[2],
        };
        Self { length: length.max(1), clip }
    }

    fn split(&self, start: usize, length: usize, mut f: impl FnMut(f32, std::ops::Range<usize>)) {
        self.split_groups(start, length, |_, s, range| f(s, range));
    }

    /// Calls `f` with group, clipping value and range within the chunk, for each run of a row.
    fn split_groups(
        &self,
        start: usize,
        length: usize,
        mut f: impl FnMut(usize, f32, std::ops::Range<usize>),
    ) {
        let mut at = 0;
        while at < length {
            let row = (start + at) / self.length;
            let end = ((row + 1) * self.length - start).min(length);
            let group = row % self.clip.len();
            f(group, self.clip[group], at..end);
            at = end;
        }
    }
}

/// The levels of one call.
#[derive(Clone, Copy)]
struct Grid {
    steps: f32,
    signed: bool,
}

impl Grid {
    fn lowest(self) -> f32 {
        if self.signed { -1.0 } else { 0.0 }
    }

    /// The level of v in units of the clipping value: m·R(n·u)/n - z.
    #[inline(always)]
    fn level(self, v: f32) -> f32 {
        let clamped = v.clamp(self.lowest(), 1.0);
        match self.signed {
            false => ((clamped * self.steps + ROUNDING) - ROUNDING) / self.steps,
            true => {
                let code = (((clamped + 1.0) * 0.5) * self.steps + ROUNDING) - ROUNDING;
                (code / self.steps) * 2.0 - 1.0
            }
        }
    }

    #[inline(always)]
    fn quantize(self, x: f32, clip: f32) -> f32 {
        self.level(x / clip) * clip
    }

    /// Whether the clamp passes the gradient: strictly between its bounds.
    #[inline(always)]
    fn inside(self, v: f32) -> bool {
        (v > self.lowest()) & (v < 1.0)
    }

    /// sqrt(elements / elements inside the range).
    fn rescale_factor(self, x: &[f32], rows: &Rows) -> f32 {
        let mut inside = 0usize;
        rows.split(0, x.len(), |s, range| {
            inside += x[range].iter().filter(|x| self.inside(**x / s)).count();
        });
        (x.len() as f32 * (1.0 / inside.max(1) as f32)).sqrt()
    }

    /// Turns g into g·[inside] and returns the sum of g·(y/s - v·[inside]).
    #[inline(always)]
    fn backward_scale(self, (x, grad): (&[f32], &mut [f32]), clip: f32, factor: f32) -> f64 {
        sum_lanes(x, grad, |x, g| {
            let v = x / clip;
            let grad_x = if self.inside(v) { g * factor } else { 0.0 };
            // Clamped where grad_x is 0, so that infinities count as the bounds they are clamped to.
            (grad_x, g * self.level(v) - grad_x * v.clamp(self.lowest(), 1.0))
        })
    }

    /// Turns g into g·[inside] and returns the sum of g·[x >= s].
    #[inline(always)]
    fn backward_bound(self, (x, grad): (&[f32], &mut [f32]), clip: f32, factor: f32) -> f64 {
        sum_lanes(x, grad, |x, g| {
            let v = x / clip;
            let grad_x = if self.inside(v) { g * factor } else { 0.0 };
            (grad_x, if v >= 1.0 { g } else { 0.0 })
        })
    }
}

/// Runs `f` over the elements; its first result replaces the gradient, its second is summed.
#[inline(always)]
fn sum_lanes(x: &[f32], grad: &mut [f32], f: impl Fn(f32, f32) -> (f32, f32)) -> f64 {
    let mut lanes = [0f32; LANES];
    let ((x, x_rest), (grad, grad_rest)) = (x.as_chunks::<LANES>(), grad.as_chunks_mut::<LANES>());
    for (x, grad) in x.iter().zip(grad) {
        for lane in 0..LANES {
            let (grad_x, term) = f(x[lane], grad[lane]);
            grad[lane] = grad_x;
            lanes[lane] += term;
        }
    }
    let mut sum: f64 = lanes.iter().map(|lane| f64::from(*lane)).sum();
    for (x, grad) in x_rest.iter().zip(grad_rest) {
        let (grad_x, term) = f(*x, *grad);
        *grad = grad_x;
        sum += f64::from(term);
    }
    sum
}
