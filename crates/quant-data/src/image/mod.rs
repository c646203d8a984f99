//! Images as RGB bytes, and the decoding of image files.

mod format;
mod jpeg;
mod png;
mod raster;

use std::{
    io::Write,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use self::format::Format;
pub use self::format::{EXTENSIONS, has_image_extension};
use crate::{error::DataError, files, names::printable};

/// An image of `width`·`height` pixels, three bytes each (red, green, blue), row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The pixels, row by row: `width`·`height`·3 bytes.
    pub pixels: Vec<u8>,
}

/// What to do with an image file that is cut short or damaged, so that some of its pixels are
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncated {
    /// The file is an error.
    #[default]
    Refuse,
    /// The file is read as far as possible. Missing pixels are filled as Pillow does with
    /// `ImageFile.LOAD_TRUNCATED_IMAGES`: with grey in a JPEG file, and with black in a PNG, BMP or
    /// PNM file. Other formats are still refused.
    Accept,
}

/// The largest number of pixels. Larger images are refused before they are decoded. Pillow raises
/// an error above the same limit, which is twice the one above which it warns.
const MOST_PIXELS: usize = 2 * 89_478_485;

/// The number of pixels above which images are decoded one at a time.
const LARGE: usize = 1 << 24;

/// The lock that is held while a large image is decoded.
static ONE_LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// The permission to decode an image, which is kept until the image is decoded.
///
/// A decoder needs up to 15 bytes per pixel in addition to the file: coefficients, samples and the
/// picture of a JPEG file with four components. That is 2.7 GB for the largest number of pixels,
/// and only one such image is decoded at a time, whatever the number of threads. A 16-bit PNM file
/// that is cut short and accepted needs 19 bytes per pixel, because its missing part is filled.
/// After decoding, the picture itself needs three bytes per pixel, at most 537 MB, until it has
/// been cropped or resized.
#[derive(Debug)]
pub(crate) struct Permission {
    /// `None` for images that are not large.
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Checks that an image of this size may be decoded.
///
/// # Errors
/// If the image has no pixels or too many.
pub(crate) fn check_size(width: usize, height: usize) -> Result<(), String> {
    match width.checked_mul(height) {
        Some(0) => Err("no pixels".into()),
        Some(..=MOST_PIXELS) => Ok(()),
        _ => Err(format!("{width}x{height} pixels, more than the limit of {MOST_PIXELS}")),
    }
}

/// Waits until an image of this size may be decoded.
///
/// # Errors
/// As [`check_size`].
fn permit(width: usize, height: usize) -> Result<Permission, String> {
    check_size(width, height)?;
    let is_large = width * height > LARGE;
    let alone = || ONE_LARGE_IMAGE.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Permission { _alone: is_large.then(alone) })
}

/// Returns a list of `count` equal values.
///
/// # Errors
/// If there is not enough memory.
pub(crate) fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, String> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|error| error.to_string())?;
    values.resize(count, value);
    Ok(values)
}

impl RgbImage {
    /// Creates a black image.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// Reads an image file of one of the formats in [`EXTENSIONS`]. The format is recognised by the
    /// content, not by the file's name. Grey images are repeated in all three channels,
    /// transparency is dropped, and orientation tags are ignored. If a file holds several pictures,
    /// the first is read; of 16-bit samples, the upper 8 bits are kept. Images may have at most
    /// 178,956,970 pixels, and their files at most 1 GiB.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Image`], [`DataError::NotAFile`] and [`DataError::TooLong`]
    /// with the path.
    pub fn read(path: &Path, truncated: Truncated) -> Result<Self, DataError> {
        let bytes = files::read(path, files::MOST_BYTES)?;
        Self::decode(&bytes, truncated)
            .map_err(|reason| DataError::Image { path: printable(path), reason })
    }

    /// Decodes the bytes of an image file as [`read`](Self::read) does.
    ///
    /// # Errors
    /// If the bytes are not an image that can be read: the reason.
    pub fn decode(bytes: &[u8], truncated: Truncated) -> Result<Self, String> {
        match format::recognize(bytes)? {
            Format::Jpeg => jpeg::decode(bytes, truncated),
            Format::Png => png::decode(bytes, truncated),
            format => raster::decode(bytes, format, truncated),
        }
    }

    /// Encodes the image as a JPEG file of the given quality, 1 to 100.
    ///
    /// # Errors
    /// If the encoder refuses the size.
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

/// Returns the error text for a file with missing pixels: why it is refused, and which setting
/// reads it anyway.
fn missing_part(reason: &str) -> String {
    format!("{reason}; truncated = \"accept\" under [data] reads as much of it as there is")
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
    fn large_images_wait_for_one_another_and_small_ones_do_not() {
        let first = permit(5000, 5000).unwrap();
        assert!(ONE_LARGE_IMAGE.try_lock().is_err());
        permit(4096, 4096).unwrap();
        drop(first);
        permit(5000, 5000).unwrap();
    }

    #[test]
    fn the_most_pixels_are_pillows_limit() {
        // `2 * Image.MAX_IMAGE_PIXELS`: Pillow refuses what is above.
        assert!(check_size(178_956_970, 1).is_ok());
        let error = check_size(178_956_971, 1).unwrap_err();
        assert!(error.contains("more than the limit of 178956970"), "{error}");
        assert!(check_size(usize::MAX, 2).is_err() && check_size(0, 3).is_err());
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_an_error() {
        assert!(filled(0u64, usize::MAX / 16).is_err());
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
