//! Files of states as other programs write them: below any key, after any prefix, with numbers of
//! any type, and in other shapes.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::PathBuf;

use burn::{module::Module, tensor::Device};
use quant_core::{Levels, Method, QuantizerConfig, Role};
use quant_nn::{
    LoadReport, NetworkError, QuantizedModule, Renaming, StateDict,
    layers::{
        LayerQuantizers,
        conv::{QuantConv2d, QuantConv2dConfig},
        linear::{QuantLinear, QuantLinearConfig},
    },
    state::Entry,
};
use quant_train::WeightsFile;

/// The two layers whose state tests/pytorch holds.
#[derive(Module, Debug)]
struct Net {
    stem: QuantConv2d,
    fc: QuantLinear,
}

impl Net {
    fn new(weight: Option<QuantizerConfig>) -> Self {
        let quantizers = LayerQuantizers { weight, ..LayerQuantizers::default() };
        let stem = QuantConv2dConfig { quantizers, ..QuantConv2dConfig::new([1, 2], 1, 1) };
        let device = Device::flex();
        Self {
            stem: stem.init("stem.0", &device).unwrap(),
            fc: QuantLinearConfig::new([2, 2]).init("fc", &device).unwrap(),
        }
    }
}

impl QuantizedModule for Net {
    fn pytorch_name(&self, path: &str) -> String {
        path.replace("stem.", "stem.0.")
    }
}

fn read(name: &str) -> StateDict {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pytorch"));
    WeightsFile::new(folder.join(name)).read().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn values(network: &Net) -> Vec<f32> {
    let state = StateDict::of(network);
    let names = ["stem.0.weight", "fc.weight", "fc.bias"];
    names.iter().flat_map(|name| state.get(name).unwrap().values.clone()).collect()
}

/// What compare/filed.py writes.
const VALUES: [f32; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];

fn loaded(state: &StateDict) -> (Vec<f32>, LoadReport) {
    let (network, report) = state.load_into(Net::new(None));
    (values(&network), report)
}

#[test]
fn a_state_is_found_wherever_programs_file_it() {
    for (name, prefix) in [
        ("plain.pth", ""),
        ("legacy.pth", ""),
        ("net_module.pth", "net.module."),
        ("model_is_text.pth", "model_state_dict."),
        ("with_arguments.pth.tar", "state_dict.module."),
        ("compiled.pth", "model._orig_mod."),
        ("ddp_compiled.pth", "module._orig_mod."),
        ("averaged.pth", "state_dict."),
        ("with_optimizer.pth", "weights_of_run."),
        ("whole_module.pth", ""),
        ("whole_parallel.pth", "module."),
        ("bfloat16.pth", ""),
        ("channels_last.pth", ""),
        ("switches.pth", ""),
    ] {
        let (values, report) = loaded(&read(name));
        assert!(report.require(false).is_ok(), "{name}: {report}");
        assert_eq!((values, report.prefix.as_str()), (VALUES.to_vec(), prefix), "{name}");
    }
}

#[test]
fn other_states_that_fit_are_told_and_a_key_chooses_them() {
    let state = read("averaged.pth");
    let (_, report) = loaded(&state);
    assert_eq!(report.also_fit, ["state_dict_ema."]);
    assert!(report.to_string().contains("state_dict_ema"), "{report}");
    let (values, report) = loaded(&state.under("state_dict_ema").unwrap());
    assert_eq!(values, VALUES.map(|value| value + 1.0));
    assert!(report.also_fit.is_empty());
}

#[test]
fn a_key_that_is_not_there_is_refused_with_those_that_are() {
    let error = read("averaged.pth").under("ema").unwrap_err();
    let NetworkError::Key { key, keys } = &error else { panic!("{error}") };
    assert_eq!((key.as_str(), keys), ("ema", &vec!["state_dict".into(), "state_dict_ema".into()]));
}

#[test]
fn every_type_of_number_is_read_from_safetensors() {
    let cases: [(&str, &[u8], f32); 12] = [
        ("F64", &(-2.0f64).to_le_bytes(), -2.0),
        ("F32", &1.5f32.to_le_bytes(), 1.5),
        ("F16", &[0x00, 0x3e], 1.5),
        ("BF16", &[0xc0, 0x3f], 1.5),
        ("I64", &(-3i64).to_le_bytes(), -3.0),
        ("I32", &(-3i32).to_le_bytes(), -3.0),
        ("I16", &(-3i16).to_le_bytes(), -3.0),
        ("I8", &[0xfd], -3.0),
        ("U64", &7u64.to_le_bytes(), 7.0),
        ("U16", &300u16.to_le_bytes(), 300.0),
        ("U8", &[200], 200.0),
        ("BOOL", &[1], 1.0),
    ];
    for (dtype, bytes, expected) in cases {
        let length = bytes.len();
        let header = format!(
            "{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":[],\"data_offsets\":[0,{length}]}}}}"
        );
        let contents = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), bytes];
        let state = StateDict::from_bytes(&contents.concat()).unwrap();
        assert_eq!(state.get("x").unwrap().values, [expected], "{dtype}");
        assert_eq!(state.stored_type("x"), Some(dtype));
    }
}

