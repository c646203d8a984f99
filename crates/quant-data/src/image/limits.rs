//! How large an image may be, and how much memory its decoding may take.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Images of more pixels are refused before they are decoded: the limit above which Pillow gives an
/// error, twice the one above which it warns.
pub(super) const MOST_PIXELS: usize = 2 * 89_478_485;

/// Images of more pixels are decoded one at a time.
const LARGE: usize = 1 << 24;

/// Held while a large image is decoded.
static ONE_LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// The permission to decode an image, to be kept until it is decoded.
///
/// A decoder takes up to 15 bytes a pixel besides the file: coefficients, samples and the picture
/// of a JPEG file with four components. That is 2.7 GB for the most pixels, and no more than one
/// such image at a time, whatever the number of threads. A PNM file of 16 bits that is cut short
/// and accepted takes 19 bytes, as its missing part is filled up. Then the picture itself stays,
/// three bytes a pixel, 537 MB, until it has been cropped or resized.
#[derive(Debug)]
pub(crate) struct Permission {
    /// None for images that are not large.
    _alone: Option<MutexGuard<'static, ()>>,
}

/// # Errors
/// For images without pixels, and for those of too many.
pub(crate) fn check_size(width: usize, height: usize) -> Result<(), String> {
    match width.checked_mul(height) {
        Some(0) => Err("no pixels".into()),
        Some(..=MOST_PIXELS) => Ok(()),
        _ => Err(format!("{width}x{height} pixels, more than the {MOST_PIXELS} that are decoded")),
    }
}

/// Waits until an image of this size may be decoded.
///
/// # Errors
/// Those of [`check_size`].
pub(super) fn permit(width: usize, height: usize) -> Result<Permission, String> {
    check_size(width, height)?;
    let is_large = width * height > LARGE;
    let alone = || ONE_LARGE_IMAGE.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Permission { _alone: is_large.then(alone) })
}

/// A list of so many equal values.
///
/// # Errors
/// Where there is not enough memory.
pub(crate) fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, String> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|error| error.to_string())?;
    values.resize(count, value);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(error.contains("more than the 178956970"), "{error}");
        assert!(check_size(usize::MAX, 2).is_err() && check_size(0, 3).is_err());
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_an_error() {
        assert!(filled(0u64, usize::MAX / 16).is_err());
    }
}
