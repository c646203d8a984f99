use std::{boxed::Box, vec, vec::Vec};

use proptest::prelude::*;

use super::{weights::word_of_pair, *};
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

/// Integers from 0 to below a bound that look random.
fn random(seed: u32) -> impl FnMut(u32) -> u32 {
    let mut state = u64::from(seed) * 2 + 1;
    move |bound| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) % u64::from(bound)) as u32
    }
}

/// The places and outputs of a random convolution.
#[derive(Debug)]
struct Case {
    outputs: usize,
    runs: Vec<Run>,
    starts: Vec<u32>,
    seed: u32,
}

impl Case {
    fn taps(&self) -> Vec<u32> {
        let taps =
            |run: &Run| (0..run.length).map(|i| run.start + i * run.step).collect::<Vec<_>>();
        self.runs.iter().flat_map(taps).collect()
    }

    /// Compares the sums with those of products of single taps.
    fn check<A: Arithmetic>(
        &self,
        weights: &Weights<A>,
        input: &[A::Word],
        finish: Finishing<'_, A::Sum>,
        expected: impl Fn(&[u32], usize, usize) -> A::Sum,
    ) -> Result<(), TestCaseError>
    where
        A::Sum: core::fmt::Debug + PartialEq,
    {
        let stride = weights.sums() + 3;
        let mut sums = vec![A::Sum::default(); self.starts.len() * stride];
        weights.multiply(input, &self.runs, &self.starts, finish, &mut sums, stride);
        let taps = self.taps();
        for (position, start) in self.starts.iter().enumerate() {
            let places: Vec<u32> = taps.iter().map(|tap| start + tap).collect();
            for output in 0..self.outputs {
                let found = sums[position * stride + output];
                prop_assert_eq!(found, expected(&places, position, output));
            }
        }
        Ok(())
    }
}

prop_compose! {
    fn case(words: u32)(
        outputs in 1usize..150,
        lengths in prop::collection::vec((0u32..20, 0u32..20, 1u32..4), 0..4),
        starts in prop::collection::vec(0u32..50, 0..15),
        seed in 0u32..1000,
    ) -> Case {
        let run = |&(length, start, step): &(u32, u32, u32)| {
            Run { start: start * words, length, step: step * words }
        };
        let starts = starts.iter().map(|start| start * words).collect();
        Case { outputs, runs: lengths.iter().map(run).collect(), starts, seed }
    }
}

/// Returns the weights as a function of the taps for each output.
fn by_output<'a, T: 'a>(
    weight: &'a impl Fn(usize, usize) -> T,
) -> impl Fn(usize) -> Box<dyn Fn(usize) -> T + 'a> + 'a {
    move |output| Box::new(move |tap| weight(output, tap))
}

