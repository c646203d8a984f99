//! What was saved comes back as it was: with the quantizers that were in force, undamaged, and
//! never larger than it can be.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use burn::tensor::{Device, Tensor};
use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    Network, NetworkConfig, NetworkError, Quantization, QuantizedModule, ResNetConfig, StateDict,
    keywords,
    resnet::{Depth, Stem},
};

fn resnet(method: Method, bits: u32) -> ResNetConfig {
    let levels = Levels::from_bits(bits).unwrap();
    let of = |role| Some(QuantizerConfig::new(method, role, levels));
    let quantization = Quantization {
        activation: of(Role::Activation),
        weight: of(Role::Weight),
        ..Quantization::default()
    };
    let config = ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 3, 8);
    ResNetConfig { width_alpha: 0.05, quantization, ..config }
}

fn config(method: Method, bits: u32) -> NetworkConfig {
    resnet(method, bits).into()
}

fn network(method: Method, bits: u32) -> Network {
    config(method, bits).init_seeded(1, &Device::flex()).unwrap()
}

/// A network whose weights a policy has brought to two bits, and one of whose quantizers is off.
fn changed() -> Network {
    let mut network = network(Method::Lsq, 4);
    network.change_quantizers(|layer, quantizer| match quantizer.config().role {
        Role::Weight => drop(quantizer.set_levels(Levels::from_bits(2).unwrap()).unwrap()),
        _ if layer == "layer1.1.conv1" => quantizer.set_enabled(false),
        _ => {}
    });
    network
}

fn scores(network: &Network) -> Vec<f32> {
    let ramp = Tensor::<1>::from_floats([0.3, -0.2, 1.0, 0.6], &Device::flex());
    let images = ramp.repeat_dim(0, 96).reshape([2, 3, 8, 8]);
    network.forward(images).into_data().iter().collect()
}

fn written(network: &Network) -> Vec<u8> {
    StateDict::of(network).to_bytes().unwrap()
}

fn read(bytes: &[u8]) -> StateDict {
    StateDict::from_bytes(bytes).unwrap()
}

#[test]
fn a_network_whose_levels_were_changed_comes_back_with_them() {
    let trained = changed();
    let state = read(&written(&trained));
    let fresh = state.network(&Device::flex()).unwrap().unwrap();
    let (restored, report) = state.load_into(fresh);
    report.require(false).unwrap();
    assert_eq!(scores(&restored), scores(&trained));
    let (_, _, weight) = &restored.quantizers()[1];
    assert_eq!(weight.config().levels.count(), 4);
}

#[test]
fn a_network_with_more_weights_than_the_file_has_numbers_is_not_made() {
    // A small file whose description names 300 times as many weights.
    let state = StateDict::of(&network(Method::Lsq, 4));
    let entries = state.entries().map(|(name, entry)| (name.to_owned(), entry.clone()));
    let claimed: NetworkConfig = ResNetConfig { width_alpha: 1.0, ..resnet(Method::Lsq, 4) }.into();
    let description = serde_json::json!({ "quant_train": "0.1.0", "network": claimed }).to_string();
    let file = StateDict::from_entries(entries).with_metadata("config", description);
    let error = read(&file.to_bytes().unwrap()).network(&Device::flex()).unwrap_err();
    assert!(matches!(&error, NetworkError::Structure { .. }), "{error}");
    assert!(error.to_string().contains("numbers: the file is cut off"), "{error}");
}

#[test]
fn a_network_rebuilt_from_its_configuration_alone_is_refused() {
    let (rebuilt, report) = read(&written(&changed())).load_into(network(Method::Lsq, 4));
    assert!(report.missing.is_empty() && report.mismatched.is_empty());
    let text = report.require(false).unwrap_err().to_string();
    let name = "layer1.0.conv1.quant_weight";
    let difference = format!("{name}: levels = 4 in the state, 16 in the network");
    assert!(text.contains(&difference), "{text}");
    assert!(report.require(true).is_ok(), "weights alone may be taken");
    let off = report.other_quantizers.iter().find(|(name, _)| name.contains("layer1.1.conv1"));
    assert_eq!(off.unwrap().1, "off in the state, on in the network");
    drop(rebuilt);
}

/// DoReFa learns nothing: no parameter tells its levels.
#[test]
fn another_method_granularity_or_number_of_levels_is_refused() {
    let state = StateDict::of(&network(Method::Dorefa, 2));
    let refusal = |other: &NetworkConfig| {
        let (_, report) = state.load_into(other.init(&Device::flex()).unwrap());
        report.require(false).unwrap_err().to_string()
    };
    assert!(refusal(&config(Method::Dorefa, 4)).contains("levels = 4 in the state, 16"));
    let mut signs = config(Method::Dorefa, 2);
    let weight = QuantizerConfig::new(Method::XNOR, Role::Weight, Levels::BINARY);
    signs.quantization_mut().weight = Some(weight);
    assert!(refusal(&signs).contains("method = dorefa in the state, xnor in the network"));
    let mut grouped = config(Method::Lsq, 2);
    grouped.quantization_mut().weight.as_mut().unwrap().granularity = Granularity::PerChannel;
    let (_, report) =
        StateDict::of(&network(Method::Lsq, 2)).load_into(grouped.init(&Device::flex()).unwrap());
    assert!(report.to_string().contains("granularity = per-tensor in the state"), "{report}");
    let mut real = config(Method::Dorefa, 2);
    *real.quantization_mut() = Quantization::default();
    assert!(refusal(&real).contains("none in the network"));
}