#[test]
fn integers_that_the_network_lacks_are_told_and_refuse_nothing() {
    let (_, report) = loaded(&read("switches.pth"));
    assert!(report.is_complete());
    assert_eq!(
        report.unused_integers,
        [
            "stem.0.activation_post_process.fake_quant_enabled",
            "stem.0.activation_post_process.observer_enabled"
        ]
    );
}

fn entry(shape: &[usize], values: &[f32]) -> Entry {
    Entry { shape: shape.to_vec(), values: values.to_vec() }
}

#[test]
fn a_quantizers_parameter_is_taken_in_any_shape_of_the_right_count() {
    let lsq = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::new(4).unwrap());
    let name = "stem.0.quant_weight.clip_val";
    for shape in [&[][..], &[1], &[1, 1], &[1, 1, 1, 1]] {
        let state = StateDict::from_entries([(name.to_owned(), entry(shape, &[0.75]))]);
        let (network, report) = state.load_into(Net::new(Some(lsq.clone())));
        assert_eq!(report.loaded, [name]);
        assert_eq!(StateDict::of(&network).get(name).unwrap().values, [0.75]);
        assert_eq!(report.reshaped.len(), usize::from(shape != [1, 1, 1, 1]), "{shape:?}");
    }
    let state = StateDict::from_entries([(name.to_owned(), entry(&[2], &[0.75, 0.5]))]);
    let (_, report) = state.load_into(Net::new(Some(lsq)));
    assert_eq!(report.mismatched.len(), 1, "another count is another parameter");
}

#[test]
fn elements_are_never_taken_in_another_order() {
    let state = StateDict::from_entries([("fc.weight".to_owned(), entry(&[4, 1], &[0.0; 4]))]);
    let (_, report) = state.load_into(Net::new(None));
    assert_eq!(report.mismatched, [("fc.weight".to_owned(), vec![4, 1], vec![2, 2])]);
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let state = StateDict::from_entries([
        ("a.weight".to_owned(), entry(&[1], &[0.0])),
        ("b.weight".to_owned(), entry(&[1], &[1.0])),
    ]);
    let error = state.renamed(&Renaming::parse("a c\nb c").unwrap()).unwrap_err().to_string();
    assert!(error.contains("a.weight and b.weight"), "{error}");
}

#[test]
fn the_main_state_has_no_prefixes() {
    for (name, first) in [
        ("with_arguments.pth.tar", "fc.bias"),
        ("net_module.pth", "fc.bias"),
        ("compiled.pth", "fc.bias"),
        ("averaged.pth", "fc.bias"),
    ] {
        let state = read(name).main();
        let names: Vec<&str> = state.entries().map(|(name, _)| name).collect();
        assert_eq!(names[0], first, "{name}");
        assert_eq!(names.len(), 3, "{name}");
    }
}

/// A file of 959 bytes claims 2^31 numbers, which are views of a single stored one.
#[test]
fn a_view_that_claims_more_than_its_file_can_hold_is_refused() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pytorch"));
    let error = WeightsFile::new(folder.join("stride_zero.pth")).read().unwrap_err().to_string();
    let expected = "stride_zero.pth: its header announces 2147483648 numbers, but a file of 959 \
                    bytes may have at most 67108864";
    assert!(error.contains(expected), "{error}");
}

/// Each error begins with the path of the file.
#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let whole = StateDict::of(&Net::new(None)).to_bytes().unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let start = folder.path().display();
    for (name, bytes, reason) in [
        ("absent.pth", None, "No such file"),
        ("empty.safetensors", Some(&[][..]), "not a usable safetensors file: "),
        ("short.safetensors", Some(&whole[..20]), "not a usable safetensors file: "),
        ("damaged.safetensors", Some(&damaged), "its checksum is crc32c:"),
        (
            "text.pth",
            Some(b"some text"),
            "not a usable PyTorch checkpoint, or one that is cut short",
        ),
    ] {
        let path = folder.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        let error = WeightsFile::new(path).read().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{start}/{name}: {reason}")), "{error}");
    }
}
