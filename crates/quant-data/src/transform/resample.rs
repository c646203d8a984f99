//! Bilinear resampling with antialiasing, as in Pillow.

use std::cell::RefCell;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::image::RgbImage;

/// A rectangular part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Window {
    pub(super) fn whole(image: &RgbImage) -> Self {
        let (width, height) = (image.width as f64, image.height as f64);
        Self { left: 0.0, top: 0.0, width, height }
    }
}

thread_local! {
    /// The resizer of each thread, which keeps its buffers from one image to the next.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Resizes the window to `width`·`height` pixels.
///
/// # Panics
/// If the window does not lie inside the image, or the image's buffer does not fit its size.
pub(super) fn resample(image: &RgbImage, window: Window, width: usize, height: usize) -> RgbImage {
    if window == Window::whole(image) && (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let (from_width, from_height) = (image.width as u32, image.height as u32);
    let source = ImageRef::new(from_width, from_height, &image.pixels, PixelType::U8x3);
    let source = source.expect("an image has three bytes a pixel");
    let mut target = Image::new(width as u32, height as u32, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(window.left, window.top, window.width, window.height);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .expect("a window lies inside its image");
    RgbImage { width, height, pixels: target.into_vec() }
}
