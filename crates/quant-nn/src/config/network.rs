//! The configuration of any network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    mobilenet::{MobileNetV1Config, MobileNetV2Config},
    nin::NinConfig,
    quantization::Quantization,
    resnet::ResNetConfig,
    vgg_small::VggSmallConfig,
};
use crate::error::NetworkError;

/// A network of any structure.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Levels, Method, QuantizerConfig, Role};
/// use quant_nn::{
///     NetworkConfig, Quantization, ResNetConfig,
///     resnet::{Depth, Stem},
/// };
///
/// let quantizer = |role| QuantizerConfig::new(Method::Lsq, role, Levels::TERNARY);
/// let config = NetworkConfig::from(ResNetConfig {
///     width_alpha: 0.25,
///     quantization: Quantization {
///         activation: Some(quantizer(Role::Activation)),
///         weight: Some(quantizer(Role::Weight)),
///         ..Quantization::default()
///     },
///     // For 10 classes and images of 32 by 32 pixels.
///     ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 32)
/// });
/// let device = Device::flex();
/// let network = config.init(&device)?;
/// assert_eq!(network.forward(Tensor::zeros([2, 3, 32, 32], &device)).dims(), [2, 10]);
/// # Ok::<(), quant_nn::NetworkError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "architecture", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// A residual network.
    #[serde(rename = "resnet")]
    ResNet(ResNetConfig),
    /// MobileNet v1: a convolution and 13 blocks of a depthwise and a point-wise convolution.
    MobilenetV1(MobileNetV1Config),
    /// MobileNet v2: inverted residuals.
    MobilenetV2(MobileNetV2Config),
    /// VGG-small, the CIFAR network of low-bit papers: six 3x3 convolutions and a linear layer.
    VggSmall(VggSmallConfig),
    /// Network in network, for CIFAR: nine convolutions, most of them 1x1, and no linear layer.
    Nin(NinConfig),
}

/// Evaluates `body` for the configuration of the structure.
macro_rules! each_config {
    ($self:expr, $config:ident => $body:expr) => {
        match $self {
            $crate::config::NetworkConfig::ResNet($config) => $body,
            $crate::config::NetworkConfig::MobilenetV1($config) => $body,
            $crate::config::NetworkConfig::MobilenetV2($config) => $body,
            $crate::config::NetworkConfig::VggSmall($config) => $body,
            $crate::config::NetworkConfig::Nin($config) => $body,
        }
    };
}
pub(crate) use each_config;

impl From<ResNetConfig> for NetworkConfig {
    fn from(config: ResNetConfig) -> Self {
        NetworkConfig::ResNet(config)
    }
}

impl NetworkConfig {
    /// Checks the values that the types of the fields do not exclude. [`init`](Self::init) calls
    /// it.
    ///
    /// # Errors
    /// The errors of `validate` of the configuration of the structure.
    pub fn validate(&self) -> Result<(), NetworkError> {
        each_config!(self, config => config.validate())
    }

    /// Returns the side of the input images, in pixels.
    pub fn input_size(&self) -> usize {
        each_config!(self, config => config.input_size)
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        each_config!(self, config => config.classes)
    }

    /// Changes the number of classes and the side of the input images.
    pub fn set_data(&mut self, classes: usize, input_size: usize) {
        each_config!(self, config => (config.classes, config.input_size) = (classes, input_size));
    }

    /// Returns the quantizers of the layers.
    pub fn quantization(&self) -> &Quantization {
        each_config!(self, config => &config.quantization)
    }

    /// Returns the quantizers of the layers, to change them.
    pub fn quantization_mut(&mut self) -> &mut Quantization {
        each_config!(self, config => &mut config.quantization)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resnet::{BlockKernel, Depth, LosslessDownsample, Stem};

    /// Returns a configuration that is read from only the fields that have no default.
    fn least(architecture: &str, said: serde_json::Value) -> NetworkConfig {
        let mut fields = said;
        fields["architecture"] = architecture.into();
        (fields["classes"], fields["input_size"]) = (10.into(), 64.into());
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn what_a_description_leaves_out_is_as_new_makes_it() {
        let none = || serde_json::json!({});
        let residual = serde_json::json!({ "depth": "resnet50", "stem": "cifar" });
        for (read, made) in [
            (
                least("resnet", residual),
                ResNetConfig::new(Depth::ResNet50, Stem::Cifar, 10, 64).into(),
            ),
            (
                least("mobilenet-v1", none()),
                NetworkConfig::MobilenetV1(MobileNetV1Config::new(10, 64)),
            ),
            (
                least("mobilenet-v2", none()),
                NetworkConfig::MobilenetV2(MobileNetV2Config::new(10, 64)),
            ),
            (least("vgg-small", none()), NetworkConfig::VggSmall(VggSmallConfig::new(10, 64))),
            (least("nin", none()), NetworkConfig::Nin(NinConfig::new(10, 64))),
        ] {
            assert_eq!(read, made);
        }
    }

    #[test]
    fn choices_that_a_place_does_not_have_are_refused() {
        let base = ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 2, 32);
        let second = ResNetConfig { second_kernel: BlockKernel::None, ..base.clone() };
        let text = second.validate().unwrap_err().to_string();
        assert!(text.contains("second_kernel = none: expected usual, one or three"), "{text}");
        let order = "cbbbb".to_owned();
        let lossless = Some(LosslessDownsample { order, whole_block: false });
        let text = ResNetConfig { lossless_downsample: lossless, ..base }.validate().unwrap_err();
        assert!(text.to_string().ends_with("expected c, ca, cb or cba"));
    }
}
