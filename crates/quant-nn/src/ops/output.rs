//! The result of a batch norm.

use burn::tensor::Tensor;

/// The result of [`batch_norm`](super::batch_norm()).
#[derive(Debug, Clone)]
pub struct BatchNormOutput {
    /// x normalised, scaled and shifted: `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// The mean of the batch, `[channels]`, without a gradient.
    pub mean: Tensor<1>,
    /// The biased variance of the batch, `[channels]`, without a gradient.
    pub variance: Tensor<1>,
}
