//! The engine computes the bits of the reference, for random models, with every instruction set and
//! every way to store operands.

mod common;

use common::{Random, bits, lowest_code};
use proptest::prelude::*;
use quant_infer::{
    Image, Network, Packing,
    model::{Input, Model, Node, Op, Pool},
    reference,
};
use quant_kernels::simd::InstructionSet;

/// Compares scores and all codes for one image.
fn compare(model: &Model, image: &Image<'_>) -> Result<(), TestCaseError> {
    let expected = reference::run(model, image).expect("the model is valid");
    let packings = || core::iter::once(None).chain(Packing::ALL.map(Some));
    let sets = InstructionSet::available();
    for (set, packing) in sets.flat_map(|set| packings().map(move |packing| (set, packing))) {
        let network = Network::with_packing(model, set, packing).expect("the model is valid");
        let mut session = network.session();
        for layer in 0..model.nodes.len() {
            session.watch(layer);
        }
        // The second run finds the memory as the first one left it.
        for _ in 0..2 {
            let scores = session.run(image).expect("the image fits").to_vec();
            prop_assert_eq!(bits(&scores), bits(expected.scores()), "{:?} {:?}", set, packing);
            for (layer, codes) in expected.codes.iter().enumerate() {
                let Some(codes) = codes else { continue };
                let found = session.codes(layer);
                let node = &model.nodes[layer];
                let [channels, height, width] = expected.values[node.inputs[0]].shape;
                let lowest: Vec<u8> = (codes.iter().enumerate())
                    .map(|(at, code)| lowest_code(&node.op, channels, at / (height * width), *code))
                    .collect();
                prop_assert_eq!(found, Some(&lowest[..]), "{} with {:?} {:?}", layer, set, packing);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn scores_and_codes_are_those_of_the_reference(seed: u64) {
        let mut random = Random(seed);
        let model = random.model();
        if model.check().is_ok() {
            let [height, width] = model.input.size;
            let size = [height + random.below(3), width + random.below(3)];
            let size = if model.shapes(size).is_ok() { size } else { model.input.size };
            let channels = model.input.scale.len();
            let bytes = random.bytes(channels * size[0] * size[1]);
            compare(&model, &Image::interleaved(&bytes, size))?;
            compare(&model, &Image::planar(&bytes, size))?;
            let floats = random.numbers(bytes.len());
            compare(&model, &Image::floats(&floats, size))?;
        }
    }
}

/// The codes of quantizers that stand alone: one became thresholds of a convolution's sums together
/// with what follows it, and nothing reads the value of the other, which quantizes the image.
#[test]
fn quantizers_have_codes_also_where_their_values_are_not_computed() {
    let mut random = Random(3);
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let mut integers = |channels, is_folded: bool| loop {
        let conv = random.conv(channels, [6, 5], false);
        let terms = conv.integer_terms();
        let one = terms.is_some_and(|(a, b)| [a.0.len(), b.0.len(), a.0[0].scales.len()] == [1; 3]);
        let few = conv.quantizer.as_ref().is_some_and(|quantizer| quantizer.levels == 4);
        if one && few && conv.groups == 1 && (!is_folded || conv.kernel == [1, 1]) {
            break conv;
        }
    };
    for _ in 0..30 {
        let first = integers(3, false);
        let channels = first.out_channels;
        let second = integers(channels, true);
        let mut alone = integers(channels, true).quantizer.unwrap();
        alone.terms = None;
        let mut of_image = integers(3, false).quantizer.unwrap();
        of_image.terms = None;
        let scale = (0..channels).map(|channel| channel as f32 - 1.5).collect();
        let model = Model {
            name: "alone".into(),
            producer: "test".into(),
            classes: Vec::new(),
            input: Input {
                size: [6, 5],
                shorter_side: None,
                scale: vec![0.01; 3],
                shift: vec![-1.0; 3],
            },
            nodes: vec![
                node("input", Op::Input, vec![]),
                node("unread", Op::Quantize(Box::new(of_image)), vec![0]),
                node("first", Op::Conv(Box::new(first)), vec![0]),
                node("norm", Op::Affine { scale, shift: vec![0.3; channels] }, vec![2]),
                node("alone", Op::Quantize(Box::new(alone)), vec![3]),
                node("second", Op::Conv(Box::new(second)), vec![4]),
                node("pool", Op::GlobalPool, vec![5]),
            ],
        };
        let folded = Network::new(&model).unwrap().compare_thresholds(&model, 1000).unwrap();
        assert_eq!(folded.convolutions, 1);
        let bytes: Vec<u8> = (0..90).map(|index| (index * 37 % 256) as u8).collect();
        compare(&model, &Image::interleaved(&bytes, [6, 5])).unwrap();
    }
}

#[test]
fn most_random_models_are_valid() {
    let valid = (0..500).filter(|seed| Random(*seed).model().check().is_ok()).count();
    assert!(valid > 450, "{valid} of 500");
}

#[test]
fn maxima_of_zeros_and_nan_are_those_of_the_reference() {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let pool = Pool { kernel: 2, stride: 2, padding: 0, ceil: false };
    let model = Model {
        name: "maxima".into(),
        producer: "test".into(),
        classes: Vec::new(),
        input: Input {
            size: [2, 2],
            shorter_side: None,
            scale: vec![1.0; 16],
            shift: vec![0.0; 16],
        },
        nodes: vec![node("input", Op::Input, Vec::new()), node("pool", Op::MaxPool(pool), vec![0])],
    };
    let numbers = [0.0, -0.0, f32::NAN, -1.0];
    for case in 0..256 {
        let square: Vec<f32> = (0..4).map(|at| numbers[case >> (2 * at) & 3]).collect();
        compare(&model, &Image::floats(&square.repeat(16), [2, 2])).unwrap();
    }
}

/// Images so large that a pool is computed while the convolution before it still runs, and only the
/// last rows of its numbers are kept.
#[test]
fn pools_of_large_images_are_those_of_the_reference() {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let max = |kernel, stride, padding, ceil| Op::MaxPool(Pool { kernel, stride, padding, ceil });
    let pools = [
        max(3, 2, 1, false),
        max(2, 2, 0, true),
        max(3, 1, 1, false),
        max(1, 3, 0, false),
        max(2, 3, 1, true),
        Op::AveragePool(2),
        Op::AveragePool(3),
    ];
    let mut random = Random(11);
    for (pool, also_reads) in
        pools.into_iter().flat_map(|pool| [(pool.clone(), false), (pool, true)])
    {
        let conv = loop {
            let conv = random.conv(3, [61, 44], false);
            let is_whole = conv.groups == 1 && conv.stride == [1, 1] && conv.kernel[0] <= 3;
            if is_whole && conv.out_channels.is_multiple_of(16) {
                break conv;
            }
        };
        let channels = conv.out_channels;
        let input = Input {
            size: [61, 44],
            shorter_side: None,
            scale: vec![0.0171; 3],
            shift: vec![-2.0, 0.5, -1.0],
        };
        let mut nodes = vec![
            node("input", Op::Input, vec![]),
            node("conv", Op::Conv(Box::new(conv)), vec![0]),
            node("relu", Op::Relu, vec![1]),
            node("pool", pool, vec![2]),
        ];
        let [_, height, width] = {
            let model = Model {
                name: String::new(),
                producer: String::new(),
                classes: Vec::new(),
                input: input.clone(),
                nodes: nodes.clone(),
            };
            model.shapes([61, 44]).unwrap()[3]
        };
        let next = random.conv(channels, [height, width], false);
        nodes.push(node("next", Op::Conv(Box::new(next)), vec![3]));
        nodes.push(node("scores", Op::GlobalPool, vec![4]));
        if also_reads {
            // The numbers before the pool are needed once more, so all rows must be kept.
            nodes.push(node("mean", Op::GlobalPool, vec![2]));
            nodes.push(node("both", Op::Concatenate, vec![5, 6]));
        }
        let (name, producer) = ("pools".into(), "test".into());
        let model = Model { name, producer, classes: Vec::new(), input, nodes };
        let bytes = random.bytes(3 * 61 * 44);
        compare(&model, &Image::interleaved(&bytes, [61, 44])).unwrap();
    }
}

#[test]
fn a_batch_has_the_scores_of_its_images() {
    let mut random = Random(7);
    let model = random.model();
    let network = Network::new(&model).unwrap();
    let size @ [height, width] = model.input.size;
    let length = height * width * model.input.scale.len();
    let pixels: Vec<Vec<u8>> = (0..7).map(|_| random.bytes(length)).collect();
    let mut images: Vec<Image<'_>> =
        pixels.iter().map(|pixels| Image::interleaved(pixels, size)).collect();
    let expected: Vec<_> = images.iter().map(|image| network.run(image).unwrap()).collect();
    for threads in [0, 1, 3, 9] {
        assert_eq!(network.run_batch(&images, threads).unwrap(), expected);
    }
    assert_eq!(network.run_batch(&[], 2), Ok(Vec::new()));
    images[3] = Image::planar(&pixels[0][1..], size);
    let error = network.run_batch(&images, 2).unwrap_err().to_string();
    assert!(error.starts_with("the image has"), "{error}");
}
