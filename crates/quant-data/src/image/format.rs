//! Recognises the format of an image file by its first bytes.

use image::ImageFormat;

/// The extensions of image files: torchvision's list, and GIF.
pub const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif"];

/// Returns whether the name of a file ends in one of [`EXTENSIONS`], in upper or lower case.
pub fn has_image_extension(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| {
        EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
    })
}

/// An image format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Bmp,
    Tiff,
    /// PBM, PGM, PPM and PAM.
    Pnm,
}

impl Format {
    /// Returns the same format as the `image` crate names it.
    pub(super) fn of_image(self) -> ImageFormat {
        match self {
            Format::Jpeg => ImageFormat::Jpeg,
            Format::Png => ImageFormat::Png,
            Format::Gif => ImageFormat::Gif,
            Format::WebP => ImageFormat::WebP,
            Format::Bmp => ImageFormat::Bmp,
            Format::Tiff => ImageFormat::Tiff,
            Format::Pnm => ImageFormat::Pnm,
        }
    }
}

/// Returns the format of a file, recognised by its content.
pub(super) fn recognize(bytes: &[u8]) -> Result<Format, String> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'B', b'M', ..] => Ok(Format::Bmp),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Ok(Format::Tiff),
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Ok(Format::Pnm),
        _ => Err(unread(bytes)),
    }
}

/// Returns an error text that says what kind of file it is, for files that cannot be read.
fn unread(bytes: &[u8]) -> String {
    const READ: &str = "JPEG, PNG, GIF, WebP, BMP, TIFF and PNM files are read";
    if bytes.is_empty() {
        return "the file is empty".into();
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return "the file is a Git LFS pointer, not the image; `git lfs pull` fetches it".into();
    }
    if let Some(name) = name(bytes) {
        return format!("the file is {name}; {READ}");
    }
    let first: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("its first bytes, {}, belong to no known format; {READ}", first.join(" "))
}

/// Returns the name of a known format that cannot be read.
fn name(bytes: &[u8]) -> Option<&'static str> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some("full of zeros, as after an incomplete copy or download");
    }
    if let [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] = bytes {
        return Some(match brand.first_chunk() {
            Some(b"avif" | b"avis") => "an AVIF image",
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
                "a HEIC image"
            }
            _ => "an MP4 or QuickTime video",
        });
    }
    let starts: [(&[u8], &str); 18] = [
        (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
        (b"\xff\x0a", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
        (b"\xff\xd8", "an invalid JPEG file: no marker follows its start"),
        (b"\0\0\x01\0", "an icon (ICO)"),
        (b"8BPS", "a Photoshop file"),
        (b"\x76\x2f\x31\x01", "an OpenEXR image"),
        (b"#?RADIANCE", "a Radiance HDR image"),
        (b"DDS ", "a DDS texture"),
        (b"qoif", "a QOI image"),
        (b"II\x2b\0", "a BigTIFF image"),
        (b"%PDF", "a PDF document"),
        (b"%!PS", "a PostScript document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"RIFF", "a RIFF file (sound or video)"),
    ];
    let known = starts.iter().find(|(start, _)| bytes.starts_with(start));
    known.map(|(_, name)| *name).or_else(|| text(bytes))
}

/// Returns the name of a text format that cannot be read.
fn text(bytes: &[u8]) -> Option<&'static str> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return Some("an HTML page, which a failed download may leave");
    }
    if start.starts_with('<') && start.contains("<svg") {
        return Some("an SVG drawing");
    }
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!start.contains('\u{fffd}') && start.chars().all(plain)).then_some("text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_formats_are_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF image"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"<?xml version=\"1.0\"?>\n<svg width=\"1\">", "an SVG drawing"),
            (b"\n<!DOCTYPE HTML><html>", "an HTML page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
            (b"\x01\x02\x03\x04", "01 02 03 04"),
        ];
        for (bytes, expected) in cases {
            let error = recognize(bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn extensions_count_in_any_case() {
        for name in ["a.jpg", "n01440764_1.JPEG", "x.Png", "a.b.webp", "c.TIF"] {
            assert!(has_image_extension(name), "{name}");
        }
        for name in ["jpg", "a.txt", "a.jpg.bak", "a."] {
            assert!(!has_image_extension(name), "{name}");
        }
    }
}
