//! What the module of a quantizer is made from.

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};

use crate::{
    config::QuantizerConfig,
    gradient_scale::ScaleByTensor,
    normalize::Normalizer,
    site::{Grouping, Site},
};

/// A valid configuration, and where its quantizer stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) config: &'a QuantizerConfig,
    pub(crate) site: &'a Site,
    pub(crate) grouping: Grouping,
    pub(crate) device: &'a Device,
}

impl Setup<'_> {
    /// Returns a learned parameter that begins at `value` in each group, `[groups]`.
    pub(super) fn parameter(&self, value: f64) -> Param<Tensor<1>> {
        Param::from_tensor(self.per_group(value))
    }

    /// Returns a tensor with `value` for each group, `[groups]`.
    pub(super) fn per_group(&self, value: f64) -> Tensor<1> {
        Tensor::full([self.grouping.groups], value, self.device)
    }

    /// Returns the clipping value, `[groups]`. It begins at the boundary.
    pub(super) fn clipping_value(&self) -> Param<Tensor<1>> {
        self.parameter(self.config.boundary)
    }

    /// Returns the learned factor on the quantized values, `[groups]`, where the configuration asks
    /// for it. It begins at 1.
    pub(super) fn gamma(&self) -> Option<Param<Tensor<1>>> {
        self.config.gamma.then(|| self.parameter(1.0))
    }

    /// Returns the gradient scale of a clipping value.
    pub(super) fn gradient_scale(&self) -> ScaleByTensor {
        ScaleByTensor::new(self.config, self.site, self.grouping.groups)
    }

    /// Returns the gradient scale of a step size.
    pub(super) fn step_gradient_scale(&self) -> ScaleByTensor {
        ScaleByTensor::of_step_size(self.config, self.site, self.grouping.groups)
    }

    /// Returns the normalisation of what is quantized.
    pub(super) fn normalizer(&self) -> Normalizer {
        Normalizer::new(self.config, self.grouping)
    }
}
