//! Compares the CPU kernel with the composed operations.

use burn::{
    backend::{Flex, TensorMetadata},
    tensor::{FloatDType, TensorData},
};
use burn_flex::FlexTensor;
use proptest::prelude::*;

use super::{Basis, Elementwise, MAX_INTERVALS, QuantOps, Rule, SignSlope, reference};

const F32: FloatDType = FloatDType::F32;

fn tensor(values: &[f32], shape: [usize; 3]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values.to_vec(), shape))
}

fn host(tensor: FlexTensor) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// Returns reproducible values in -2..2.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Generates any rule.
fn rules() -> impl Strategy<Value = Rule> {
    let ewgs = || prop_oneof![Just(0.0f32), Just(0.01)];
    let bits = any::<[bool; 3]>();
    let slope = prop_oneof![Just(SignSlope::One), Just(SignSlope::Box), Just(SignSlope::Triangle)];
    prop_oneof![
        (1u16..=255, bits, ewgs()).prop_map(|(steps, [signed, rescale, learned_bound], ewgs)| {
            Rule::Clip { steps: f32::from(steps), signed, rescale, learned_bound, ewgs }
        }),
        (0u8..8, 1u8..8, ewgs()).prop_map(|(below, above, ewgs)| Rule::Step {
            lowest: -f32::from(below),
            highest: f32::from(above),
            ewgs
        }),
        (1usize..=3).prop_map(|pieces| Rule::Slopes { pieces, signed: false }),
        Just(Rule::Slopes { pieces: 2, signed: true }),
        (1..=MAX_INTERVALS).prop_map(|pieces| Rule::Intervals { pieces }),
        Just(Rule::Ternary),
        prop_oneof![0usize..5, 14usize..19].prop_map(|thresholds| Rule::Table { thresholds }),
        slope.prop_map(|slope| Rule::Sign { slope }),
    ]
}

