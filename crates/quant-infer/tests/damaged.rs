//! Files that are damaged, cut, or made to hurt the reader: an error or a model, never a panic, and
//! never much more memory than the file has bytes.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod memory;
mod models;

use models::{Random, node, random, resnet::resnet20};
use quant_infer::{
    Error,
    file::{File, VERSION},
    model::{Dynamic, Input, Model, Op, Quantizer},
};

/// Where a file has its checksum and its length.
const CHECKSUM: usize = 12;
const LENGTH: usize = 16;
const HEADER: usize = 64;

/// Writes the length and the checksum that the bytes should have.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < HEADER {
        return bytes;
    }
    let length = bytes.len() as u64;
    bytes[LENGTH..LENGTH + 8].copy_from_slice(&length.to_le_bytes());
    sealed_with_length(bytes)
}

/// Writes the checksum that the bytes should have.
fn sealed_with_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CHECKSUM]);
    hasher.update(&bytes[LENGTH..]);
    bytes[CHECKSUM..LENGTH].copy_from_slice(&hasher.finalize().to_le_bytes());
    bytes
}

/// Small files that have all operations between them.
fn files() -> Vec<Vec<u8>> {
    let models = (0..60).map(random::model).chain([quantizers()]);
    models.map(|model| model.to_bytes()).filter(|bytes| bytes.len() < 3000).collect()
}

/// Quantizers of eight groups, whose thresholds and values the file has as formulas.
fn quantizers() -> Model {
    let floats = |index: i32| f32::from_bits(if index < 0 { !index } else { index } as u32);
    let threshold = |code: &dyn Fn(f32) -> f32, k: usize| {
        // Positive floats are in the order of their bits.
        let (mut low, mut high) = (0, f32::MAX.to_bits() as i32);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if code(floats(middle)) > k as f32 { high = middle } else { low = middle }
        }
        floats(high)
    };
    let mut nodes = vec![node("input", Op::Input, &[])];
    let levels = 16;
    for kind in 0..3 {
        let (mut thresholds, mut values) = (Vec::new(), Vec::new());
        for group in 0..8 {
            let s = 0.3 + 0.17 * group as f32;
            let unit = |c: usize| match kind {
                0 => c as f32 / 15.0,
                1 => c as f32,
                _ => ((c * c) as f64 / 225.0) as f32,
            };
            let code = |x: f32| match kind {
                0 => (x / s * 15.0).round_ties_even(),
                1 => (x / s).round_ties_even(),
                _ => {
                    let half = |k: usize| unit(k) + (unit(k + 1) - unit(k)) / 2.0;
                    (0..15).filter(|k| x / s > half(*k)).count() as f32
                }
            };
            // The last row follows from no formula.
            let last = if group == 7 { 1e-3 } else { 0.0 };
            thresholds.extend((0..15).map(|k| threshold(&code, k) + last * (k % 2) as f32));
            values.extend((0..levels).map(|c| unit(c) * s));
        }
        let dynamic = Dynamic::None;
        let quantizer = Quantizer { groups: 8, levels, thresholds, values, terms: None, dynamic };
        nodes.push(node("quantize", Op::Quantize(Box::new(quantizer)), &[kind]));
    }
    nodes.push(node("pool", Op::GlobalPool, &[3]));
    let input =
        Input { size: [2; 2], shorter_side: None, scale: vec![1.0; 8], shift: vec![0.0; 8] };
    let (name, producer) = (String::new(), String::new());
    Model { name, producer, classes: Vec::new(), input, nodes }
}

#[test]
fn formulas_are_read_as_they_were_written_and_older_files_too() {
    let model = quantizers();
    let bytes = model.to_bytes();
    assert_eq!(bytes[8], 2, "{}", bytes.len());
    // In full, the thresholds and values alone would take four times as much.
    assert!(bytes.len() < 24 * (15 + 16), "{}", bytes.len());
    assert_eq!(read(&bytes).as_ref(), Ok(&model));
    // Where formulas save little, a file has version 1, which earlier readers know.
    let mut versions = [0; 2];
    for model in (0..60).map(random::model) {
        let bytes = model.to_bytes();
        versions[usize::from(bytes[8]) - 1] += 1;
        assert_eq!(read(&bytes), Ok(model));
    }
    assert!(versions.iter().all(|count| *count > 5), "{versions:?}");
}

/// What a reader may hold for each byte of a file. The most is needed for values of 256 levels in
/// each group, which follow from one scale and one code: 1024 bytes for 5.
const FACTOR: usize = 300;

fn read(bytes: &[u8]) -> Result<Model, Error> {
    let before = memory::watch();
    let result = Model::from_bytes(bytes);
    let held = memory::peak() - before;
    assert!(held <= FACTOR * bytes.len() + 100_000, "{held} bytes for {}", bytes.len());
    result
}

#[test]
fn a_cut_file_is_refused() {
    for bytes in files() {
        for length in 0..bytes.len() {
            assert!(matches!(read(&bytes[..length]), Err(Error::File(_))), "{length}");
        }
    }
}

