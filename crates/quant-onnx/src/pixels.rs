//! How the bytes of images become numbers, in the metadata of files.

/// A factor and a summand for the bytes of each channel of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// The factor of each channel.
    pub scale: Vec<f32>,
    /// The number that is added to each channel.
    pub shift: Vec<f32>,
}

impl Pixels {
    /// The entries of a file's metadata.
    pub(crate) const ENTRIES: [&'static str; 2] = ["image_scale", "image_shift"];
}
