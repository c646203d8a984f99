use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::simd::InstructionSet;

/// Numbers from -range to range that look random.
fn integers(count: usize, range: i32, seed: u32) -> Vec<i16> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) as i32 % (2 * range + 1) - range) as i16
    };
    (0..count).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_are_those_of_a_plain_loop(
        outputs in 1usize..150,
        lengths in prop::collection::vec((0u32..5, 0u32..40, 1u32..4), 0..4),
        starts in prop::collection::vec(0u32..50, 0..15),
        seed in 0u32..1000,
    ) {
        let runs: Vec<Run> = (lengths.iter())
            .map(|&(length, start, step)| Run { start, length, step })
            .collect();
        let taps: Vec<u32> = (runs.iter())
            .flat_map(|run| (0..run.length).map(|i| run.start + i * run.step))
            .collect();
        let input: Vec<[i16; 2]> = integers(2 * 110, 700, seed).as_chunks().0.to_vec();
        let weights = integers(outputs * taps.len() * 2, 700, seed + 1);
        let weight = |o: usize, t: usize| {
            let at = 2 * (o * taps.len() + t);
            [weights[at], weights[at + 1]]
        };
        let product = |x: [i16; 2], w: [i16; 2]| {
            i32::from(x[0]) * i32::from(w[0]) + i32::from(x[1]) * i32::from(w[1])
        };
        for set in InstructionSet::available() {
            let packed = Weights::pack(set, outputs, taps.len(), weight);
            let floats = Weights::pack(set, outputs, taps.len(), |o, t| f32::from(weight(o, t)[0]));
            let reals: Vec<f32> = input.iter().map(|x| f32::from(x[1]) / 3.0).collect();
            let stride = packed.sums() + 3;
            let mut sums = vec![7; starts.len() * stride];
            let mut real_sums = vec![7.0; starts.len() * stride];
            packed.multiply(&input, &runs, &starts, &mut sums, stride);
            floats.multiply(&reals, &runs, &starts, &mut real_sums, stride);
            for (p, start) in starts.iter().enumerate() {
                for o in 0..outputs {
                    let at = |t: usize| (*start + taps[t]) as usize;
                    let expected: i32 = (0..taps.len())
                        .map(|t| product(input[at(t)], weight(o, t)))
                        .sum();
                    prop_assert_eq!(sums[p * stride + o], expected, "{:?}", set);
                    let expected = (0..taps.len()).fold(0.0, |sum, t| {
                        sum + reals[at(t)] * f32::from(weight(o, t)[0])
                    });
                    prop_assert_eq!(real_sums[p * stride + o].to_bits(), expected.to_bits());
                }
            }
        }
    }

    #[test]
    fn depthwise_sums_are_those_of_a_plain_loop(
        channels in 1usize..80,
        taps in prop::collection::vec(0u32..50, 1..6),
        starts in prop::collection::vec(0u32..50, 0..5),
        seed in 0u32..1000,
    ) {
        let input = integers(100 + channels, 30_000, seed);
        let weights = integers(channels * taps.len(), 10_000, seed + 1);
        let float = |x: &[i16]| x.iter().map(|x| f32::from(*x) / 3.0).collect::<Vec<f32>>();
        let (reals, real_weights) = (float(&input), float(&weights));
        for set in InstructionSet::available() {
            let mut sums = vec![7; starts.len() * channels];
            let mut real_sums = vec![7.0; starts.len() * channels];
            depthwise_integers(set, &input, &taps, &starts, &weights, channels, &mut sums);
            depthwise_floats(
                set, &reals, &taps, &starts, &real_weights, channels, &mut real_sums,
            );
            for (p, start) in starts.iter().enumerate() {
                for c in 0..channels {
                    let at = |t: usize| (*start + taps[t]) as usize + c;
                    let expected: i32 = (0..taps.len())
                        .map(|t| i32::from(input[at(t)]) * i32::from(weights[t * channels + c]))
                        .sum();
                    prop_assert_eq!(sums[p * channels + c], expected);
                    let expected = (0..taps.len())
                        .fold(0.0, |sum, t| sum + reals[at(t)] * real_weights[t * channels + c]);
                    prop_assert_eq!(real_sums[p * channels + c].to_bits(), expected.to_bits());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "taps lie within the input")]
fn a_tap_beyond_the_input_is_refused() {
    let weights = Weights::pack(InstructionSet::detect(), 1, 2, |_, _| 1.0f32);
    let runs = [Run { start: 0, length: 2, step: 3 }];
    weights.multiply(&[0.0; 4], &runs, &[1], &mut [0.0; 16], 16);
}
