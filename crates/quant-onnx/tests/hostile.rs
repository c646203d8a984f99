//! Damaged files are refused or read, and never make the reader panic.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "../../quant-infer/tests/models/mod.rs"]
mod models;

use models::{Random, random, resnet};
use quant_golden::hostile::damaged;
use quant_infer::Network;
use quant_onnx::{Format, ImportOptions, OnnxError, export, import};

#[test]
fn damaged_files_do_not_make_the_reader_panic() {
    let (mut read, mut refused) = (0, 0);
    for seed in 0..60 {
        let model = random::model(seed);
        for format in [Format::Qonnx, Format::Int8, Format::Compact] {
            let bytes = export(&model, format).unwrap().bytes;
            for round in 0..60 {
                let mut random = Random(seed * 1000 + round);
                match import(
                    &damaged(&bytes, |limit| random.below(limit)),
                    &ImportOptions::default(),
                ) {
                    Ok(found) => {
                        assert!(Network::new(&found.model).is_ok());
                        read += 1;
                    }
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(read > 100 && refused > 1000, "{read} read, {refused} refused");
}

#[test]
fn what_is_no_onnx_file_is_refused() {
    for bytes in [&b""[..], b"\x89QNET", b"# a text\n", &[0xff; 100]] {
        let error = import(bytes, &ImportOptions::default()).unwrap_err();
        assert!(matches!(error, OnnxError::File(_)), "{error}");
    }
}

#[test]
fn an_unknown_operator_is_named_with_its_node() {
    let (model, _) = resnet::resnet20(1, 4, 4);
    let mut bytes = export(&model, Format::Qonnx).unwrap().bytes;
    // An operator of the same length that no runtime knows.
    let at = bytes.windows(7).position(|word| word == b"Flatten").unwrap();
    bytes[at..at + 7].copy_from_slice(b"Flutter");
    let error = import(&bytes, &ImportOptions::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("node scores (Flutter) is no operator that can be packed"),
        "{error}"
    );
}

/// A field of a message, with its number and its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut field = vec![number << 3 | 2];
    while length > 127 {
        field.push(length as u8 | 128);
        length >>= 7;
    }
    field.push(length as u8);
    [&field, bytes].concat()
}

/// A few megabytes of scales, one for each of two million features, would become gigabytes of
/// tables.
#[test]
fn tables_for_millions_of_channels_are_refused() {
    const FEATURES: u32 = 1 << 21;
    let shape = |sides: [u32; 2]| {
        let side = |side: u32| {
            let mut bytes = vec![1 << 3];
            let mut rest = side;
            while rest > 127 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes
        };
        sides.iter().flat_map(|sides| field(1, &side(*sides))).collect::<Vec<u8>>()
    };
    let tensor = |kind: u8, sides: [u32; 2]| {
        let tensor = [&[1 << 3, kind][..], &field(2, &shape(sides))].concat();
        field(1, &tensor)
    };
    let value = |name: &[u8], kind: u8, sides: [u32; 2]| {
        [field(1, name), field(2, &tensor(kind, sides))].concat()
    };
    let node = |op: &[u8], inputs: [&[u8]; 2], output: &[u8]| {
        [field(1, inputs[0]), field(1, inputs[1]), field(2, output), field(4, op)].concat()
    };
    let scales: Vec<u8> = (0..FEATURES).flat_map(|at| (at as f32 + 1.0).to_le_bytes()).collect();
    let dims = [1 << 3, 0x80, 0x80, 0x80, 0x01];
    let scales = [&dims[..], &[2 << 3, 1], &field(8, b"s"), &field(9, &scales)].concat();
    let graph = [
        field(1, &node(b"DequantizeLinear", [b"x", b"s"], b"y")),
        field(5, &scales),
        field(11, &value(b"x", 2, [1, FEATURES])),
        field(12, &value(b"y", 1, [1, FEATURES])),
    ]
    .concat();
    let error = import(&field(7, &graph), &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("has 256 levels for each of 2097152 channels"), "{error}");
}
