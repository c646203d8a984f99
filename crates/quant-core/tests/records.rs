//! Burn records of quantizers: what was saved is restored, and loading a record of another
//! quantizer is an error.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use burn::{
    module::{Module, ParamGroup},
    nn::LinearConfig,
    store::ModuleRecord,
    tensor::{Device, Tensor},
};
use common::{config, host, make, methods};
use quant_core::{
    Granularity, Levels, Method, Normalization, Quantizer, QuantizerConfig, Range, Role,
    quantize_weights,
};

const SHAPE: [usize; 4] = [4, 4, 1, 1];

/// Writes a record to bytes and reads it again.
fn record(quantizer: &Quantizer) -> ModuleRecord {
    let bytes = quantizer.clone().into_record().into_bytes().unwrap();
    ModuleRecord::from_bytes(bytes).unwrap()
}

fn of(config: &QuantizerConfig) -> Quantizer {
    make(config, SHAPE, &Device::flex())
}

/// Returns why a record of one quantizer is not loaded into another.
fn refusal(saved: &QuantizerConfig, into: &QuantizerConfig) -> String {
    let loaded = of(into).try_load_record(record(&of(saved)));
    loaded.map(|_| panic!("{saved:?} went into {into:?}")).unwrap_or_else(|e| e.to_string())
}

#[test]
fn a_record_restores_the_quantizer_it_is_of() {
    for (method, role) in methods() {
        let config = config(method, role, 4);
        let mut saved = of(&config);
        for name in saved.learned().iter().map(|learned| learned.name).collect::<Vec<_>>() {
            let count = saved.learned_values(name).unwrap().len();
            saved.set_learned(name, &vec![0.4; count]);
        }
        let loaded = of(&config).load_record(record(&saved));
        let x: Vec<f32> = (0..16).map(|index| index as f32 / 8.0 - 1.0).collect();
        let y = |quantizer: &Quantizer| {
            host(quantizer.forward(common::tensor(&x, SHAPE, &Device::flex())))
        };
        assert_eq!(y(&loaded), y(&saved), "{method:?} {role:?}");
    }
}

#[test]
fn a_record_of_other_levels_is_refused_with_both_numbers() {
    for (method, role) in methods() {
        let (two, four) = (config(method, role, 4), config(method, role, 16));
        if two.levels == four.levels {
            continue;
        }
        let text = refusal(&two, &four);
        let (from, to) = (two.levels.count(), four.levels.count());
        assert!(text.contains("levels"), "{text}");
        assert!(text.contains(&from.to_string()) && text.contains(&to.to_string()), "{text}");
    }
}

#[test]
fn a_record_of_another_method_range_granularity_or_normalisation_is_refused() {
    let lsq = config(Method::Lsq, Role::Activation, 4);
    let signed = QuantizerConfig { range: Range::Signed, ..lsq.clone() };
    assert!(refusal(&signed, &lsq).contains("lsq-unsigned"));
    let channels = QuantizerConfig { granularity: Granularity::PerChannel, ..lsq.clone() };
    assert!(refusal(&channels, &lsq).contains("groups"));
    // Neither of them learns anything, so only the signature differs.
    let (dorefa, signs) =
        (config(Method::Dorefa, Role::Activation, 2), config(Method::XNOR, Role::Activation, 2));
    assert!(refusal(&dorefa, &signs).contains("xnor"));
    let plain = config(Method::Dorefa, Role::Weight, 4);
    let normalized = QuantizerConfig { normalization: Normalization::VarMean, ..plain.clone() };
    assert!(refusal(&plain, &normalized).contains("var-mean"));
}

#[test]
fn a_record_without_signature_loads_where_parts_may_be_missing() {
    let mut saved = of(&config(Method::Lsq, Role::Activation, 4));
    saved.set_learned("clip_val", &[0.7]);
    let earlier = saved.clone().into_record_group(ParamGroup::from_path("method.Lsq.clip_val"));
    assert_eq!(earlier.len(), 1);
    let fresh = || of(&config(Method::Lsq, Role::Activation, 4));
    assert!(fresh().try_load_record(earlier.clone()).is_err());
    let loaded = fresh().try_load_record(earlier.allow_partial(true)).unwrap();
    assert_eq!(loaded.learned_values("clip_val"), Some(vec![0.7]));
}

/// The record of a layer of Burn's contains the quantizers on its weights.
/// A record in full precision is loaded before the weights are quantized. Loaded afterwards, it is
/// refused unless parts may be missing; calibrated again, the model is then the same.
#[test]
fn a_record_in_full_precision_loads_in_either_order() {
    let device = Device::flex();
    let lsq = config(Method::Lsq, Role::Weight, 4);
    let fresh = || LinearConfig::new(8, 4).init(&device);
    let quantized = |layer| quantize_weights(layer, &lsq, |_| true).unwrap();
    let trained = fresh();
    let saved = || {
        let bytes = trained.clone().into_record().into_bytes().unwrap();
        ModuleRecord::from_bytes(bytes).unwrap()
    };
    let before = quantized(fresh().load_record(saved()));
    let refused = quantized(fresh()).try_load_record(saved()).unwrap_err().to_string();
    assert!(refused.contains("weight.quant_weight"), "{refused}");
    let after = quantized(fresh()).try_load_record(saved().allow_partial(true)).unwrap();
    assert_eq!(host(after.weight.base()), host(trained.weight.val()));
    let after = quantized(after);
    assert_eq!(host(after.weight.val()), host(before.weight.val()));

    // A record of the quantized model holds more than a model in full precision has.
    let refused = fresh().try_load_record(before.into_record()).unwrap_err().to_string();
    assert!(refused.contains("weight.quant_weight"), "{refused}");
}

#[test]
fn a_record_of_a_users_model_knows_its_quantizers() {
    let model = |bits: u32| {
        let levels = Levels::from_bits(bits).unwrap();
        let config = QuantizerConfig::new(Method::Lsq, Role::Weight, levels);
        let layer = LinearConfig::new(8, 4).init(&Device::flex());
        quantize_weights(layer, &config, |path| path == "weight").unwrap()
    };
    let saved = model(2);
    let bytes = || saved.clone().into_record().into_bytes().unwrap();
    let loaded = model(2).load_record(ModuleRecord::from_bytes(bytes()).unwrap());
    let x = Tensor::<2>::ones([1, 8], &Device::flex());
    assert_eq!(host(loaded.forward(x.clone())), host(saved.forward(x)));
    let refused = model(4).try_load_record(ModuleRecord::from_bytes(bytes()).unwrap());
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("weight") && text.contains("levels"), "{text}");
}
