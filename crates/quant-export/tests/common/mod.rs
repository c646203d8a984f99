//! Networks with random numbers, and the comparisons of their evaluations.

mod engine;

use burn::tensor::{Device, Tensor, TensorData};
use engine::check_engine;
use quant_export::{Lowered, Options, Served, compare, input, lower};
use quant_golden::{normals, parameter};
use quant_infer::{Image, model::Model, reference};
use quant_kernels::simd::InstructionSet;
use quant_nn::{Network, StateDict, state::Entry};

/// Mean and standard deviation of the images.
const NORMALIZATION: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.5], [0.229, 0.224, 0.225]);

/// The network with the numbers that golden networks have, whatever its method.
pub(crate) fn randomized(network: Network, seed: &str) -> Network {
    let state = StateDict::of(&network);
    let entries = state.entries().map(|(name, entry)| {
        // What follows the data starts as the quantizer has it.
        if name.ends_with(".basis") || name.ends_with(".iteration") {
            return (name.to_owned(), entry.clone());
        }
        let mut values = parameter(name, &entry.shape);
        if name.ends_with("running_mean") || name.ends_with("bias") {
            let noise = normals(&format!("{seed}/{name}"), values.len());
            values.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.2 * noise);
        }
        (name.to_owned(), Entry { shape: entry.shape.clone(), values })
    });
    let (network, report) = StateDict::from_entries(entries).load_into(network);
    report.require(false).unwrap();
    network
}

/// Bytes of images, planar.
fn pixels(images: usize, size: usize) -> Vec<u8> {
    let normals = normals("pixels", images * 3 * size * size);
    normals.into_iter().map(|x| (128.0 + 60.0 * x).clamp(0.0, 255.0) as u8).collect()
}

pub(crate) fn lowered(network: &Network, name: &str) -> Lowered {
    let (mean, std) = NORMALIZATION;
    let options = Options::new(name, input(network.config().input_size(), mean, std));
    lower(network, options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn normalized(model: &Model, pixels: &[u8], size: usize) -> Vec<f32> {
    let channel = |index: usize| index / (size * size) % 3;
    let number = |(index, byte): (usize, &u8)| model.input.number(channel(index), *byte);
    pixels.iter().enumerate().map(number).collect()
}

/// Lowers a network, and checks that the served evaluation has the bits of the plain executor, in
/// the codes of every quantizer and in the scores, and so has the engine; and that at most
/// `percent` of the codes differ from those of the usual evaluation.
pub(crate) fn check(network: &Network, name: &str, percent: u64) -> Lowered {
    let device = Device::flex();
    let size = network.config().input_size();
    let lowered = lowered(network, name);
    let served = Served::new(&lowered.model, &device).unwrap();
    let images = 2;
    let pixels = pixels(images, size);
    let values = normalized(&lowered.model, &pixels, size);
    let batch = Tensor::from_data(TensorData::new(values, [images, 3, size, size]), &device);
    let (scores, codes) = served.forward_codes(batch.clone());
    let scores: Vec<f32> = scores.into_data().iter().collect();
    let classes = scores.len() / images;
    for (index, image) in pixels.chunks(3 * size * size).enumerate() {
        let image = Image::planar(image, [size, size]);
        let trace = reference::run(&lowered.model, &image).unwrap();
        let own = &scores[index * classes..][..classes];
        let bits = |scores: &[f32]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let traced = trace.codes.iter().enumerate().filter(|(_, codes)| codes.is_some());
        assert_eq!(traced.clone().count(), codes.len(), "{name}");
        for ((node, plain), own) in traced.zip(&codes) {
            let count = own.codes.len() / images;
            assert_eq!(node, own.node);
            let same = plain.as_deref() == Some(&own.codes[index * count..][..count]);
            assert!(same, "{name}: the codes of {} differ", own.layer);
        }
        assert_eq!(bits(own), bits(trace.scores()), "{name}: {own:?}, {:?}", trace.scores());
        let sets = InstructionSet::available();
        check_engine(&lowered.model, (&image, index), (own, &codes), sets)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let compared = compare(network, &lowered, &served, batch);
    close(&compared, name, percent);
    lowered
}

/// Few codes differ from those of the usual evaluation, and the scores are close.
fn close(compared: &quant_export::Compared, name: &str, percent: u64) {
    let comparison = &compared.comparison;
    // No quantizer of such networks is used several times.
    assert_eq!(comparison.not_compared, [""; 0], "{name}");
    let (mut codes, mut differ) = (0, 0);
    for layer in &comparison.layers {
        codes += layer.codes;
        differ += layer.differ;
    }
    assert!(
        differ * 100 <= percent * codes,
        "{name}: {differ} of {codes} codes differ\n{comparison}"
    );
    let host = |scores: &Tensor<2>| scores.clone().into_data().iter().collect::<Vec<f32>>();
    let (usual, served) = (host(&compared.usual), host(&compared.served));
    let error = quant_golden::relative_l2(&served, &usual);
    assert!(
        percent > 3 || error < 0.05,
        "{name}: {served:?} are not {usual:?}: {error}\n{comparison}"
    );
}
