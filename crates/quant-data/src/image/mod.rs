//! Images as RGB bytes, and their decoding.

mod decode;
mod format;
mod jpeg;
mod limits;
mod png;
mod raster;
mod rgb;
mod truncated;

pub(crate) use self::limits::{check_size, filled};
pub use self::{
    format::{EXTENSIONS, has_image_extension},
    rgb::RgbImage,
    truncated::Truncated,
};
