//! Images as RGB bytes, and their decoding.

mod format;
mod jpeg;
mod png;
mod raster;

use std::{fs, io::Write, path::Path};

use serde::{Deserialize, Serialize};

use self::format::Format;
pub use self::format::{EXTENSIONS, has_image_extension};
use crate::error::DataError;

/// An image of `width`·`height` pixels, three bytes each (red, green, blue), row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width`·`height`·3 bytes.
    pub pixels: Vec<u8>,
}

/// What becomes of an image file that is cut short or damaged so that a part of its pixels is
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncated {
    /// It is an error.
    #[default]
    Refuse,
    /// It is read as far as it goes, and what is missing is filled as Pillow fills it where
    /// `ImageFile.LOAD_TRUNCATED_IMAGES` is set: grey in a JPEG file, black in a PNG, BMP or PNM
    /// file. Other formats are refused all the same.
    Accept,
}

/// Images of more pixels are refused before they are decoded, which would take three bytes for
/// each: Pillow's limit.
const MOST_PIXELS: usize = 89_478_485;

fn check_size(width: usize, height: usize) -> Result<(), String> {
    match width.checked_mul(height) {
        Some(0) => Err("no pixels".into()),
        Some(..=MOST_PIXELS) => Ok(()),
        _ => Err(format!("{width}x{height} pixels, more than the {MOST_PIXELS} that are decoded")),
    }
}

impl RgbImage {
    /// A black image.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// Reads an image file of a format that [`EXTENSIONS`] tells of, whatever it is called. Grey
    /// images are repeated in all channels, transparency is dropped, orientation tags are ignored;
    /// of several pictures the first is taken, and of 16 bits the upper 8.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Image`] with the path.
    pub fn read(path: &Path, truncated: Truncated) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io(path))?;
        Self::decode(&bytes, truncated)
            .map_err(|reason| DataError::Image { path: path.display().to_string(), reason })
    }

    /// Decodes the bytes of an image file, see [`read`](Self::read).
    ///
    /// # Errors
    /// Why the bytes are no image.
    pub fn decode(bytes: &[u8], truncated: Truncated) -> Result<Self, String> {
        match format::recognize(bytes)? {
            Format::Jpeg => jpeg::decode(bytes, truncated),
            Format::Png => png::decode(bytes, truncated),
            format => raster::decode(bytes, format, truncated),
        }
    }

    /// The image as the bytes of a JPEG file of the given quality, 1 to 100.
    ///
    /// # Errors
    /// Where the encoder refuses the size.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
        let (width, height) = (self.width as u32, self.height as u32);
        let color = image::ExtendedColorType::Rgb8;
        encoder.encode(&self.pixels, width, height, color).map_err(|error| error.to_string())?;
        bytes.flush().map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Why a file is refused of which a part is missing, and how it would be read.
fn missing_part(reason: &str) -> String {
    format!("{reason}; truncated = \"accept\" under [data] reads it as far as it goes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient() -> RgbImage {
        let mut image = RgbImage::new(40, 30);
        for (index, byte) in image.pixels.iter_mut().enumerate() {
            *byte = (index / 3 % 40 * 6) as u8;
        }
        image
    }

    #[test]
    fn jpeg_keeps_smooth_images_nearly() {
        let image = gradient();
        let decoded = RgbImage::decode(&image.to_jpeg(95).unwrap(), Truncated::Refuse).unwrap();
        assert_eq!((decoded.width, decoded.height), (40, 30));
        let pairs = decoded.pixels.iter().zip(&image.pixels);
        let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(8), "{worst:?}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = gradient().to_jpeg(90).unwrap();
        for length in [0, 2, 20, bytes.len() / 2, bytes.len() - 20] {
            assert!(
                RgbImage::decode(&bytes[..length], Truncated::Refuse).is_err(),
                "{length} of {}",
                bytes.len()
            );
        }
    }
}
