//! The rectified linear unit, max(x, 0), and its gradient.

use crate::{
    parallel,
    simd::{stored, vectorize_narrow},
};

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// The larger of both; x where it is not a number.
#[inline(always)]
pub(crate) fn at_least(x: f32, lowest: f32) -> f32 {
    if x < lowest { lowest } else { x }
}

/// Replaces each x by max(x, 0). What is not a number stays as it is.
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

/// Turns the gradient of the output of [`relu_in_place`] into that of its input: 0 where the output
/// is not above 0.
///
/// # Panics
/// If lengths differ.
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

/// [`relu_backward`] on the thread that calls.
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
