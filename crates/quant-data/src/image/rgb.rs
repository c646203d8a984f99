//! An image in memory.

use std::io::Write;

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

impl RgbImage {
    /// Creates a black image.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
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
