//! A training step does not wait for its device.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{fs, path::Path};

use burn::tensor::{Device, Distribution, Tensor};
use common::{configs, make};
use proptest::prelude::*;
use quant_core::{host::reads, training_call};

proptest! {
    #![proptest_config(common::cases())]

    #[test]
    fn a_training_step_reads_nothing_back(config in configs(), warm_up: bool) {
        let device = Device::flex().autodiff();
        let mut quantizer = make(&config, common::SHAPE, &device);
        if warm_up {
            quantizer.set_warm_up(1, 1.0, 0);
        }
        let x = Tensor::<4>::random(common::SHAPE, Distribution::Default, &device).require_grad();
        let before = reads();
        // The first call may be one of a warm-up.
        for _ in 0..2 {
            let (y, call) = training_call(|| quantizer.forward(x.clone()));
            y.sum().backward();
            quantizer = call.settle(quantizer);
        }
        prop_assert_eq!(reads(), before);
    }
}

#[test]
fn describing_a_quantizer_reads_its_values_back() {
    use quant_core::{Levels, Method, QuantizerConfig, Role};
    let levels = Levels::from_bits(2).unwrap();
    let config = QuantizerConfig::new(Method::Lsq, Role::Activation, levels);
    let quantizer = make(&config, common::SHAPE, &Device::flex());
    let before = reads();
    quantizer.validate().unwrap();
    assert!(reads() > before);
}

/// The count of reads is complete: values come back from the device in `host.rs` only, except for
/// sums over processes, which the host computes.
#[test]
fn values_come_back_in_one_place() {
    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { sources(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let known = ["host.rs", "ops/tensor_ops.rs", "ops/tests.rs"];
    for path in found.iter().filter(|path| !known.iter().any(|known| path.ends_with(known))) {
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let reading = ["into_data(", "into_scalar(", "into_data_async(", "try_read_sync("];
        for line in code {
            assert!(!reading.iter().any(|word| line.contains(word)), "{}: {line}", path.display());
        }
    }
}
