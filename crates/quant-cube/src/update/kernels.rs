//! The loops of optimizer steps over parameters.

#![expect(missing_docs, reason = "CubeCL makes modules of kernels, without documentation")]

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

/// Computes the step of `count` parameters, as [`Sgd`](super::Sgd) defines it. The cubes before
/// `ends` of a parameter, and behind those of the parameter before it, compute its elements.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn sgd_kernel<P: Float>(
    weights: Sequence<LinearView<'_, P>>,
    gradients: Sequence<LinearView<'_, P>>,
    velocities: Sequence<LinearView<'_, P>>,
    mut next_weights: Sequence<LinearViewMut<'_, P>>,
    mut next_velocities: Sequence<LinearViewMut<'_, P>>,
    ends: Sequence<usize>,
    rate: f32,
    decay: f32,
    momentum: f32,
    #[comptime] count: usize,
    #[comptime] nesterov: bool,
    #[comptime] is_first: bool,
    #[comptime] units: usize,
    #[define(P)] _dtype: ElemType,
) {
    let mut start = 0usize.runtime();
    #[unroll]
    for parameter in 0..count {
        let end = *ends.index(parameter);
        if CUBE_POS >= start && CUBE_POS < end {
            let at = (CUBE_POS - start) * units + UNIT_POS as usize;
            if next_weights.index(parameter).is_in_bounds(at) {
                let weight = f32::cast_from(weights.index(parameter).read(at));
                let gradient = f32::cast_from(gradients.index(parameter).read(at));
                let gradient = weight * decay + gradient;
                let mut velocity = gradient;
                if comptime!(!is_first) {
                    let old = f32::cast_from(velocities.index(parameter).read(at));
                    velocity += old * momentum;
                }
                let direction =
                    if comptime!(nesterov) { velocity * momentum + gradient } else { velocity };
                let next = weight - direction * rate;
                next_weights.index_mut(parameter).write(at, P::cast_from(next));
                next_velocities.index_mut(parameter).write(at, P::cast_from(velocity));
            }
        }
        start = end;
    }
}

/// Computes the step of `count` parameters, as [`Adam`](super::Adam) defines it. The cubes before
/// `ends` of a parameter, and behind those of the parameter before it, compute its elements.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn adam_kernel<P: Float>(
    weights: Sequence<LinearView<'_, P>>,
    gradients: Sequence<LinearView<'_, P>>,
    means: Sequence<LinearView<'_, P>>,
    squares: Sequence<LinearView<'_, P>>,
    mut next_weights: Sequence<LinearViewMut<'_, P>>,
    mut next_means: Sequence<LinearViewMut<'_, P>>,
    mut next_squares: Sequence<LinearViewMut<'_, P>>,
    ends: Sequence<usize>,
    rate: f32,
    correction: f32,
    remaining: f32,
    decay: f32,
    share: f32,
    old_squares: f32,
    share_of_squares: f32,
    epsilon: f32,
    #[comptime] count: usize,
    #[comptime] is_first: bool,
    #[comptime] units: usize,
    #[define(P)] _dtype: ElemType,
) {
    let mut start = 0usize.runtime();
    #[unroll]
    for parameter in 0..count {
        let end = *ends.index(parameter);
        if CUBE_POS >= start && CUBE_POS < end {
            let at = (CUBE_POS - start) * units + UNIT_POS as usize;
            if next_weights.index(parameter).is_in_bounds(at) {
                let weight = f32::cast_from(weights.index(parameter).read(at));
                let gradient = f32::cast_from(gradients.index(parameter).read(at));
                let gradient = weight * decay + gradient;
                let mut mean = gradient * share;
                let mut square = gradient * gradient * share_of_squares;
                if comptime!(!is_first) {
                    let old = f32::cast_from(means.index(parameter).read(at));
                    mean = (gradient - old) * share + old;
                    square += f32::cast_from(squares.index(parameter).read(at)) * old_squares;
                }
                let divisor = square.sqrt() / correction + epsilon;
                let next = weight * remaining - mean / divisor * rate;
                next_weights.index_mut(parameter).write(at, P::cast_from(next));
                next_means.index_mut(parameter).write(at, P::cast_from(mean));
                next_squares.index_mut(parameter).write(at, P::cast_from(square));
            }
        }
        start = end;
    }
}
