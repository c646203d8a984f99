//! Images as RGB bytes, and their decoding.

use std::{
    fs,
    io::{Cursor, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use zune_core::{colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

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

/// What becomes of an image file that is cut short or damaged so that a part of its pixels is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncated {
    /// It is an error.
    #[default]
    Refuse,
    /// It is read as far as it goes, and what is missing is filled as Pillow fills it where
    /// `ImageFile.LOAD_TRUNCATED_IMAGES` is set: grey in a JPEG file, black in others.
    Accept,
}

/// Images of more pixels are refused before they are decoded, which would take three bytes for each: Pillow's
/// limit.
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

    /// Reads a JPEG or PNG file, whichever its first bytes say. Grey images are repeated in all
    /// channels, transparency is dropped, orientation tags are ignored.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Image`] with the path.
    pub fn read(path: &Path, truncated: Truncated) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io(path))?;
        Self::decode(&bytes, truncated)
            .map_err(|reason| DataError::Image { path: path.display().to_string(), reason })
    }

    /// Decodes the bytes of a JPEG or PNG file.
    ///
    /// # Errors
    /// Why the bytes are no image.
    pub fn decode(bytes: &[u8], truncated: Truncated) -> Result<Self, String> {
        if bytes.starts_with(&[0xff, 0xd8]) {
            return decode_jpeg(bytes, truncated);
        }
        let reader = || {
            let mut reader = image::ImageReader::new(Cursor::new(bytes));
            reader.set_format(image::ImageFormat::Png);
            reader
        };
        let (width, height) = reader().into_dimensions().map_err(|error| error.to_string())?;
        check_size(width as usize, height as usize)?;
        let mut reader = reader();
        reader.no_limits();
        let image = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
        Ok(Self {
            width: image.width() as usize,
            height: image.height() as usize,
            pixels: image.into_raw(),
        })
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

fn decode_jpeg(bytes: &[u8], truncated: Truncated) -> Result<RgbImage, String> {
    // Not strict, the decoder fills a truncated file with grey.
    let options = DecoderOptions::new_fast()
        .set_strict_mode(truncated == Truncated::Refuse)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    let reason =
        |error: zune_jpeg::errors::DecodeErrors| error.to_string().trim().replace('\n', " ");
    decoder.decode_headers().map_err(reason)?;
    let (width, height) = decoder.dimensions().ok_or("no dimensions")?;
    check_size(width, height)?;
    let pixels = decoder.decode().map_err(reason)?;
    let channels = pixels.len() / (width * height).max(1);
    let pixels = match channels {
        3 => pixels,
        1 => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
        _ => return Err(format!("{channels} channels")),
    };
    Ok(RgbImage { width, height, pixels })
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
