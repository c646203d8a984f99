//! The rectified linear unit, max(x, 0), and its gradient.

use crate::{
    parallel,
    simd::{stored, vectorize_narrow},
};

/// Number of elements per task.
const CHUNK: usize = 1 << 14;

/// Returns the larger of both numbers, or x if x is NaN.
#[inline(always)]
pub(crate) fn at_least(x: f32, lowest: f32) -> f32 {
    if x < lowest { lowest } else { x }
}

/// Replaces each x by max(x, 0). NaN stays NaN.
pub fn relu_in_place(values: &mut [f32]) {
    parallel::for_each_chunk_mut(
        values,
        CHUNK,
        || (),
        |(), _, chunk| {
            vectorize_narrow(
                #[inline(always)]
                || chunk.iter_mut().for_each(|x| *x = stored(at_least(*x, 0.0))),
            );
        },
    );
}

/// Turns the gradient of the output of [`relu_in_place`] into the gradient of its input: it becomes
/// 0 where the output is not above 0.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward(output: &[f32], gradient: &mut [f32]) {
    assert_eq!(gradient.len(), output.len(), "every output has a gradient");
    parallel::for_each_chunk_mut(
        gradient,
        CHUNK,
        || (),
        |(), index, gradient| {
            backward_of_row(&output[index * CHUNK..][..gradient.len()], gradient);
        },
    );
}

/// Does the work of [`relu_backward`] on the calling thread.
pub(crate) fn backward_of_row(output: &[f32], gradient: &mut [f32]) {
    vectorize_narrow(
        #[inline(always)]
        || {
            for (g, y) in gradient.iter_mut().zip(output) {
                *g = stored(if *y > 0.0 { *g } else { 0.0 });
            }
        },
    );
}
