//! After the first image of a size, an image takes no memory: nothing is allocated.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;
mod memory;
mod models;

use common::Random;
use models::random;
use quant_infer::{Image, Network, model::Model};
use quant_kernels::simd::InstructionSet;

/// The kinds of operations of a model, by the names that Rust prints.
fn operations(model: &Model) -> impl Iterator<Item = String> {
    model.nodes.iter().map(|node| {
        let text = format!("{:?}", node.op);
        text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
    })
}

fn check(model: &Model, bytes: &[u8], watches: bool) {
    let size = model.input.size;
    let floats: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) / 64.0 - 2.0).collect();
    let images =
        [Image::interleaved(bytes, size), Image::planar(bytes, size), Image::floats(&floats, size)];
    for set in InstructionSet::available() {
        let network = Network::with_instruction_set(model, set).unwrap();
        let mut session = network.session();
        if watches {
            (0..model.nodes.len()).for_each(|layer| session.watch(layer));
        }
        let before = memory::allocations();
        session.run(&images[0]).unwrap();
        assert!(memory::allocations() > before, "the first image takes memory");
        for image in &images {
            let before = memory::allocations();
            session.run(image).unwrap();
            let count = memory::allocations() - before;
            assert_eq!(count, 0, "{set:?} {watches} {image:?} {model:?}");
        }
    }
}

#[test]
fn only_the_first_image_takes_memory() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let mut bytes = Random(seed);
        for model in [random::model(seed), Random(seed).model()] {
            if model.check().is_err() {
                continue;
            }
            seen.extend(operations(&model));
            let [height, width] = model.input.size;
            let bytes = bytes.bytes(model.input.scale.len() * height * width);
            check(&model, &bytes, seed % 2 == 0);
        }
    }
    // All operations that there are.
    assert_eq!(seen.len(), 21, "{seen:?}");
}

/// An image of a batch takes the list of its scores, and no other memory.
#[cfg(feature = "std")]
#[test]
fn an_image_of_a_batch_takes_memory_for_its_scores_alone() {
    for seed in 0..20 {
        let model = random::model(seed);
        let network = Network::new(&model).unwrap();
        let [height, width] = model.input.size;
        let bytes = Random(seed).bytes(model.input.scale.len() * height * width);
        let image = Image::interleaved(&bytes, model.input.size);
        let allocations = |images: usize| {
            let images = vec![image; images];
            let before = memory::allocations();
            let scores = network.run_batch(&images, 1).unwrap();
            let count = memory::allocations() - before;
            drop(scores);
            count
        };
        let [few, many] = [4, 20].map(allocations);
        assert_eq!(many - few, 16, "{model:?}");
    }
}
