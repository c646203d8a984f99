//! Damaged files are refused or read, and never make the reader panic.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "../../quant-infer/tests/models/mod.rs"]
mod models;

use models::{Random, random, resnet};
use quant_infer::Network;
use quant_onnx::{Format, ImportOptions, OnnxError, export, import};

/// Returns a damaged version of some bytes.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        let length = random.below(16).min(bytes.len() - at);
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn damaged_files_do_not_make_the_reader_panic() {
    let (mut read, mut refused) = (0, 0);
    for seed in 0..60 {
        let model = random::model(seed);
        for format in [Format::Qonnx, Format::Int8, Format::Compact] {
            let bytes = export(&model, format).unwrap().bytes;
            for round in 0..60 {
                let mut random = Random(seed * 1000 + round);
                match import(&damaged(&bytes, &mut random), &ImportOptions::default()) {
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