#[test]
fn what_only_training_depends_on_may_differ() {
    let mut other = config(Method::Lsq, 2);
    for quantizer in [&mut other.quantization_mut().activation].into_iter().flatten() {
        quantizer.gradient_scale = Default::default();
        quantizer.boundary = 3.0;
    }
    let (_, report) =
        StateDict::of(&network(Method::Lsq, 2)).load_into(other.init(&Device::flex()).unwrap());
    report.require(false).unwrap();
}

/// Without a checksum, and with the description that the training crate wrote before.
#[test]
fn files_of_earlier_versions_load() {
    let trained = changed();
    let quantizers = trained.quantizers().into_iter().filter(|(.., q)| q.is_changed());
    let changed: Vec<_> = quantizers
        .map(|(layer, role, q)| (layer, role, q.config().clone(), q.is_enabled()))
        .collect();
    // Options that nothing acts on were accepted, and written for all methods.
    let mut described = serde_json::to_value(trained.config()).unwrap();
    let weight = described.pointer_mut("/quantization/weight").unwrap();
    weight["ternary_threshold"] = 0.3.into();
    weight["closed_form"] = false.into();
    weight["initial_slope"] = 0.5.into();
    weight["threshold_position"] = 0.5.into();
    weight["running_mean_basis"] = false.into();
    weight["sign_scale"] = "none".into();
    weight["shift"] = false.into();
    weight["group_fallback"] = false.into();
    let text = format!(
        "{{\"quant_train\":\"0.1.0\",\"network\":{},\"changed\":{}}}",
        serde_json::to_string(&described).unwrap(),
        serde_json::to_string(&changed).unwrap()
    );
    let state = read(&written(&trained));
    let views: Vec<(String, Vec<usize>, Vec<u8>)> = (state.entries())
        .map(|(name, entry)| {
            let bytes = entry.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.to_owned(), entry.shape.clone(), bytes)
        })
        .collect();
    let views = views.iter().map(|(name, shape, bytes)| {
        let dtype = safetensors::Dtype::F32;
        (name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = std::collections::HashMap::from([("config".to_owned(), text)]);
    let state = read(&safetensors::serialize(views, Some(metadata)).unwrap());
    let fresh = state.network(&Device::flex()).unwrap().unwrap();
    let (restored, report) = state.load_into(fresh);
    report.require(false).unwrap();
    assert_eq!(scores(&restored), scores(&trained));
    let (_, report) = state.load_into(network(Method::Lsq, 4));
    assert!(report.require(false).is_err());
}

#[test]
fn equal_networks_are_equal_files() {
    let bytes = || {
        let state = StateDict::of(&changed());
        let texts = ["a", "b", "c", "d"].into_iter();
        texts.fold(state, |state, key| state.with_metadata(key, "text")).to_bytes().unwrap()
    };
    assert!(bytes() == bytes());
    let first = written(&changed());
    let again = read(&first).to_bytes().unwrap();
    assert!(first == again, "reading and writing changes nothing");
}

/// Every seventh byte of the header, and every 97th of the data.
#[test]
fn a_damaged_file_is_an_error_or_the_same_network() {
    let bytes = written(&changed());
    let whole = read(&bytes);
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize + 8;
    let same = |a: &StateDict, b: &StateDict| a.entries().eq(b.entries());
    let mut refused = 0;
    for at in (0..header).step_by(7).chain((header..bytes.len()).step_by(97)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match StateDict::from_bytes(&damaged) {
            Ok(state) => assert!(same(&state, &whole) && at < header, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > header / 14);
    for length in [0, 7, header, bytes.len() - 1] {
        assert!(StateDict::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let error = StateDict::from_bytes(&damaged).unwrap_err();
    assert!(matches!(error, NetworkError::Checksum { .. }), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn sizes_beyond_their_bounds_are_refused_before_anything_is_made() {
    let resnet = || ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 10, 64);
    let large = 1usize << 32;
    for (config, part) in [
        (ResNetConfig { branches: large, ..resnet() }, "branches = 4294967296: expected 1 to 256"),
        (
            ResNetConfig { classes: large, ..resnet() },
            "classes = 4294967296: expected 1 to 1000000",
        ),
        (
            ResNetConfig { input_size: large, ..resnet() },
            "input_size = 4294967296: expected 1 to 8192",
        ),
        (ResNetConfig { groups: large, ..resnet() }, "groups = 4294967296"),
        (ResNetConfig { width_per_group: 0, ..resnet() }, "width_per_group = 0"),
        (ResNetConfig { width_per_group: large, ..resnet() }, "width_per_group = 4294967296"),
        (ResNetConfig { width_alpha: 1024.0, ..resnet() }, "1073741824"),
        (
            ResNetConfig {
                depth: Depth::ResNet50,
                width_alpha: 0.05,
                width_per_group: 1,
                ..resnet()
            },
            "take a larger width",
        ),
    ] {
        let text = config.init(&Device::flex()).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    }
    let scaled = Quantization { batch_size: Some(0), ..Quantization::default() };
    let text = ResNetConfig { quantization: scaled, ..resnet() }.validate().unwrap_err();
    assert!(text.to_string().contains("batch_size"), "{text}");
    let options = "--base 4294967296 --width_alpha 0.25";
    let qtool = quant_core::qtool::QtoolOptions::parse("cifar10,origin,cbsa,fix", options).unwrap();
    let config = keywords::network("resnet20", &qtool).unwrap();
    assert!(config.init(&Device::flex()).is_err());
}
