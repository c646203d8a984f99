//! The part of a quantizer of activations that depends on the image.

/// The part of an activation's quantizer that depends on the image.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageScale {
    /// The value is multiplied by the mean of |x - shift| over the channels of its position
    /// (XNOR-Net). The shift has one number for each group; without one it is 0.
    MeanOverChannels {
        /// The number of each group that is subtracted from x first.
        shift: Option<Vec<f32>>,
    },
    /// The value is multiplied by the mean of |x - shift| over the positions of its channel.
    MeanOverPositions {
        /// The number of each group that is subtracted from x first.
        shift: Option<Vec<f32>>,
    },
    /// x is divided by f before it is quantized, and the value is multiplied by f afterwards. f is
    /// the mean of x over the image, plus 1e-5 (LQ-Nets).
    Mean,
    /// As `Mean`, but f is the unbiased standard deviation of x over the image, plus 1e-5.
    Deviation,
}
