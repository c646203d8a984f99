//! Every golden network: the served evaluation, the engine and the plain executor have the same
//! bits, in the scores and in the codes of every quantizer, and few codes differ from those of the
//! usual evaluation. The engine's thresholds of sums are compared with what they replace.
//!
//! `ROUNDS=4096` in the environment compares a million sums of each output channel, and not 256.
//!
//! `QUANT_PACKED_DIR=<folder> cargo test --release --workspace --test served_golden` also writes
//! the packed networks to a folder, for `benches/compare/exchange.py`.

#[path = "common/engine.rs"]
mod engine;

use std::{path::Path, process::ExitCode};

use burn::tensor::{Device, Tensor, TensorData};
use quant_core::qtool::QtoolOptions;
use quant_export::{Options, Served, compare, input, lower};
use quant_golden::{Check, Folder, Report, normals, parameter};
use quant_infer::{Image, reference};
use quant_kernels::simd::InstructionSet;
use quant_nn::{StateDict, keywords::network, state::Entry};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    model: String,
    keyword: String,
    options: String,
    input_size: usize,
    macs: u64,
}

/// Networks of more multiply-accumulates are not run by the plain executor, which takes seconds for
/// them, and only with the machine's own instruction set.
const LARGE: u64 = 100_000_000;

fn main() -> ExitCode {
    let checks: &[Check] = &[("models.json", models)];
    quant_golden::run(concat!(env!("CARGO_MANIFEST_DIR"), "/../quant-nn"), checks)
}

fn models(folder: &Folder) -> Option<Report> {
    folder.cases("models.json", |case: &Case| &case.name, check)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check(case: &Case) -> Result<(), String> {
    let device = Device::flex();
    let qtool = QtoolOptions::parse(&case.keyword, &case.options).map_err(text)?;
    let network = network(&case.model, &qtool).map_err(text)?.init(&device).map_err(text)?;
    let state = filled(&StateDict::of(&network));
    let (network, report) = state.load_into(network);
    report.require(false).map_err(text)?;

    let size = case.input_size;
    let options = Options::new(&*case.name, input(size, [0.5; 3], [0.25; 3]));
    let lowered = lower(&network, options).map_err(text)?;
    if let Some(folder) = std::env::var_os("QUANT_PACKED_DIR") {
        let name = format!("{}.qnet", case.name.replace('/', "-"));
        lowered.model.save(Path::new(&folder).join(name)).map_err(text)?;
    }
    let served = Served::new(&lowered.model, &device).map_err(text)?;
    let image = normals(&format!("{}/input", case.name), 3 * size * size);
    let batch = TensorData::new(image.clone(), [1, 3, size, size]);
    let batch = Tensor::from_data(batch, &device);
    let compared = compare(&network, &lowered, &served, batch.clone());
    let (scores, codes) = served.forward_codes(batch);
    let scores: Vec<f32> = scores.into_data().iter().collect();
    let bits = |scores: &[f32]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let image = Image::floats(&image, [size; 2]);
    let is_large = case.macs > LARGE;
    let sets = InstructionSet::available().take(if is_large { 1 } else { usize::MAX });
    engine::check_engine(&lowered.model, (&image, 0), (&scores, &codes), sets)?;
    if !is_large {
        let trace = reference::run(&lowered.model, &image).map_err(text)?;
        if bits(&scores) != bits(trace.scores()) {
            let plain = trace.scores();
            return Err(format!("scores {scores:?}, by the plain executor {plain:?}"));
        }
        for found in &codes {
            if trace.codes[found.node].as_ref() != Some(&found.codes) {
                return Err(format!("the plain executor has other codes in {}", found.layer));
            }
        }
    }
    let (codes, differ) = (compared.comparison.layers.iter())
        .fold((0, 0), |(codes, differ), layer| (codes + layer.codes, differ + layer.differ));
    // Weights are random, and a code that differs changes those that are computed from it: 2 % of
    // the codes of torchvision's ResNet-18 differ, and far fewer elsewhere.
    if differ * 100 > 3 * codes {
        return Err(format!("{differ} of {codes} codes differ\n{}", compared.comparison));
    }
    Ok(())
}

fn filled(state: &StateDict) -> StateDict {
    StateDict::from_entries(state.entries().map(|(name, entry)| {
        // What follows the data starts as the quantizer has it.
        if name.ends_with(".basis") || name.ends_with(".iteration") {
            return (name.to_owned(), entry.clone());
        }
        let values = parameter(name, &entry.shape);
        (name.to_owned(), Entry { shape: entry.shape.clone(), values })
    }))
}