/// Returns parameters that are valid for the rule: ascending thresholds, and scales above 0 where
/// they have to be.
fn parameters(rule: Rule, groups: usize, seed: u64) -> FlexTensor {
    let count = rule.parameters();
    let drawn = values(seed, groups * count);
    let rows = drawn.chunks(count).flat_map(|row| {
        let positive = |x: &f32| x.abs() + 0.1;
        match rule {
            Rule::Table { thresholds } => {
                let (bounds, ladder) = row.split_at(3);
                let (limits, levels) = ladder.split_at(thresholds);
                let sorted = |values: &[f32]| {
                    let mut values = values.to_vec();
                    values.sort_by(f32::total_cmp);
                    values
                };
                let bounds =
                    vec![positive(&bounds[0]), -positive(&bounds[1]), positive(&bounds[2])];
                [bounds, sorted(limits), sorted(levels)].concat()
            }
            // A learned bound, an offset, a start and a shift may be any number.
            Rule::Clip { learned_bound: true, .. } => {
                vec![if seed.is_multiple_of(5) { 0.0 } else { row[0] }]
            }
            Rule::Step { .. } => vec![positive(&row[0]), row[1]],
            Rule::Sign { .. } => vec![row[0] * 0.5, positive(&row[1])],
            Rule::Intervals { .. } => {
                let widths = row[2..].iter().map(positive);
                [positive(&row[0]), row[1]].into_iter().chain(widths).collect()
            }
            _ => row.iter().map(positive).collect(),
        }
    });
    FlexTensor::from_data(TensorData::new(rows.collect::<Vec<f32>>(), [groups, count]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The results agree to the last bit, except for sums over a group, which are taken in another
    /// order.
    #[test]
    fn the_kernels_equal_the_composed_operations(
        rule in rules(),
        outer in 1usize..4,
        groups in 1usize..6,
        inner in prop_oneof![1usize..40, 5000usize..9000],
        seed: u64,
    ) {
        let view = [outer, groups, inner];
        let operation = Elementwise { rule, view };
        let count = outer * groups * inner;
        let mut numbers = values(seed, count);
        if let [first, second, ..] = numbers.as_mut_slice() {
            // For some rules these inputs lie on a bound or a threshold.
            (*first, *second) = (0.0, -0.5);
        }
        let x = tensor(&numbers, view);
        let grad = tensor(&values(seed ^ 1, count), view);
        let parameters = parameters(rule, groups, seed ^ 2);

        let fast = Flex::fake_quantize(x.clone(), parameters.clone(), operation, F32);
        prop_assert_eq!(fast.shape().to_vec(), view.to_vec());
        let slow = reference::fake_quantize::<Flex>(x.clone(), parameters.clone(), operation, F32);
        prop_assert_eq!(host(fast), host(slow));

        let (fast_x, fast_parameters) = Flex::fake_quantize_backward(
            x.clone(), parameters.clone(), grad.clone(), operation, 1.0,
        );
        let (slow_x, slow_parameters) =
            reference::fake_quantize_backward::<Flex>(x, parameters.clone(), grad, operation);
        prop_assert_eq!(host(fast_x), host(slow_x));
        // The sums have up to `count` terms below 4. Those of slopes and widths grow with 1/a² and
        // 1/a, where the parameters a are above 0.1.
        let largest = 4.0 * match rule {
            Rule::Slopes { .. } => 100.0,
            Rule::Intervals { .. } => 10.0,
            _ => 1.0,
        };
        for (fast, slow) in host(fast_parameters).into_iter().zip(host(slow_parameters)) {
            prop_assert!(
                (fast - slow).abs() <= 1e-6 * largest * count as f32,
                "{fast} {slow} {rule:?}"
            );
        }
    }

    /// NaN stays NaN, and no other element is affected.
    #[test]
    fn what_is_not_a_number_stays_so(rule in rules(), seed: u64) {
        let operation = Elementwise { rule, view: [1, 1, 40] };
        let parameters = parameters(rule, 1, seed);
        let clean = values(seed, 40);
        let mut dirty = clean.clone();
        dirty[7] = f32::NAN;
        let of = |values: &[f32]| {
            let x = tensor(values, [1, 1, 40]);
            [
                host(Flex::fake_quantize(x.clone(), parameters.clone(), operation, F32)),
                host(reference::fake_quantize::<Flex>(x, parameters.clone(), operation, F32)),
            ]
        };
        for (mut dirty, clean) in of(&dirty).into_iter().zip(of(&clean)) {
            prop_assert!(dirty[7].is_nan());
            dirty[7] = clean[7];
            prop_assert_eq!(dirty, clean);
        }
    }

    /// The bases agree to the precision of f32, in which the composed operations solve. The levels
    /// agree within twice the relative rounding error of f32, because some thresholds are rounded
    /// twice in one of the two computations.
    #[test]
    fn the_basis_equals_the_composed_operations(
        levels in prop_oneof![Just(2usize), Just(3), Just(4), Just(8)],
        signed: bool,
        weight: bool,
        groups in 1usize..4,
        inner in 50usize..3000,
        seed: u64,
    ) {
        let bits = if levels == 3 { 1 } else { levels.ilog2() as usize };
        let basis = Basis { bits, levels, signed, position: 0.4, weight };
        let drawn = values(seed, groups * bits).into_iter().enumerate();
        let drawn = drawn.map(|(at, x)| (x.abs() + 0.5) * f32::powi(2.0, (at % bits) as i32) / 2.0);
        let drawn = TensorData::new(drawn.collect::<Vec<f32>>(), [groups, bits]);
        let drawn = FlexTensor::from_data(drawn);
        let fast = host(Flex::basis_levels(drawn.clone(), basis));
        let slow = host(reference::basis_levels::<Flex>(drawn.clone(), basis));
        for (fast, slow) in fast.iter().zip(&slow) {
            prop_assert!((fast - slow).abs() <= 2.0 * f32::EPSILON * slow.abs().max(1.0));
        }
        let view = [1, groups, inner];
        let x = tensor(&values(seed ^ 1, groups * inner), view);
        let fast = host(Flex::fit_basis(x.clone(), drawn.clone(), basis, view));
        let slow = host(reference::fit_basis::<Flex>(x, drawn, basis, view));
        for (fast, slow) in fast.chunks(bits + 1).zip(slow.chunks(bits + 1)) {
            // The comparison makes sense only where the data determine the basis.
            prop_assume!(fast[bits] < 1e3);
            for (fast, slow) in fast[..bits].iter().zip(&slow[..bits]) {
                prop_assert!((fast - slow).abs() < 1e-3 * fast.abs().max(1.0), "{fast} {slow}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A few thresholds are all compared, many are searched. Both ways count the thresholds that x
    /// is above.
    #[test]
    fn counting_thresholds_equals_the_composed_operations(
        outer in 1usize..4,
        groups in 1usize..6,
        inner in prop_oneof![1usize..40, 5000usize..9000],
        count in prop_oneof![0usize..5, 14usize..19, 255usize..=255],
        seed: u64,
    ) {
        let shape = [outer, groups, inner];
        let mut x = values(seed, outer * groups * inner);
        x[0] = f32::NAN;
        let mut thresholds = values(seed ^ 1, groups * count);
        if count > 0 {
            thresholds.chunks_mut(count).for_each(|group| group.sort_by(f32::total_cmp));
            // A value on a threshold is not above it.
            x[inner - 1] = thresholds[0];
        }
        let (x, thresholds) = (tensor(&x, shape), tensor(&thresholds, [1, groups, count]));
        let fast = Flex::count_below(x.clone(), thresholds.clone());
        prop_assert_eq!(fast.shape().to_vec(), shape.to_vec());
        prop_assert_eq!(host(fast), host(reference::count_below::<Flex>(x, thresholds)));
    }
}

#[test]
fn a_transposed_input_is_read_in_its_logical_order() {
    let x = tensor(&values(1, 24), [2, 3, 4]).transpose(0, 2);
    let clip = FlexTensor::from_data(TensorData::new(vec![0.5f32, 1.0, 1.5], [3, 1]));
    let rule =
        Rule::Clip { steps: 3.0, signed: false, rescale: false, learned_bound: false, ewgs: 0.0 };
    let operation = Elementwise { rule, view: [4, 3, 2] };
    let fast = Flex::fake_quantize(x.clone(), clip.clone(), operation, F32);
    assert_eq!(host(fast), host(reference::fake_quantize::<Flex>(x, clip, operation, F32)));
}
