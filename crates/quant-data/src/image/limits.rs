//! Limits of the size of images and of the memory that decoding them takes.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest number of pixels. Larger images are refused before they are decoded. Pillow raises
/// an error above the same limit, which is twice the one above which it warns.
pub(super) const MOST_PIXELS: usize = 2 * 89_478_485;

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
pub(super) fn permit(width: usize, height: usize) -> Result<Permission, String> {
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
        assert!(error.contains("more than the limit of 178956970"), "{error}");
        assert!(check_size(usize::MAX, 2).is_err() && check_size(0, 3).is_err());
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_an_error() {
        assert!(filled(0u64, usize::MAX / 16).is_err());
    }
}
