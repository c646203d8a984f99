//! The models that a description names, before any keyword changes them.

use crate::{
    config::{
        NetworkConfig,
        mobilenet::{MobileNetV1Config, MobileNetV2Config},
        nin::NinConfig,
        resnet::{Depth, DownsampleKind, NameStyle, ResNetConfig, SkipSpan, Stem},
        vgg_small::VggSmallConfig,
    },
    error::NetworkError,
};

/// Returns the network of a model name, before any keyword is applied.
pub(super) fn model(name: &str) -> Result<NetworkConfig, NetworkError> {
    let keyword = |depth| {
        NetworkConfig::ResNet(ResNetConfig {
            skip: SkipSpan::Layer,
            fix: false,
            norm_before_pool: false,
            downsample: DownsampleKind::AveragePool,
            names: NameStyle::Keyword,
            ..ResNetConfig::new(depth, Stem::ImageNet, 1000, 224)
        })
    };
    let torchvision = |depth, groups, width_per_group| {
        NetworkConfig::ResNet(ResNetConfig {
            groups,
            width_per_group,
            ..ResNetConfig::new(depth, Stem::ImageNet, 1000, 224)
        })
    };
    Ok(match name {
        "resnet18" => keyword(Depth::ResNet18),
        "resnet20" => keyword(Depth::ResNet20),
        "resnet20_" => keyword(Depth::ResNet20Wide),
        "resnet32" => keyword(Depth::ResNet32),
        "resnet34" => keyword(Depth::ResNet34),
        "resnet34_" => keyword(Depth::ResNet34Deep),
        "resnet44" => keyword(Depth::ResNet44),
        "resnet50" => keyword(Depth::ResNet50),
        "resnet56" => keyword(Depth::ResNet56),
        "resnet101" => keyword(Depth::ResNet101),
        "pytorch-resnet18" => torchvision(Depth::ResNet18, 1, 64),
        "pytorch-resnet34" => torchvision(Depth::ResNet34, 1, 64),
        "pytorch-resnet50" => torchvision(Depth::ResNet50, 1, 64),
        "pytorch-resnet101" => torchvision(Depth::ResNet101, 1, 64),
        "pytorch-resnet152" => torchvision(Depth::ResNet152, 1, 64),
        "pytorch-resnext50_32x4d" => torchvision(Depth::ResNet50, 32, 4),
        "pytorch-wide_resnet50_2" => torchvision(Depth::ResNet50, 1, 128),
        // Words say whether images are small, whatever their size is.
        "mobilenetv1" => NetworkConfig::MobilenetV1(MobileNetV1Config {
            strided_stem: Some(true),
            ..MobileNetV1Config::new(1000, 224)
        }),
        "mobilenetv2" => NetworkConfig::MobilenetV2(MobileNetV2Config {
            small_images: Some(false),
            ..MobileNetV2Config::new(1000, 224)
        }),
        "vgg_small" => NetworkConfig::VggSmall(VggSmallConfig::new(10, 32)),
        "nin" => NetworkConfig::Nin(NinConfig::new(10, 32)),
        _ => {
            let reason = format!("no such model; known: {}", MODELS.join(", "));
            return Err(NetworkError::Keyword { word: name.to_owned(), reason });
        }
    })
}

/// The names of the models.
pub const MODELS: [&str; 21] = [
    "resnet18",
    "resnet20",
    "resnet20_",
    "resnet32",
    "resnet34",
    "resnet34_",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "pytorch-resnet18",
    "pytorch-resnet34",
    "pytorch-resnet50",
    "pytorch-resnet101",
    "pytorch-resnet152",
    "pytorch-resnext50_32x4d",
    "pytorch-wide_resnet50_2",
    "mobilenetv1",
    "mobilenetv2",
    "vgg_small",
    "nin",
];