/// Number of words of the images.
const WORDS: usize = 300;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_of_floats_are_those_of_a_plain_loop(case in case(1)) {
        let numbers = |seed| {
            integers(WORDS * 150, 700, seed).into_iter().map(|x| f32::from(x) / 3.0)
        };
        let input: Vec<f32> = numbers(case.seed).take(WORDS).collect();
        let weights: Vec<f32> = numbers(case.seed + 1).collect();
        let weight = |output, tap| weights[output * 100 + tap];
        for set in InstructionSet::available() {
            let packed = Weights::floats(set, case.outputs, case.taps().len(), by_output(&weight));
            case.check(&packed, &input, (None, None), |places, _, output| {
                places.iter().enumerate().fold(0.0, |sum, (tap, place)| {
                    sum + input[*place as usize] * weight(output, tap)
                })
            })?;
        }
    }

    #[test]
    fn sums_of_pairs_are_those_of_a_plain_loop(case in case(1), factor in -3i32..4) {
        let input = integers(2 * WORDS, 700, case.seed);
        let words: Vec<u32> = input.as_chunks().0.iter().map(|pair| word_of_pair(*pair)).collect();
        let weights = integers(150 * 200, 700, case.seed + 1);
        let weight = |output, tap| [0, 1].map(|half| weights[200 * output + 2 * tap + half]);
        let extra: Vec<i32> = (0..case.starts.len() as i32).map(|at| 1000 * at - 3).collect();
        for set in InstructionSet::available() {
            let packed = Weights::pairs(set, case.outputs, case.taps().len(), by_output(&weight));
            let finish = packed.finish(factor, |output| output as i32 * 7);
            let sum = |places: &[u32], output: usize| {
                let product = |(tap, place): (usize, &u32)| {
                    let at = |half: usize| i32::from(input[2 * *place as usize + half]);
                    let weight = weight(output, tap).map(i32::from);
                    at(0) * weight[0] + at(1) * weight[1]
                };
                places.iter().enumerate().map(product).sum::<i32>()
            };
            case.check(&packed, &words, (None, None), |places, _, output| sum(places, output))?;
            case.check(&packed, &words, (Some(&finish), Some(&extra)), |places, position, output| {
                factor * sum(places, output) + output as i32 * 7 + extra[position]
            })?;
        }
    }

    #[test]
    fn sums_of_bytes_are_those_of_a_plain_loop(
        case in case(1),
        largest in 1u32..256,
        weight_bits in 1u32..9,
    ) {
        let mut next = random(case.seed);
        let input: Vec<u8> = (0..4 * WORDS).map(|_| next(largest + 1) as u8).collect();
        let words: Vec<u32> =
            input.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect();
        let range = 1 << weight_bits;
        let weights: Vec<i8> =
            (0..150 * 400).map(|_| (next(range) as i32 - range as i32 / 2) as i8).collect();
        let weight = |output, tap| {
            core::array::from_fn(|byte| weights[400 * output + 4 * tap + byte])
        };
        let expected = |places: &[u32], _, output: usize| {
            let product = |(tap, place): (usize, &u32)| {
                let bytes = input[4 * *place as usize..][..4].iter().zip(weight(output, tap));
                bytes.map(|(x, w)| i32::from(*x) * i32::from(w)).sum::<i32>()
            };
            places.iter().enumerate().map(product).sum::<i32>()
        };
        let size = (case.outputs, case.taps().len());
        for set in InstructionSet::available() {
            let bytes = Weights::bytes(set, size.0, size.1, by_output(&weight));
            case.check(&bytes, &words, (None, None), expected)?;
            let finish = bytes.finish(-3, |output| output as i32);
            case.check(&bytes, &words, (Some(&finish), None), |places, position, output| {
                output as i32 - 3 * expected(places, position, output)
            })?;
            let small = Weights::small_bytes(set, size, largest as u8, by_output(&weight));
            prop_assert!(small.is_some() || weight_bits == 8);
            if let Some(small) = small {
                case.check(&small, &words, (None, None), expected)?;
            }
        }
    }

    #[test]
    fn sums_of_signs_are_those_of_a_plain_loop(case in case(1)) {
        let mut next = random(case.seed);
        let input: Vec<u32> = (0..WORDS).map(|_| next(u32::MAX)).collect();
        let weights: Vec<u32> = (0..150 * 100).map(|_| next(u32::MAX)).collect();
        let weight = |output, tap| weights[100 * output + tap];
        for set in InstructionSet::available() {
            let packed = Weights::signs(set, case.outputs, case.taps().len(), by_output(&weight));
            let finish = packed.finish(-2, |_| 32);
            case.check(&packed, &input, (Some(&finish), None), |places, _, output| {
                let product = |(tap, place): (usize, &u32)| {
                    let differ = input[*place as usize] ^ weight(output, tap);
                    (0..32).map(|bit| 1 - 2 * (differ >> bit & 1) as i32).sum::<i32>()
                };
                let all = 32 * places.len() as i32 - 32;
                places.iter().enumerate().map(product).sum::<i32>() - all
            })?;
        }
    }

    #[test]
    fn sums_of_ternary_numbers_are_those_of_a_plain_loop(case in case(2)) {
        let mut next = random(case.seed);
        let mut words = |count: usize| -> Vec<[u32; 2]> {
            let mut word = || next(u32::MAX) ^ next(u32::MAX) << 7;
            (0..count).map(|_| [word(), word()]).collect()
        };
        let (input, weights) = (words(WORDS), words(150 * 100));
        let weight = |output, tap| weights[100 * output + tap];
        let number = |[nonzero, negative]: [u32; 2], bit: u32| {
            (nonzero >> bit & 1) as i32 * (1 - 2 * (negative >> bit & 1) as i32)
        };
        for set in InstructionSet::available() {
            let packed = Weights::ternary(set, case.outputs, case.taps().len(), by_output(&weight));
            case.check(&packed, input.as_flattened(), (None, None), |places, _, output| {
                let product = |(tap, place): (usize, &u32)| {
                    let (x, w) = (input[*place as usize / 2], weight(output, tap));
                    (0..32).map(|bit| number(x, bit) * number(w, bit)).sum::<i32>()
                };
                places.iter().enumerate().map(product).sum::<i32>()
            })?;
        }
    }

    #[test]
    fn depthwise_sums_are_those_of_a_plain_loop(
        channels in 1usize..80,
        taps in prop::collection::vec(0u32..50, 1..26),
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
    let weights = Weights::floats(InstructionSet::detect(), 1, 2, |_| |_| 1.0);
    let runs = [Run { start: 0, length: 2, step: 3 }];
    weights.multiply(&[0.0; 4], &runs, &[1], (None, None), &mut [0.0; 16], 16);
}
