//! What raising is told in addition to a model.

use std::collections::BTreeMap;

use quant_infer::model::Input;

/// What a model does not say about the network that it was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RaiseOptions {
    /// Whether quantizers are left out whose values are read by anything but convolutions, such as
    /// a sum. Trainable networks quantize only what convolutions and linear layers read and give.
    pub leave_out_quantizers: bool,
    /// The statistics of batch norms, by the name of the model's node.
    pub statistics: BTreeMap<String, Statistics>,
    /// How the pixels of images become numbers, for a model that reads bytes.
    pub input: Option<Input>,
}

/// The numbers of a batch norm, one of each for a channel: (x - mean)/sqrt(variance + 1e-5)·weight
/// + bias.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// The factor γ of each channel.
    pub weight: Vec<f32>,
    /// The number β that is added to each channel.
    pub bias: Vec<f32>,
    /// The mean of each channel.
    pub mean: Vec<f32>,
    /// The variance of each channel.
    pub variance: Vec<f32>,
}
