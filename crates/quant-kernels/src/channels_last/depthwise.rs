//! Depthwise convolutions, in which each channel is convolved alone: vectors run over channels.

use core::ops::{AddAssign, Mul};

use crate::simd::{InstructionSet, Job, Simd};

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
    let fits = |count: usize, length: usize| {
        count.checked_mul(channels).is_some_and(|needed| needed <= length)
    };
    assert!(fits(taps.len(), weights.len()), "a weight for each tap and channel");
    assert!(fits(starts.len(), sums.len()), "the sums of all positions fit");
    let sums = &mut sums[..starts.len() * channels];
    let (Some(last), Some(reach)) = (starts.iter().max(), taps.iter().max()) else {
        return sums.fill(0);
    };
    let end = u64::from(*last) + u64::from(*reach) + channels as u64;
    assert!(end <= input.len() as u64, "taps lie within the input");
    let together = 2 * set.lanes();
    let done = channels / together * together;
    set.run_dot_products(ByPairs { input, taps, starts, weights, channels, sums });
    set.vectorize(
        #[inline(always)]
        || depthwise(input, taps, starts, weights, (channels, done), sums, Into::into),
    );
}

/// The sums of as many channels as fill two vectors each, of pairs of taps. `depthwise_integers` is
/// the only place that creates it, after it has checked all lengths.
struct ByPairs<'a> {
    input: &'a [i16],
    taps: &'a [u32],
    starts: &'a [u32],
    weights: &'a [i16],
    channels: usize,
    sums: &'a mut [i32],
}

/// The number of pairs whose weights stay in registers: those of a 3 x 3 kernel.
const PAIRS: usize = 5;

impl Job for ByPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { input, taps, starts, weights, channels, sums } = self;
        let zero = simd.splat_integer(0);
        // SAFETY: `depthwise_integers` has checked that every tap of every position has all
        // channels in the input, and that weights and sums have as many as there are. A vector of
        // integers of 32 bits has two channels in each.
        unsafe {
            let read = |from: *const i16| simd.load_integers(from.cast());
            for channel in (0..channels / (2 * S::LANES)).map(|block| block * 2 * S::LANES) {
                for (part, taps) in taps.chunks(2 * PAIRS).enumerate() {
                    let first = part * 2 * PAIRS;
                    let weight = |tap: usize| {
                        if tap >= taps.len() {
                            return zero;
                        }
                        read(weights.as_ptr().add((first + tap) * channels + channel))
                    };
                    let weights: [_; PAIRS] = core::array::from_fn(|pair| {
                        simd.zip_shorts(weight(2 * pair), weight(2 * pair + 1))
                    });
                    // What has a weight of 0 may be any number of the input.
                    let offsets: [_; 2 * PAIRS] = core::array::from_fn(|tap| {
                        taps.get(tap).map_or(taps[0], |tap| *tap) as usize + channel
                    });
                    for (position, start) in starts.iter().enumerate() {
                        let from = input.as_ptr().add(*start as usize);
                        let mut total = [zero; 2];
                        for (pair, weights) in weights.into_iter().enumerate() {
                            let x = [0, 1].map(|tap| read(from.add(offsets[2 * pair + tap])));
                            let x = simd.zip_shorts(x[0], x[1]);
                            for ((total, x), w) in total.iter_mut().zip(x).zip(weights) {
                                *total = simd.add_pair_product(*total, x, w);
                            }
                        }
                        let to = sums.as_mut_ptr().add(position * channels + channel);
                        for (vector, mut sum) in simd.unzipped(total).into_iter().enumerate() {
                            let to = to.add(vector * S::LANES);
                            if part > 0 {
                                sum = simd.add_integers(sum, simd.load_integers(to));
                            }
                            simd.store_integers(sum, to);
                        }
                    }
                }
            }
        }
    }
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
        || depthwise(input, taps, starts, weights, (channels, 0), sums, |x| x),
    );
}

/// Computes the sums of the channels from `done` on.
#[inline(always)]
fn depthwise<T: Copy, U: Copy + Default + Mul<Output = U> + AddAssign>(
    input: &[T],
    taps: &[u32],
    starts: &[u32],
    weights: &[T],
    (channels, done): (usize, usize),
    sums: &mut [U],
    widen: impl Fn(T) -> U,
) {
    if done == channels {
        return;
    }
    for (sums, start) in sums.chunks_exact_mut(channels).zip(starts) {
        let start = *start as usize;
        let mut first = done;
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
