use proptest::prelude::*;

use super::*;
use crate::engine::per_channel::PerChannel;
use crate::model::{Dynamic, Quantizer, Term, Weight};

/// A convolution of one input channel, whose sums are -(largest - 1)/2 to (largest - 1)/2.
fn conv(scale: f32, largest: i16, thresholds: &[f32]) -> Conv {
    let levels = thresholds.len() + 1;
    let term = |scale, integers| Terms(vec![Term { scales: vec![scale], integers }]);
    Conv {
        in_channels: 1,
        out_channels: 1,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
        quantizer: Some(Quantizer {
            groups: 1,
            levels,
            thresholds: thresholds.to_vec(),
            values: (0..levels).map(|code| code as f32).collect(),
            terms: Some(term(1.0, (0..levels as i16).map(|_| largest).collect())),
            dynamic: Dynamic::None,
        }),
        pads_codes: false,
        weight: Weight::Codes(WeightCodes {
            levels: 2,
            codes: vec![1],
            groups: 1,
            run: 1,
            values: vec![-1.0, 1.0],
            terms: Some(term(scale, vec![-1, 1])),
        }),
        bias: None,
    }
}

/// Factors, with those that turn codes round, make them constant, or round everything away.
fn factor() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -2f32..2.0,
        1 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(1.0),
        1 => Just(-0.5),
        1 => Just(1e-40),
        1 => Just(-1e-30),
        1 => Just(3e4),
    ]
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![
        4 => (factor(), factor())
            .prop_map(|(scale, shift)| [scale, shift].map(|x| PerChannel::new(&[x])))
            .prop_map(|[scale, shift]| Link::Affine { scale, shift }),
        1 => factor().prop_map(Link::AddScalar),
        1 => factor().prop_map(Link::MulScalar),
        1 => factor().prop_map(|bias| Link::Bias(PerChannel::new(&[bias]))),
        1 => Just(Link::Relu),
        1 => Just(Link::Relu6),
        1 => (0f32..2.0).prop_map(Link::LeakyRelu),
        1 => (factor(), 0f32..2.0, factor()).prop_map(|(before, slope, after)| {
            let [before, slope, after] = [before, slope, after].map(|x| PerChannel::new(&[x]));
            Link::RPRelu { before, slope, after }
        }),
    ]
}

/// Thresholds; half of them are small multiples of 1/2, which sums reach exactly.
fn thresholds() -> impl Strategy<Value = Vec<f32>> {
    let threshold = prop_oneof![
        (-8i8..8).prop_map(|x| f32::from(x) / 2.0),
        -40f32..40.0,
        Just(f32::NEG_INFINITY),
        Just(f32::INFINITY),
    ];
    prop::collection::vec(threshold, 1..16).prop_map(|mut thresholds| {
        thresholds.sort_by(f32::total_cmp);
        thresholds
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn thresholds_of_sums_give_the_codes_of_what_they_replace(
        scale in factor().prop_filter("scales are not 0", |scale| *scale != 0.0),
        links in prop::collection::vec(link(), 0..5),
        thresholds in thresholds(),
        largest in 1i16..700,
    ) {
        let conv = conv(scale, largest, &thresholds);
        let (Some(quantizer), Weight::Codes(codes)) = (&conv.quantizer, &conv.weight) else {
            return Ok(());
        };
        let terms = conv.integer_terms().unwrap();
        let coder = Coder::new(quantizer, 1);
        let folded = fold(&conv, terms, codes, &links, &[&coder]).unwrap();
        for sum in -i32::from(largest)..=i32::from(largest) {
            let mut x = sum as f32 * scale;
            for link in &links {
                x = link.of(0, x).unwrap();
            }
            let sum = if folded.negate[0] { -sum } else { sum };
            let passed = folded.thresholds[0].channel(0).filter(|threshold| sum > *threshold);
            let code = passed.count();
            prop_assert_eq!(code, usize::from(quantizer.code_of(0, x)), "sum {}", sum);
        }
    }
}

#[test]
fn what_is_not_monotone_is_not_folded() {
    let conv = conv(1.0, 9, &[0.5]);
    let (Some(quantizer), Weight::Codes(codes)) = (&conv.quantizer, &conv.weight) else { return };
    let coder = Coder::new(quantizer, 1);
    let folded = |link| fold(&conv, conv.integer_terms().unwrap(), codes, &[link], &[&coder]);
    assert!(folded(Link::Relu).is_some());
    assert!(folded(Link::LeakyRelu(-0.1)).is_none());
    // Infinite numbers may become NaN later.
    assert!(folded(Link::MulScalar(f32::MAX)).is_none());
}
