//! Image files of every kind that Pillow writes, and files that are not images. The files in
//! `tests/images` hold one gradient of 32x24 pixels: red 8x, green 10y, blue 255 - 4x - 2y.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::{Path, PathBuf};

use quant_data::{RgbImage, Truncated};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name)
}

fn gradient(x: usize, y: usize) -> [f64; 3] {
    [8.0 * x as f64, 10.0 * y as f64, 255.0 - 4.0 * x as f64 - 2.0 * y as f64]
}

#[test]
fn every_kind_of_image_reads_as_colours() {
    let grey = |x, y| {
        let [r, g, b] = gradient(x, y);
        [0.299 * r + 0.587 * g + 0.114 * b; 3]
    };
    type Expected = fn(usize, usize) -> [f64; 3];
    let cases: [(&str, Expected, f64); 6] = [
        ("progressive.jpg", gradient, 12.0),
        ("cmyk.jpg", gradient, 12.0),
        ("grey.jpg", grey, 3.0),
        ("grey.png", grey, 1.0),
        // Transparency is dropped, not blended with a background.
        ("alpha.png", gradient, 0.0),
        // Every colour is the nearest one of a palette.
        ("palette.png", gradient, 60.0),
    ];
    for (name, expected, tolerance) in cases {
        let image = RgbImage::read(&path(name), Truncated::Refuse).unwrap();
        assert_eq!((image.width, image.height), (32, 24), "{name}");
        for (index, pixel) in image.pixels.chunks(3).enumerate() {
            let expected = expected(index % 32, index / 32);
            for (value, expected) in pixel.iter().zip(expected) {
                let off = (f64::from(*value) - expected).abs();
                assert!(
                    off <= tolerance,
                    "{name}: pixel {index}: {pixel:?}, expected {expected:?}"
                );
            }
        }
    }
}

/// Creates a PNG file whose header announces this size but which has no pixels.
fn announced(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(path("grey.png")).unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_decoded() {
    for (width, height) in [(1 << 20, 1 << 10), (16_000, 16_000), (200, 1 << 20)] {
        let error = RgbImage::decode(&announced(width, height), Truncated::Refuse).unwrap_err();
        assert!(error.contains("pixels"), "{width}x{height}: {error}");
    }
    // In a JPEG file, the size is after the marker of the frame.
    let mut bytes = std::fs::read(path("grey.jpg")).unwrap();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
    let error = RgbImage::decode(&bytes, Truncated::Refuse).unwrap_err();
    assert!(error.contains("pixels"), "{error}");
}

#[test]
fn what_is_no_image_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in
        [("empty.jpg", &b""[..]), ("text.png", b"hello"), ("short.jpg", b"\xff\xd8\xff")]
    {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let error = RgbImage::read(&file, Truncated::Refuse).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
