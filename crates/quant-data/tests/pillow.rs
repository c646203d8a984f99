//! Compares the decoding of image files with that of Pillow 13.
//!
//! `tests/reality` has one picture as cameras, web sites and old programs write it; `tests/jpeg`
//! has JPEG files that depart from the standard or are damaged; `tests/formats` has the other
//! formats. In each folder, `expected.json` says whether a file can be decoded, and
//! `expected.safetensors` has its pixels, `[height, width, 3]`. Files that can only be decoded with
//! `ImageFile.LOAD_TRUNCATED_IMAGES` were decoded with it.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use quant_data::{RgbImage, Truncated};
use safetensors::SafeTensors;

/// The mean absolute difference up to which pixels count as equal. Upsampling of chroma is rounded
/// differently than in libjpeg.
const SAME: f64 = 2.0;

const DAMAGED_BETWEEN_SCANS: [&str; 2] = ["prog_corrupt1.jpg", "prog_cut60eoi.jpg"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Returns what is wrong with the decoding of a folder's files, apart from the `exceptions`.
fn faults(name: &str, exceptions: &[&str]) -> Vec<String> {
    let folder = folder(name);
    let verdicts = fs::read(folder.join("expected.json")).unwrap();
    let verdicts: BTreeMap<String, String> = serde_json::from_slice(&verdicts).unwrap();
    let pixels = fs::read(folder.join("expected.safetensors")).unwrap();
    let pixels = SafeTensors::deserialize(&pixels).unwrap();
    let mut faults = Vec::new();
    for (file, verdict) in &verdicts {
        if exceptions.contains(&file.as_str()) {
            continue;
        }
        let bytes = fs::read(folder.join(file)).unwrap();
        let strict = RgbImage::decode(&bytes, Truncated::Refuse);
        let lenient = RgbImage::decode(&bytes, Truncated::Accept);
        let ours = match (&strict, &lenient) {
            (Ok(_), Ok(_)) => "decodes",
            (Err(_), Ok(_)) => "only with truncated images accepted",
            _ => "not at all",
        };
        if ours != verdict {
            let errors = (strict.err(), lenient.err());
            faults.push(format!("{file}: expected: {verdict}; it is: {ours}, {errors:?}"));
            continue;
        }
        if verdict == "only with truncated images accepted" {
            let error = strict.unwrap_err();
            if !error.contains("truncated = \"accept\"") {
                faults.push(format!("{file}: the error does not name the option: {error}"));
            }
        }
        let Ok(image) = lenient else { continue };
        let expected = pixels.tensor(file).unwrap();
        if expected.shape() != [image.height, image.width, 3] {
            faults.push(format!("{file}: {}x{} pixels", image.width, image.height));
            continue;
        }
        let off = difference(&image.pixels, expected.data());
        if off > SAME {
            faults.push(format!("{file}: the pixels are off by {off:.3} on average"));
        }
    }
    faults
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / a.len() as f64
}

fn ok_jpeg() -> Vec<u8> {
    fs::read(folder("reality/ok.JPEG")).unwrap()
}

#[test]
fn files_as_people_have_them_decode_as_in_pillow() {
    // Pillow clips 16-bit samples to 8 bits. The test below has the rule of this crate.
    let faults = faults("reality", &["png16gray.JPEG"]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn jpeg_files_that_depart_from_the_standard_decode_as_in_pillow() {
    // If a progressive file is damaged between two scans, Pillow returns a black picture. This
    // crate keeps the earlier scans, as the test below checks.
    let faults = faults("jpeg", &DAMAGED_BETWEEN_SCANS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn other_formats_decode_as_in_pillow() {
    // Palettes in TIFF files cannot be read, as the test below checks.
    let faults = faults("formats", &["palette.tif"]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_tiff_file_with_a_palette_is_refused_with_a_reason() {
    let path = folder("formats/palette.tif");
    let error = RgbImage::read(&path, Truncated::Refuse).unwrap_err().to_string();
    assert!(error.contains("palette.tif") && error.contains("Palette"), "{error}");
}

#[test]
fn the_scans_before_the_damage_of_a_progressive_file_stay() {
    let first_scan = RgbImage::read(&folder("jpeg/prog_upto0.jpg"), Truncated::Refuse).unwrap();
    for name in DAMAGED_BETWEEN_SCANS {
        let path = folder("jpeg").join(name);
        let error = RgbImage::read(&path, Truncated::Refuse).unwrap_err().to_string();
        assert!(error.contains("truncated = \"accept\""), "{name}: {error}");
        let image = RgbImage::read(&path, Truncated::Accept).unwrap();
        // The first scan holds the average of the picture; later scans change it little.
        let average = |pixels: &[u8]| difference(pixels, &vec![0; pixels.len()]);
        let off = (average(&image.pixels) - average(&first_scan.pixels)).abs();
        assert!(off < 8.0, "{name}: {off}");
    }
}

#[test]
fn of_16_bits_the_upper_8_are_taken() {
    let path = folder("reality/png16gray.JPEG");
    let image = RgbImage::read(&path, Truncated::Refuse).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(fs::read(path).unwrap()));
    reader.set_transformations(png::Transformations::IDENTITY);
    let mut reader = reader.read_info().unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut samples).unwrap();
    // The samples are pairs of bytes, the upper byte first.
    let expected: Vec<u8> = samples.chunks_exact(2).flat_map(|pair| [pair[0]; 3]).collect();
    assert_eq!(image.pixels, expected);
}

#[test]
fn a_jpeg_file_cut_anywhere_is_refused_unless_accepted() {
    let bytes = ok_jpeg();
    let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    for length in (scan + 14..bytes.len() - 2).step_by(97) {
        let error = RgbImage::decode(&bytes[..length], Truncated::Refuse).unwrap_err();
        assert!(error.contains("truncated"), "{length}: {error}");
        assert!(error.contains("truncated = \"accept\""), "{length}: {error}");
        let image = RgbImage::decode(&bytes[..length], Truncated::Accept).unwrap();
        assert_eq!((image.width, image.height), (80, 60), "{length}");
    }
}

#[test]
fn what_a_cut_jpeg_file_still_holds_stays_and_the_rest_is_grey() {
    let bytes = ok_jpeg();
    let image = RgbImage::decode(&bytes[..bytes.len() / 2 + 300], Truncated::Accept).unwrap();
    let whole = RgbImage::decode(&bytes, Truncated::Refuse).unwrap();
    let row = 80 * 3;
    // The first row of MCUs has 16 rows of pixels. Chroma of the last one is interpolated with the
    // next row of MCUs.
    let off = difference(&image.pixels[..15 * row], &whole.pixels[..15 * row]);
    assert!(off < SAME, "{off}");
    assert!(image.pixels[50 * row..].iter().all(|value| *value == 128));
}

#[test]
fn a_file_of_which_nothing_can_be_decoded_is_refused_in_any_case() {
    let bytes = ok_jpeg();
    let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let error = RgbImage::decode(&bytes[..scan - 4], Truncated::Accept).unwrap_err();
    assert!(error.contains("cannot be decoded"), "{error}");
}

#[test]
fn a_mode_of_jpeg_that_is_not_read_is_named() {
    for (code, name) in [(0xc3, "lossless"), (0xc5, "hierarchical"), (0xc9, "arithmetic")] {
        let mut bytes = ok_jpeg();
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 1] = code;
        let error = RgbImage::decode(&bytes, Truncated::Accept).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
    let mut bytes = ok_jpeg();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 4] = 12;
    let error = RgbImage::decode(&bytes, Truncated::Accept).unwrap_err();
    assert!(error.contains("12 bits"), "{error}");
}

/// Returns the start of every segment of a JPEG file, up to the scan.
fn segments(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![2];
    while bytes[starts[starts.len() - 1] + 1] != 0xda {
        let at = starts[starts.len() - 1];
        let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        starts.push(at + 2 + length);
    }
    starts
}

#[test]
fn bytes_between_segments_change_nothing() {
    let bytes = ok_jpeg();
    let whole = RgbImage::decode(&bytes, Truncated::Refuse).unwrap();
    let strays: [&[u8]; 4] = [b"\x01stray", b"\xff\xff\xff", b"\xff\x00\x07", b"\xff\xd5"];
    // Bytes before the first segment would make the file unrecognisable as JPEG.
    for at in &segments(&bytes)[1..] {
        for stray in strays {
            let bytes = [&bytes[..*at], stray, &bytes[*at..]].concat();
            let image = RgbImage::decode(&bytes, Truncated::Refuse).unwrap();
            let off = difference(&image.pixels, &whole.pixels);
            assert!(off < SAME, "{stray:?} at {at}: {off}");
        }
    }
}

#[test]
fn the_colour_transform_of_adobe_counts_only_where_jfif_does_not_say_more() {
    let bytes = ok_jpeg();
    let adobe = |transform: u8| {
        let segment = *b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0";
        [&bytes[..2], &segment, &[transform], &bytes[2..]].concat()
    };
    let whole = RgbImage::decode(&bytes, Truncated::Refuse).unwrap();
    for transform in [0, 1, 2, 77, 255] {
        let image = RgbImage::decode(&adobe(transform), Truncated::Refuse).unwrap();
        assert!(difference(&image.pixels, &whole.pixels) < SAME, "{transform}");
    }
}