#[test]
fn a_cut_file_whose_length_and_checksum_fit_is_refused() {
    for bytes in files() {
        for length in 0..bytes.len() {
            let result = read(&sealed(bytes[..length].to_vec()));
            assert!(matches!(result, Err(Error::File(_))), "{length}");
        }
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    for bytes in files().into_iter().take(8) {
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(read(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn no_changed_byte_makes_the_reader_panic() {
    let mut refused = 0;
    let mut accepted = 0;
    for bytes in files() {
        for at in 0..bytes.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                match read(&sealed_with_length(bytes)) {
                    Ok(_) => accepted += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    // Numbers may be others. What describes the network may not.
    assert!(accepted > 0 && refused > 0, "{accepted} were accepted, {refused} refused");
}

#[test]
fn huge_numbers_are_refused_without_memory() {
    let huge: [&[u8]; 5] = [
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    ];
    for bytes in files() {
        for at in HEADER..bytes.len() {
            for number in huge {
                let mut inserted = bytes.clone();
                inserted.splice(at..at + 1, number.iter().copied());
                let _ = read(&sealed(inserted));
                let mut written = bytes.clone();
                let end = written.len().min(at + number.len());
                written[at..end].copy_from_slice(&number[..end - at]);
                let _ = read(&sealed(written));
            }
        }
    }
}

#[test]
fn positions_beyond_the_file_are_refused() {
    let bytes = random::model(3).to_bytes();
    for at in [24, 32, 40, 48] {
        for number in [1, 63, 65, 1 << 20, u64::MAX, u64::MAX - 63, i64::MAX as u64] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let error = read(&sealed_with_length(bytes)).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "{error}");
        }
    }
}

#[test]
fn the_cases_of_the_fuzz_target_take_little_memory() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../quant-cli/fuzz/corpus/qnet");
    for case in std::fs::read_dir(corpus).unwrap() {
        let path = case.unwrap().path();
        let result = read(&std::fs::read(&path).unwrap());
        assert_eq!(result.is_ok(), path.ends_with("example"), "{}: {result:?}", path.display());
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random(5);
    for _ in 0..2000 {
        let length = random.below(300);
        let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        assert!(read(&bytes).is_err());
        // The same after a header that fits.
        let mut file = random::model(0).to_bytes()[..HEADER].to_vec();
        let description = bytes.len() as u64;
        let weights = (HEADER + bytes.len()).next_multiple_of(64);
        file[32..40].copy_from_slice(&description.to_le_bytes());
        file[40..48].copy_from_slice(&(weights as u64).to_le_bytes());
        file[48..56].copy_from_slice(&0u64.to_le_bytes());
        file.extend(&bytes);
        file.resize(weights, 0);
        assert!(read(&sealed(file)).is_err());
    }
}

#[test]
fn pieces_that_are_moved_do_not_make_the_reader_panic() {
    let mut random = Random(7);
    for file in files() {
        for _ in 0..300 {
            let mut bytes = file.clone();
            for _ in 0..=random.below(3) {
                let at = HEADER + random.below(bytes.len() - HEADER);
                let length = random.below(24).min(bytes.len() - at);
                match random.below(3) {
                    0 => drop(bytes.drain(at..at + length)),
                    1 => {
                        let piece = bytes[at..at + length].to_vec();
                        let to = HEADER + random.below(bytes.len() - HEADER);
                        bytes.splice(to..to, piece);
                    }
                    _ => bytes[at] = random.next() as u8,
                }
            }
            let _ = read(&sealed(bytes));
        }
    }
}

#[test]
fn a_newer_version_is_refused_and_a_newer_minor_version_read() {
    let model = random::model(2);
    let mut bytes = model.to_bytes();
    bytes[10..12].copy_from_slice(&7u16.to_le_bytes());
    bytes[60] = 1;
    bytes.extend([1; 64]);
    assert_eq!(read(&sealed(bytes.clone())).as_ref(), Ok(&model));
    bytes[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let error = read(&bytes[..20]).unwrap_err();
    let known = u32::from(VERSION);
    assert_eq!(error, Error::Version { found: known + 1, known });
    bytes[8..10].copy_from_slice(&0u16.to_le_bytes());
    assert!(matches!(read(&bytes), Err(Error::File(_))));
}

#[test]
fn other_files_and_bytes_behind_the_end_are_named() {
    let problem = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(problem(b"\x89PNG\r\n\x1a\n").contains("is not a packed network"));
    assert!(problem(b"").contains("is not a packed network"));
    let mut bytes = random::model(2).to_bytes();
    bytes.extend([0; 3]);
    assert!(problem(&bytes).contains("3 bytes follow"));
}

#[test]
fn a_model_that_is_not_valid_is_refused() {
    let mut model = random::model(4);
    model.nodes.push(node("relu", Op::Relu, &[]));
    assert!(matches!(read(&model.to_bytes()), Err(Error::Model { .. })));
    let last = model.nodes.len() - 1;
    model.nodes[last].inputs = vec![last];
    assert!(matches!(read(&model.to_bytes()), Err(Error::File(_))));
    model.nodes[last].inputs = vec![last + 1];
    assert!(matches!(read(&model.to_bytes()), Err(Error::File(_))));
}

#[test]
fn a_view_takes_no_memory_for_weights() {
    let bytes = resnet20(4, 2, 2).0.to_bytes();
    let before = memory::watch();
    let file = File::parse(&bytes).unwrap();
    let held = memory::peak() - before;
    assert_eq!(file.length(), bytes.len());
    assert!(held < bytes.len() / 4, "{held} bytes for a file of {}", bytes.len());
}
