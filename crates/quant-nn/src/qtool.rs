//! Reads QTool's network descriptions, a model name, keywords and options, into [`ResNetConfig`].

use quant_core::{Role, qtool::QtoolOptions};

use crate::{
    error::NetworkError,
    resnet::{Depth, DownsampleKind, NameStyle, Quantization, ResNetConfig, Stem},
};

/// Words that describe other things than the network's structure.
const QUANTIZER_WORDS: [&str; 13] = [
    "dorefa",
    "pact",
    "lsq",
    "fm_lsq",
    "wt_lsq",
    "ot_lsq",
    "wt_bin",
    "wt_gamma",
    "ot_gamma",
    "lq",
    "xnor",
    "gamma",
    "non-uniform",
];

/// Words whose structures exist here; the rest are refused.
const STRUCTURE_WORDS: [&str; 9] = [
    "imagenet",
    "cifar10",
    "cifar100",
    "origin",
    "cbsa",
    "fix_pooling",
    "singleconv",
    "fix",
    "real_skip",
];

/// The network that QTool builds from `model`, its keywords and its options.
///
/// # Errors
/// [`NetworkError::Keyword`] for a model or structure that is not available, and the quantizers'
/// errors.
pub fn resnet(model: &str, qtool: &QtoolOptions) -> Result<ResNetConfig, NetworkError> {
    let torchvision = model.starts_with("pytorch-");
    for word in qtool.keywords() {
        if !QUANTIZER_WORDS.contains(&word) && !STRUCTURE_WORDS.contains(&word) {
            let reason = format!("not available yet; known: {}", STRUCTURE_WORDS.join(", "));
            return Err(NetworkError::Keyword { word: word.to_owned(), reason });
        }
    }
    if !torchvision {
        // Without these, the networks are bi-real or put their activations elsewhere.
        for word in ["origin", "cbsa", "fix"] {
            if !qtool.keyword(word) {
                let reason = "structures without it are not available yet".to_owned();
                return Err(NetworkError::Keyword { word: word.to_owned(), reason });
            }
        }
    }
    let depth = match model.trim_start_matches("pytorch-") {
        "resnet20" => Depth::ResNet20,
        "resnet32" => Depth::ResNet32,
        "resnet44" => Depth::ResNet44,
        "resnet56" => Depth::ResNet56,
        "resnet18" => Depth::ResNet18,
        "resnet34" => Depth::ResNet34,
        "resnet50" => Depth::ResNet50,
        "resnet101" => Depth::ResNet101,
        _ => {
            let reason = "this model is not available yet".to_owned();
            return Err(NetworkError::Keyword { word: model.to_owned(), reason });
        }
    };
    let (stem, classes, size) = match (qtool.keyword("cifar10"), qtool.keyword("cifar100")) {
        (true, _) => (Stem::Cifar, 10, 32),
        (_, true) => (Stem::Cifar, 100, 32),
        _ => (Stem::ImageNet, 1000, 224),
    };
    // Without `fix_pooling` the pooling stands before the norm: the same where there is none.
    if !torchvision && stem == Stem::ImageNet && !qtool.keyword("fix_pooling") {
        let reason = "stems without it are not available yet".to_owned();
        return Err(NetworkError::Keyword { word: "fix_pooling".into(), reason });
    }
    // torchvision's networks keep their 1000 classes whatever the options say.
    let asked = qtool.get("num_classes")?.filter(|_| !torchvision);
    let quantizer = |role| qtool.quantizer(role);
    Ok(ResNetConfig {
        width_alpha: match torchvision {
            true => 1.0,
            false => qtool.get("width_alpha")?.unwrap_or(1.0),
        },
        downsample: match torchvision || qtool.keyword("singleconv") {
            true => DownsampleKind::StridedConv,
            false => DownsampleKind::AveragePool,
        },
        names: match torchvision {
            true => NameStyle::Torchvision,
            false => NameStyle::Keyword,
        },
        quantization: Quantization {
            activation: quantizer(Role::Activation)?,
            weight: quantizer(Role::Weight)?,
            output: quantizer(Role::Output)?,
            real_downsample: qtool.keyword("real_skip"),
            padding_after_quant: qtool.has("padding_after_quant"),
            batch_size: qtool.get("batch_size")?,
            ..Quantization::default()
        },
        ..ResNetConfig::new(
            depth,
            stem,
            asked.unwrap_or(classes),
            qtool.get("input_size")?.unwrap_or(size),
        )
    })
}
