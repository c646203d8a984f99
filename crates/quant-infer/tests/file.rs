//! Files of packed networks: what is written is read, to the bit and in little space.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;
mod models;

use std::{collections::BTreeSet, fs};

use models::{random, resnet::resnet20};
use proptest::prelude::*;
use quant_infer::{
    Error,
    file::{File, WEIGHT_ALIGNMENT},
    model::{Model, Op, Weight},
};

/// All numbers, to the bit: equality of floats takes 0 for -0, and their text does not.
fn text(model: &Model) -> String {
    format!("{model:?}")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_model_comes_back_to_the_bit(seed: u64) {
        let model = random::model(seed);
        prop_assert_eq!(model.check(), Ok(()));
        let bytes = model.to_bytes();
        let read = Model::from_bytes(&bytes).unwrap();
        prop_assert_eq!(text(&read), text(&model));
        prop_assert_eq!(read.to_bytes(), bytes);
    }

    #[test]
    fn models_with_terms_that_are_not_their_values_come_back_too(seed: u64) {
        let model = common::Random(seed).model();
        let read = Model::from_bytes(&model.to_bytes()).unwrap();
        prop_assert_eq!(text(&read), text(&model));
    }
}

#[test]
fn random_models_have_all_operations() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        for node in random::model(seed).nodes {
            let text = format!("{:?}", node.op);
            seen.insert(text.split([' ', '(']).next().unwrap().to_string());
        }
    }
    assert_eq!(seen.len(), 21, "{seen:?}");
}

#[test]
fn a_file_takes_at_most_a_twentieth_more_than_its_numbers() {
    // The number of channels in units of 16, and the levels of weights and of activations. The
    // first has 42 kB, and the others more.
    let networks = [(1, 2, 2), (1, 3, 4), (1, 4, 4), (1, 4, 256), (1, 16, 16), (1, 256, 256)];
    let wider = [(2, 2, 2), (2, 3, 3), (2, 4, 4), (2, 4, 256), (2, 5, 5), (2, 8, 8)];
    println!("channels, levels of weights and activations: bytes / numbers");
    for (width, weight_levels, levels) in networks.into_iter().chain(wider) {
        let (model, content) = resnet20(width, weight_levels, levels);
        model.check().unwrap();
        let bytes = model.to_bytes();
        let numbers = content.packed + 4.0 * content.floats as f64;
        let ratio = bytes.len() as f64 / numbers;
        let network = format!("{}, {weight_levels} and {levels}", 16 * width);
        println!("{network}: {} / {numbers:.0} = {ratio:.4}", bytes.len());
        assert!(ratio <= 1.05, "{network}: {ratio}");
        assert_eq!(Model::from_bytes(&bytes).unwrap(), model);
    }
}

#[test]
fn weights_are_borrowed_at_multiples_of_16_bytes() {
    let (model, _) = resnet20(1, 4, 4);
    let bytes = model.to_bytes();
    let file = File::parse(&bytes).unwrap();
    assert_eq!(file.length(), bytes.len());
    for (node, stored) in model.nodes.iter().zip(file.nodes()) {
        let Op::Conv(conv) = &node.op else {
            assert_eq!(stored.weight, None);
            continue;
        };
        let weight = stored.weight.unwrap();
        let at = weight.bytes.as_ptr().addr() - bytes.as_ptr().addr();
        assert!(at.is_multiple_of(WEIGHT_ALIGNMENT) && at + weight.bytes.len() <= bytes.len());
        let kernel = conv.kernel[0] * conv.kernel[1];
        assert_eq!(weight.count, conv.out_channels * conv.in_channels / conv.groups * kernel);
        if let Weight::Codes(codes) = &conv.weight {
            assert_eq!(weight.levels, Some(codes.levels));
            let first = codes.codes[..4].iter().rev().fold(0, |byte, code| byte << 2 | code);
            assert_eq!(weight.bytes[0], first);
        }
    }
}

#[test]
fn a_file_is_saved_and_loaded() {
    let folder = std::env::temp_dir().join(format!("quant-infer-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("net.qnet");
    let model = random::model(1);
    fs::write(&path, "something older").unwrap();
    model.save(&path).unwrap();
    assert_eq!(Model::load(&path), Ok(model.clone()));
    assert_eq!(fs::read(&path).unwrap(), model.to_bytes());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");

    fs::write(&path, &model.to_bytes()[..100]).unwrap();
    let error = Model::load(&path).unwrap_err().to_string();
    assert!(error.contains("net.qnet is damaged: 100 bytes of"), "{error}");
    let missing = folder.join("missing").join("net.qnet");
    assert!(matches!(model.save(&missing), Err(Error::File(_))));
    // A folder, a pipe or a device is not replaced.
    #[cfg(unix)]
    {
        let socket = folder.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(model.save(&socket), Err(Error::File(_))));
        assert!(!fs::metadata(&socket).unwrap().is_file());
    }
    assert!(matches!(Model::load(&missing), Err(Error::File(_))));
    fs::remove_dir_all(&folder).unwrap();
}
