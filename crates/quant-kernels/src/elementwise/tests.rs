use std::{vec, vec::Vec};

use super::*;

/// Numbers that do not repeat soon, with ties and unusual ones among them.
fn numbers(count: usize, from: usize) -> Vec<f32> {
    let unusual = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, f32::MAX, 1e-40];
    (from..from + count)
        .map(|index| match index % 97 {
            at @ 0..7 => unusual[at],
            at if at % 3 == 0 => (at as f32 - 50.0) / 8.0,
            _ => (index as f32 * 1.7).sin() * 9.0,
        })
        .collect()
}

fn integers(count: usize, from: i32) -> Vec<i32> {
    (0..count as i32).map(|index| (index + from).wrapping_mul(0x2F0B_4A27) >> 12).collect()
}

/// Compares bits, but all NaNs are equal.
fn assert_same(a: &[f32], b: &[f32], what: &str) {
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        let is_same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(is_same, "{what} {index}: {a} {b}");
    }
}

/// Sizes with tiles of all lengths at the end of numbers and of periods.
const SIZES: [Size; 8] = [
    Size { count: 16, channels: 16, period: 16 },
    Size { count: 16 * 7, channels: 16, period: 16 * 3 },
    Size { count: 48, channels: 48, period: 48 * 5 },
    Size { count: 48 * 5, channels: 48, period: 48 },
    Size { count: 960, channels: 96, period: 96 * 3 },
    Size { count: 64 * 9, channels: 64, period: 128 },
    Size { count: 32, channels: 32, period: 32 },
    Size { count: 32 * 11, channels: 32, period: 32 * 5 },
];

#[test]
fn operations_compute_the_bits_of_their_formulas_on_every_set() {
    for set in InstructionSet::available() {
        for size in SIZES {
            let Size { count, channels, period } = size;
            let c = numbers(count, 707);
            let [a, b, d] = [1, 300, 523].map(|from| numbers(period, from));
            let starts: Vec<u32> = (0..count / channels)
                .map(|position| (position * 7 % 3 * channels) as u32)
                .collect();
            let rows = numbers(3 * channels, 1009);
            let (sums, more) = (integers(count, 5), integers(count, 77));
            let mut first = vec![0.0; count];
            let mut last = vec![0.0; count];
            apply(
                set,
                size,
                &mut [
                    Operation::AddScaled { sums: &sums, scales: &a },
                    Operation::AddRows { rows: &rows, starts: &starts },
                    Operation::AddScaled { sums: &more, scales: &b },
                    Operation::Write(&mut first),
                    Operation::Read(&c),
                    Operation::Affine { scale: &a, shift: &b },
                    Operation::Add(&c),
                    Operation::AddChannels(&d),
                    Operation::AddScalar(0.3),
                    Operation::MultiplyScalar(1.7),
                    Operation::LeakyRelu(0.1),
                    Operation::RPRelu { before: &b, slope: &d, after: &a },
                    Operation::Write(&mut last),
                ],
            );
            let row = |at: usize| rows[starts[at / channels] as usize + at % channels];
            let scaled = |at: usize| {
                let of = at % period;
                sums[at] as f32 * a[of] + row(at) + more[at] as f32 * b[of]
            };
            let expected: Vec<f32> = (0..count).map(scaled).collect();
            assert_same(&first, &expected, "sums");
            let bent = |x: f32, slope: f32| if x > 0.0 { x } else { x * slope };
            let chain = |at: usize| {
                let of = at % period;
                let x = ((c[at] * a[of] + b[of]) + c[at] + d[of] + 0.3) * 1.7;
                bent(bent(x, 0.1) - b[of], d[of]) + a[of]
            };
            let expected: Vec<f32> = (0..count).map(chain).collect();
            assert_same(&last, &expected, "chain");

            let (mut relu, mut relu6) = (vec![0.0; count], vec![0.0; count]);
            let clips = &mut [
                Operation::Read(&c),
                Operation::Relu,
                Operation::Write(&mut relu),
                Operation::Read(&c),
                Operation::Relu6,
                Operation::Write(&mut relu6),
            ];
            apply(set, size, clips);
            let positive = |x: f32| if x > 0.0 { x } else { 0.0 };
            let expected: Vec<f32> = c.iter().map(|x| positive(*x)).collect();
            assert_same(&relu, &expected, "relu");
            let expected: Vec<f32> =
                expected.iter().map(|x| if *x > 6.0 { 6.0 } else { *x }).collect();
            assert_same(&relu6, &expected, "relu6");
        }
    }
}

