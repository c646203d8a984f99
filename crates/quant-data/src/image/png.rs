//! PNG files, complete or damaged.

use std::io::Cursor;

use png::{DecodeOptions, Decoder, DecodingError, Limits, Transformations};

use super::{
    limits::{filled, permit},
    rgb::RgbImage,
    truncated::{Truncated, missing_part},
};

/// Which checksums are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verify {
    /// The checksum of every chunk, and the one of the whole picture.
    Both,
    /// Only the checksum of the whole picture.
    Picture,
    /// No checksum.
    Nothing,
}

/// Decodes a PNG file.
pub(super) fn decode(bytes: &[u8], truncated: Truncated) -> Result<RgbImage, String> {
    let (image, fault) = decode_verified(bytes, Verify::Both)?;
    let Some(fault) = fault else { return Ok(image) };
    if truncated == Truncated::Refuse {
        let reason = format!("the PNG file is truncated or damaged: {fault}");
        return Err(missing_part(&reason));
    }
    if let Ok((image, None)) = decode_verified(bytes, Verify::Picture) {
        return Ok(image);
    }
    let (mut image, fault) = decode_verified(bytes, Verify::Nothing)?;
    if fault.is_none() {
        // The checksum of the picture is wrong. Pillow loses the row that it reads together with
        // that checksum, which is the last one.
        let last_row = (image.height - 1) * image.width * 3;
        image.pixels[last_row..].fill(0);
    }
    Ok(image)
}

/// Returns the picture, which is black where it cannot be decoded, and the error that stopped the
/// decoder, if any.
fn decode_verified(
    bytes: &[u8],
    verify: Verify,
) -> Result<(RgbImage, Option<DecodingError>), String> {
    let reason = |error: DecodingError| format!("a PNG file that cannot be decoded: {error}");
    let mut options = DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    options.set_ignore_adler32(verify == Verify::Nothing);
    options.set_ignore_crc(verify != Verify::Both);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    // The limit covers the memory that the decoder needs in addition to the picture.
    decoder.set_limits(Limits { bytes: 1 << 30 });
    // Palettes become colours, samples of fewer than 8 bits become bytes, and only the upper 8 of
    // 16 bits are kept.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(reason)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let _permission = permit(width, height)?;
    let mut reader = match decoder.read_info() {
        Ok(reader) => reader,
        Err(error) => return Err(reason(error)),
    };
    let (color, _) = reader.output_color_type();
    let mut pixels = filled(0, width * height * color.samples())?;
    let fault = reader.next_frame(&mut pixels).err();
    if color.samples() == 3 {
        return Ok((RgbImage { width, height, pixels }, fault));
    }
    let mut rgb = filled(0, width * height * 3)?;
    for (rgb, pixel) in
        rgb.as_chunks_mut::<3>().0.iter_mut().zip(pixels.chunks_exact(color.samples()))
    {
        *rgb = if let [r, g, b, _] = *pixel { [r, g, b] } else { [pixel[0]; 3] };
    }
    Ok((RgbImage { width, height, pixels: rgb }, fault))
}
