//! What a batch norm is given, and what it returns.

use burn::tensor::{FloatDType, Tensor};

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

/// What a batch norm in training does beside normalising.
#[derive(Debug, Clone)]
pub(crate) struct NormCall {
    /// The number ε that is added to the variance.
    pub(crate) epsilon: f64,
    /// The tensor that is added to the output, of the type `output`.
    pub(crate) residual: Option<Tensor<4>>,
    /// Whether a ReLU is applied last.
    pub(crate) relu: bool,
    /// The running mean and the running variance that are continued, `[channels]`.
    pub(crate) running: Option<[Tensor<1>; 2]>,
    /// The weight of this batch in the running values.
    pub(crate) momentum: f64,
    /// The type of the output.
    pub(crate) output: FloatDType,
}

/// The result of a batch norm in training.
#[derive(Debug, Clone)]
pub(crate) struct NormResult {
    /// The output with the statistics of the batch.
    pub(crate) batch: BatchNormOutput,
    /// The next running mean and the next running variance, if there were running values. With the
    /// momentum a and m elements per channel they are (1 - a)·r + a·mean and (1 - a)·r +
    /// a·variance·m/(m - 1), without a gradient.
    pub(crate) running: Option<[Tensor<1>; 2]>,
}