/// Returns the blocks of a table f(number, channel).
fn blocks<T: Copy>(
    count: usize,
    channels: usize,
    f: impl Fn(usize, usize) -> T,
) -> Vec<[T; BLOCK]> {
    let block = |first: usize, number: usize| core::array::from_fn(|lane| f(number, first + lane));
    let of_block = |first| (0..count).map(move |number| (first, number));
    let places = (0..channels).step_by(BLOCK).flat_map(of_block);
    places.map(|(first, number)| block(first, number)).collect()
}

/// Returns what is stored in each form.
fn stored(Size { count, channels, .. }: Size, mut store: impl FnMut(Stored<'_>)) -> [Vec<i32>; 4] {
    let (mut bytes, mut shorts) = (vec![0u8; count], vec![0i16; count]);
    store(Stored::Bytes(&mut bytes));
    store(Stored::Shorts(&mut shorts));
    let (mut bits, mut two_bits) = (vec![0u32; count / 32], vec![0u32; count / 16]);
    if channels.is_multiple_of(32) {
        store(Stored::Bits(&mut bits));
        store(Stored::TwoBits(&mut two_bits));
    }
    let bit = |word: u32, at: usize| (word >> (at % 32) & 1) as i32;
    let count = if channels.is_multiple_of(32) { count } else { 0 };
    let bits = (0..count).map(|at| bit(bits[at / 32], at)).collect();
    let two_bits = (0..count)
        .map(|at| bit(two_bits[at / 32 * 2], at) | bit(two_bits[at / 32 * 2 + 1], at) << 1)
        .collect();
    let bytes = bytes.into_iter().map(i32::from).collect();
    [bytes, shorts.into_iter().map(i32::from).collect(), bits, two_bits]
}

fn check_stored(stored: &[Vec<i32>; 4], expected: &[i32], what: &str) {
    let forms: [fn(i32) -> i32; 4] =
        [|x| i32::from(x as u8), |x| i32::from(x as i16), |x| x & 1, |x| x & 3];
    for (stored, form) in stored.iter().zip(forms) {
        for (at, (stored, expected)) in stored.iter().zip(expected).enumerate() {
            assert_eq!(*stored, form(*expected), "{what} {at}");
        }
    }
}

#[test]
fn integers_follow_from_thresholds_and_formulas_on_every_set() {
    for set in InstructionSet::available() {
        for size in SIZES {
            let Size { count, channels, .. } = size;
            for is_uniform in [true, false] {
                let width = if is_uniform { BLOCK } else { channels };
                let of = |channel: usize| if is_uniform { 0 } else { channel };
                let threshold =
                    |k: usize, channel: usize| k as f32 * 2.0 - 3.0 + of(channel) as f32 / 16.0;
                let step = |k: usize, channel: usize| (k + of(channel)) as i32 * 3 - 7;
                let lowest = |channel: usize| of(channel) as i32 - 9;
                let [thresholds, steps, first] = [0, 1, 2].map(|_| 3);
                let (of_thresholds, of_steps, of_lowest) = (
                    blocks(thresholds, width, threshold),
                    blocks(steps, width, step),
                    blocks(1, width, |_, channel| lowest(channel)),
                );
                let x = numbers(count, 11 + first);
                let rule = Integers::Thresholds {
                    thresholds: Table { blocks: &of_thresholds, count: 3 },
                    steps: Table { blocks: &of_steps, count: 3 },
                    lowest: Table { blocks: &of_lowest, count: 1 },
                };
                let all = stored(size, |to| {
                    let operations = &mut [Operation::Read(&x), Operation::Store(rule, to)];
                    apply(set, size, operations);
                });
                let expected: Vec<i32> = (0..count)
                    .map(|at| {
                        let channel = at % channels;
                        let reached = (0..3).filter(|k| x[at] >= threshold(*k, channel));
                        lowest(channel) + reached.map(|k| step(k, channel)).sum::<i32>()
                    })
                    .collect();
                check_stored(&all, &expected, "thresholds");

                let sums = integers(count, 3);
                let above =
                    |k: usize, channel: usize| (k as i32 - 1) * 100_000 + of(channel) as i32 * 11;
                let of_above = blocks(3, width, above);
                let all = stored(size, |to| {
                    let operations = &mut [Operation::StoreSums {
                        sums: &sums,
                        thresholds: Table { blocks: &of_above, count: 3 },
                        steps: Table { blocks: &of_steps, count: 3 },
                        lowest: Table { blocks: &of_lowest, count: 1 },
                        to,
                    }];
                    apply(set, size, operations);
                });
                let expected: Vec<i32> = (0..count)
                    .map(|at| {
                        let channel = at % channels;
                        let passed = (0..3).filter(|k| sums[at] > above(*k, channel));
                        lowest(channel) + passed.map(|k| step(k, channel)).sum::<i32>()
                    })
                    .collect();
                check_stored(&all, &expected, "sums");

                for (low, high, difference) in [(-3.0f32, 12.0f32, 1), (0.0, 255.0, 2)] {
                    let divisor = |channel: usize| 0.37 + of(channel) as f32 / 64.0;
                    let divisors = blocks(1, width, |_, channel| divisor(channel));
                    let rule = Integers::Formula {
                        divisors: Table { blocks: &divisors, count: 1 },
                        shift: 0.25,
                        factor: 1.5,
                        lowest: low,
                        highest: high,
                        first: 5,
                        difference,
                    };
                    let all = stored(size, |to| {
                        let operations = &mut [Operation::Read(&x), Operation::Store(rule, to)];
                        apply(set, size, operations);
                    });
                    let expected: Vec<i32> = (0..count)
                        .map(|at| {
                            let x = (x[at] / divisor(at % channels) + 0.25) * 1.5;
                            let x = if x.is_nan() { low } else { x.clamp(low, high) };
                            5 + difference * (x.round_ties_even() - low) as i32
                        })
                        .collect();
                    check_stored(&all, &expected, "formula");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "elements for 64 numbers")]
fn short_slices_are_refused() {
    let x = [0.0; 63];
    let size = Size { count: 64, channels: 64, period: 64 };
    apply(InstructionSet::detect(), size, &mut [Operation::Read(&x)]);
}

#[test]
#[should_panic(expected = "no row at 64")]
fn rows_that_do_not_exist_are_refused() {
    let (rows, starts) = ([0.0; 127], [0, 64]);
    let size = Size { count: 128, channels: 64, period: 64 };
    let operations = &mut [Operation::AddRows { rows: &rows, starts: &starts }];
    apply(InstructionSet::detect(), size, operations);
}

#[test]
#[should_panic(expected = "fills no words")]
fn bits_need_whole_words() {
    let (divisors, mut words) = ([[1.0; BLOCK]], [0; 2]);
    let rule = Integers::Formula {
        divisors: Table { blocks: &divisors, count: 1 },
        shift: 0.0,
        factor: 1.0,
        lowest: 0.0,
        highest: 1.0,
        first: 0,
        difference: 1,
    };
    let operations = &mut [Operation::Store(rule, Stored::Bits(&mut words))];
    let size = Size { count: 48, channels: 16, period: 16 };
    apply(InstructionSet::detect(), size, operations);
}
