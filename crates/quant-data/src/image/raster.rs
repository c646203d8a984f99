//! Files that the `image` crate decodes.

use std::io::{self, Cursor};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, error::UnsupportedErrorKind,
};

use super::{
    format::Format,
    limits::{MOST_PIXELS, filled, permit},
    rgb::RgbImage,
    truncated::{Truncated, missing_part},
};

/// Decodes a file of any format except JPEG and PNG.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    truncated: Truncated,
) -> Result<RgbImage, String> {
    let image = match decode_whole(bytes, format) {
        Err(error) if is_truncated(&error) && fills_up(format) => match truncated {
            Truncated::Refuse => {
                let reason = format!("the {format:?} file is truncated: {error}");
                return Err(missing_part(&reason));
            }
            Truncated::Accept => {
                // Pixels are stored uncompressed and black is zero, so zeros can stand for the
                // missing part.
                let filled_up = filled_up(bytes, format)?;
                decode_whole(&filled_up, format)
            }
        },
        result => result,
    };
    let reason = |error: ImageError| match unread_pixels(&error) {
        Some(bits) => format!(
            "a {format:?} file whose pixels have {bits} bits in a form that is not read, such as \
             numbers of 32 bits or YCbCr colours; convert it to RGB with 8 or 16 bits per sample"
        ),
        None => format!("a {format:?} file that cannot be decoded: {error}"),
    };
    Ok(rgb(image.map_err(reason)?))
}

/// Returns the bits of a pixel, if the error is that the type of the pixels is not supported.
fn unread_pixels(error: &ImageError) -> Option<u16> {
    match error {
        ImageError::Unsupported(unsupported) => match unsupported.kind() {
            UnsupportedErrorKind::Color(color) => Some(color.bits_per_pixel()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether a truncated file of this format can be completed with zeros.
fn fills_up(format: Format) -> bool {
    matches!(format, Format::Bmp | Format::Pnm)
}

fn reader(bytes: &[u8], format: Format) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.set_format(format.of_image());
    let mut limits = Limits::no_limits();
    // Eight bytes for each of the largest number of pixels, and what a decoder needs in addition.
    limits.max_alloc = Some(8 * MOST_PIXELS as u64 + (256 << 20));
    reader.limits(limits);
    reader
}

/// Returns a truncated file with enough zeros after it for a complete picture.
fn filled_up(bytes: &[u8], format: Format) -> Result<Vec<u8>, String> {
    let reason = |error: ImageError| error.to_string();
    let decoder = reader(bytes, format).into_decoder().map_err(reason)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let _permission = permit(width, height)?;
    // A BMP file may have one byte per pixel that is not decoded, and rows that are padded.
    let missing = (decoder.total_bytes() as usize).max(4 * (width + 1) * height);
    let mut filled_up = filled(0, bytes.len() + missing)?;
    filled_up[..bytes.len()].copy_from_slice(bytes);
    Ok(filled_up)
}

fn decode_whole(bytes: &[u8], format: Format) -> Result<DynamicImage, ImageError> {
    let (width, height) = reader(bytes, format).into_dimensions()?;
    let too_large = |reason: String| ImageError::IoError(io::Error::other(reason));
    let _permission = permit(width as usize, height as usize).map_err(too_large)?;
    reader(bytes, format).decode()
}

fn is_truncated(error: &ImageError) -> bool {
    matches!(error, ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof)
}

/// Returns the pixels without transparency, with the upper 8 of 16 bits.
fn rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let upper = |values: &[u16]| values.iter().map(|value| (value >> 8) as u8).collect::<Vec<_>>();
    let repeat = |values: &[u8]| values.iter().flat_map(|value| [*value; 3]).collect();
    let pixels = match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma16(image) => repeat(&upper(&image)),
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|pixel| [(pixel.0[0] >> 8) as u8; 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => upper(&image),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| upper(&pixel.0[..3])).collect()
        }
        image => image.into_rgb8().into_raw(),
    };
    RgbImage { width, height, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey TIFF image of one pixel, which is a float of 32 bits.
    fn tiff_of_32_bits() -> Vec<u8> {
        let entries: [[u16; 4]; 10] = [
            // Tag, type (3: short, 4: long), count, value.
            [256, 3, 1, 1],
            [257, 3, 1, 1],
            [258, 3, 1, 32],
            [259, 3, 1, 1],
            [262, 3, 1, 1],
            [273, 4, 1, 8],
            [277, 3, 1, 1],
            [278, 3, 1, 1],
            [279, 4, 1, 4],
            [339, 3, 1, 3],
        ];
        let mut bytes = b"II\x2a\0\x0c\0\0\0\x07\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for [tag, kind, count, value] in entries {
            bytes.extend([tag, kind].map(u16::to_le_bytes).concat());
            bytes.extend([count, value].map(|number| u32::from(number).to_le_bytes()).concat());
        }
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn a_type_of_pixels_that_is_not_read_is_named_for_people() {
        let error = decode(&tiff_of_32_bits(), Format::Tiff, Truncated::Refuse).unwrap_err();
        assert!(error.contains("pixels have 32 bits") && error.contains("convert it"), "{error}");
        assert!(!error.contains("Unknown"), "{error}");
    }
}
