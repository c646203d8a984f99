//! Files that the `image` crate decodes.

use std::io::{self, Cursor};

use image::{DynamicImage, ImageError, ImageReader, Limits};

use super::{RgbImage, Truncated, check_size, format::Format, missing_part};

/// Decodes a file of any format but JPEG.
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
                // Pixels are stored as they are, and black is zero: zeros stand for what is
                // missing.
                let (width, height) = size(bytes, format)?;
                let missing = vec![0; width * height * 8];
                decode_whole(&[bytes, &missing].concat(), format)
            }
        },
        result => result,
    };
    let reason = |error: ImageError| format!("a {format:?} file that cannot be decoded: {error}");
    Ok(rgb(image.map_err(reason)?))
}

/// Whether a file of this format that lacks its end can be filled up with zeros.
fn fills_up(format: Format) -> bool {
    matches!(format, Format::Bmp | Format::Pnm)
}

fn reader(bytes: &[u8], format: Format) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.set_format(format.of_image());
    let mut limits = Limits::no_limits();
    // Eight bytes each of the most pixels, and what a decoder needs besides.
    limits.max_alloc = Some(1 << 30);
    reader.limits(limits);
    reader
}

fn size(bytes: &[u8], format: Format) -> Result<(usize, usize), String> {
    let size = reader(bytes, format).into_dimensions();
    let (width, height) = size.map_err(|error| error.to_string())?;
    Ok((width as usize, height as usize))
}

fn decode_whole(bytes: &[u8], format: Format) -> Result<DynamicImage, ImageError> {
    let (width, height) = reader(bytes, format).into_dimensions()?;
    let too_large = |reason: String| ImageError::IoError(io::Error::other(reason));
    check_size(width as usize, height as usize).map_err(too_large)?;
    reader(bytes, format).decode()
}

fn is_truncated(error: &ImageError) -> bool {
    matches!(error, ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof)
}

/// The pixels, without transparency; of 16 bits the upper 8.
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
