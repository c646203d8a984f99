//! Depthwise convolutions, in which each channel is convolved alone: vectors run over channels.

use core::ops::{AddAssign, Mul};

use crate::simd::InstructionSet;

/// Writes the sums of each channel: `sums[p·channels + c]` becomes the sum over the taps t of
/// `input[starts[p] + taps[t] + c]·weights[t·channels + c]`, modulo 2³².
///
/// # Panics
/// If an index lies beyond its slice.
pub fn depthwise_integers(
    set: InstructionSet,
    input: &[i16],
    taps: &[u32],
    starts: &[u32],
    weights: &[i16],
    channels: usize,
    sums: &mut [i32],
) {
    set.vectorize(
        #[inline(always)]
        || depthwise(input, taps, starts, weights, channels, sums, Into::into),
    );
}

/// Does the same for floats. The sum begins with 0 and runs in the order of the taps; products and
/// sums are rounded on their own.
///
/// # Panics
/// If an index lies beyond its slice.
pub fn depthwise_floats(
    set: InstructionSet,
    input: &[f32],
    taps: &[u32],
    starts: &[u32],
    weights: &[f32],
    channels: usize,
    sums: &mut [f32],
) {
    set.vectorize(
        #[inline(always)]
        || depthwise(input, taps, starts, weights, channels, sums, |x| x),
    );
}

#[inline(always)]
fn depthwise<T: Copy, U: Copy + Default + Mul<Output = U> + AddAssign>(
    input: &[T],
    taps: &[u32],
    starts: &[u32],
    weights: &[T],
    channels: usize,
    sums: &mut [U],
    widen: impl Fn(T) -> U,
) {
    for (sums, start) in sums.chunks_exact_mut(channels).zip(starts) {
        let start = *start as usize;
        let mut first = 0;
        while first < channels {
            let left = channels - first;
            let sums = &mut sums[first..];
            let (input, weights) = (&input[start + first..], &weights[first..]);
            first += match left {
                32.. => chunk::<32, _, _>(input, taps, weights, channels, sums, &widen),
                8.. => chunk::<8, _, _>(input, taps, weights, channels, sums, &widen),
                _ => chunk::<1, _, _>(input, taps, weights, channels, sums, &widen),
            };
        }
    }
}

/// Computes the sums of `N` channels, and returns `N`.
#[inline(always)]
fn chunk<const N: usize, T: Copy, U: Copy + Default + Mul<Output = U> + AddAssign>(
    input: &[T],
    taps: &[u32],
    weights: &[T],
    channels: usize,
    sums: &mut [U],
    widen: &impl Fn(T) -> U,
) -> usize {
    let mut total = [U::default(); N];
    for (tap, offset) in taps.iter().enumerate() {
        let x = &input[*offset as usize..][..N];
        let w = &weights[tap * channels..][..N];
        for ((total, x), w) in total.iter_mut().zip(x).zip(w) {
            *total += widen(*x) * widen(*w);
        }
    }
    sums[..N].copy_from_slice(&total);
    N
}
