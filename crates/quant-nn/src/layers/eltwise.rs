//! Quantized element-wise addition.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use quant_core::{Quantizer, QuantizerConfig, QuantizerError, Site};

/// y = Qo(a) + Qo(b): an addition. Both summands pass through the same output quantizer, so that
/// they have the same scale and integers can be added.
#[derive(Module, Debug)]
pub struct QuantAdd {
    /// The quantizer of both summands. Without a quantizer they are added unchanged.
    pub quant_output: Option<Quantizer>,
}

impl QuantAdd {
    /// Makes the layer for summands of `channels` channels.
    ///
    /// # Errors
    /// The errors of [`QuantizerConfig::init`], which name the layer `name`.
    pub fn new(
        quantizer: Option<&QuantizerConfig>,
        name: &str,
        channels: usize,
        device: &Device,
    ) -> Result<Self, QuantizerError> {
        let site = Site::activation(format!("{name}.quant_output"), channels);
        let quant_output = quantizer.map(|config| config.init(&site, device)).transpose()?;
        Ok(Self { quant_output })
    }

    /// Returns the sum of two tensors of the same shape, `[batch, channels, ...]`.
    pub fn forward<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match &self.quant_output {
            None => a + b,
            Some(quantizer) => quantizer.forward(a) + quantizer.forward(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_core::{Levels, Method, Role};

    use super::*;

    #[test]
    fn both_summands_take_the_same_levels() -> Result<(), QuantizerError> {
        let device = Device::flex();
        let config = QuantizerConfig::new(Method::Lsq, Role::Output, Levels::TERNARY);
        let add = QuantAdd::new(Some(&config), "add", 2, &device)?;
        let a = Tensor::<2>::from_floats([[0.9, -0.2]], &device);
        let b = Tensor::<2>::from_floats([[0.6, -5.0]], &device);
        let y: Vec<f32> = add.forward(a, b).into_data().iter().collect();
        assert_eq!(y, [2.0, -1.0]);
        Ok(())
    }
}
