//! The CPU kernel against the composed oracle.

use burn::{
    backend::{Flex, TensorMetadata},
    tensor::TensorData,
};
use burn_flex::FlexTensor;
use proptest::prelude::*;

use super::{QuantOps, reference};

fn tensor(values: &[f32], shape: [usize; 3]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values.to_vec(), shape))
}

fn host(tensor: FlexTensor) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// Deterministic values in -2..2.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// To the last bit, but for sums over a group, which are taken in another order.
    #[test]
    fn the_kernel_equals_the_composed_operations(
        outer in 1usize..4,
        groups in 1usize..6,
        inner in prop_oneof![1usize..40, 5000usize..9000],
        seed: u64,
        steps in 1u16..=255,
        signed: bool,
        rescale: bool,
        learned_bound: bool,
    ) {
        let shape = [outer, groups, inner];
        let count = outer * groups * inner;
        let x = tensor(&values(seed, count), shape);
        let grad = tensor(&values(seed ^ 1, count), shape);
        let clip: Vec<f32> = values(seed ^ 2, groups).iter().map(|x| x.abs() + 0.1).collect();
        let clip = tensor(&clip, [1, groups, 1]);
        let steps = f32::from(steps);

        let fast = Flex::clip_quantize(x.clone(), clip.clone(), steps, signed);
        prop_assert_eq!(fast.shape().to_vec(), shape.to_vec());
        let slow = reference::clip_quantize::<Flex>(x.clone(), clip.clone(), steps, signed);
        prop_assert_eq!(host(fast), host(slow));

        let rule = (steps, signed, rescale, learned_bound);
        let (fast_x, fast_clip) = Flex::clip_quantize_backward(
            x.clone(), clip.clone(), grad.clone(), steps, signed, rescale, learned_bound,
        );
        let (slow_x, slow_clip) =
            reference::clip_quantize_backward::<Flex>(x, clip, grad, rule);
        prop_assert_eq!(host(fast_x), host(slow_x));
        for (fast, slow) in host(fast_clip).into_iter().zip(host(slow_clip)) {
            // Sums of up to `count` terms below 4.
            prop_assert!((fast - slow).abs() <= 1e-6 * 4.0 * (count as f32), "{fast} {slow}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Few thresholds are all compared, many searched; both count those that x is above.
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
            // On a threshold is not above it.
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
    let clip = tensor(&[0.5, 1.0, 1.5], [1, 3, 1]);
    let fast = Flex::clip_quantize(x.clone(), clip.clone(), 3.0, false);
    assert_eq!(host(fast), host(reference::clip_quantize::<Flex>(x, clip, 3.0, false)));
}
