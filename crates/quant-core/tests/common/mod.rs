//! What the test programs share.

use burn::tensor::{Device, Tensor};
use quant_core::{Quantizer, QuantizerConfig, Role, Site};

/// The quantizer of a configuration at a weight of this shape, or at an activation of its channels.
pub(crate) fn make(config: &QuantizerConfig, shape: [usize; 4], device: &Device) -> Quantizer {
    let site = match config.role {
        Role::Weight => Site::weight("test", shape.to_vec()),
        _ => Site::activation("test", shape[1]),
    };
    config.init(&site, device).unwrap()
}

pub(crate) fn tensor(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::<1>::from_floats(values, device).reshape(shape)
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}
