//! Reads and decodes image files.

use std::path::Path;

use super::{
    format::{self, Format},
    jpeg, png, raster,
    rgb::RgbImage,
    truncated::Truncated,
};
use crate::{error::DataError, files, names::printable};

impl RgbImage {
    /// Reads an image file of one of the formats in [`EXTENSIONS`](super::EXTENSIONS). The format
    /// is recognised by the content, not by the file's name. Grey images are repeated in all three
    /// channels, transparency is dropped, and orientation tags are ignored. If a file holds several
    /// pictures, the first is read; of 16-bit samples, the upper 8 bits are kept. Images may have
    /// at most 178,956,970 pixels, and their files at most 1 GiB.
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
