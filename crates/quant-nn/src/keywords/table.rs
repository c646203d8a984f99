//! The words, with the effect of each on a typed configuration.

use quant_core::qtool::QtoolOptions;

use super::beside::{IGNORED, QUANTIZERS};
use crate::{
    config::{
        FirstLast, FirstLastQuantizers, NetworkConfig, each_config,
        mobilenet::{MobileNetV1Config, MobileSkip},
        resnet::{
            BlockKernel, DownsampleKind, Fixup, LosslessDownsample, NameStyle, Order, PointReshape,
            ResNetConfig, SkipSpan, Stem,
        },
        vgg_small::PlainOrder,
    },
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
};

/// Changes the configuration. Returns whether the word has an effect on it.
pub(super) type Apply = fn(&mut NetworkConfig, &QtoolOptions) -> Result<bool, NetworkError>;

/// A word of the table.
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// Words of one kind exclude each other; empty for words that go with all.
    pub kind: &'static str,
    /// A one-line description of the effect.
    pub what: &'static str,
    pub(super) apply: Apply,
}

fn resnet(net: &mut NetworkConfig, f: impl FnOnce(&mut ResNetConfig)) -> bool {
    match net {
        NetworkConfig::ResNet(config) if config.names == NameStyle::Keyword => {
            f(config);
            true
        }
        _ => false,
    }
}

fn v1(net: &mut NetworkConfig, f: impl FnOnce(&mut MobileNetV1Config)) -> bool {
    match net {
        NetworkConfig::MobilenetV1(config) => {
            f(config);
            true
        }
        _ => false,
    }
}

fn layers(net: &mut NetworkConfig) -> (&mut NormKind, &mut ActivationKind) {
    each_config!(net, config => (&mut config.norm, &mut config.activation))
}

fn norm(net: &mut NetworkConfig, kind: NormKind) -> bool {
    *layers(net).0 = kind;
    true
}

fn activation(net: &mut NetworkConfig, kind: ActivationKind) -> bool {
    *layers(net).1 = kind;
    true
}

fn order(net: &mut NetworkConfig, order: Order) -> bool {
    match net {
        NetworkConfig::ResNet(c) if c.names == NameStyle::Keyword => c.order = order,
        NetworkConfig::MobilenetV1(c) => c.order = order,
        NetworkConfig::MobilenetV2(c) => c.order = order,
        _ => return false,
    }
    true
}

fn plain_order(net: &mut NetworkConfig, order: PlainOrder) -> bool {
    match net {
        NetworkConfig::VggSmall(c) => c.order = order,
        _ => return false,
    }
    true
}

/// Sets the number of classes, the size of the images, and the stem for this size.
fn data(net: &mut NetworkConfig, classes: usize, size: usize) -> bool {
    match net {
        // torchvision's networks keep their 1000 classes and their stem.
        NetworkConfig::ResNet(c) if c.names == NameStyle::Torchvision => c.input_size = size,
        NetworkConfig::ResNet(c) => {
            (c.classes, c.input_size) = (classes, size);
            c.stem = if size == 32 { Stem::Cifar } else { Stem::ImageNet };
        }
        NetworkConfig::MobilenetV1(c) => {
            (c.classes, c.input_size, c.strided_stem) = (classes, size, Some(size != 32));
        }
        NetworkConfig::MobilenetV2(c) => {
            (c.classes, c.input_size, c.small_images) = (classes, size, Some(size == 32));
        }
        other => other.set_data(classes, size),
    }
    true
}

fn stem_kernel(options: &QtoolOptions) -> Result<usize, NetworkError> {
    Ok(options.get("stem_kernel")?.unwrap_or(1))
}

macro_rules! word {
    ($word:literal, $kind:literal, $what:literal, $apply:expr) => {
        Word { word: $word, kind: $kind, what: $what, apply: $apply }
    };
}

/// The structural words, in the order in which they are applied.
pub const WORDS: &[Word] = &[
    word!("imagenet", "data", "1000 classes of 224x224 images", |n, _| Ok(data(n, 1000, 224))),
    word!("cifar10", "data", "10 classes of 32x32 images; 3x3 stem", |n, _| Ok(data(n, 10, 32))),
    word!("cifar100", "data", "100 classes of 32x32 images; 3x3 stem", |n, _| Ok(data(n, 100, 32))),
    word!("cbas", "order", "convolution, norm, activation, skip", |n, _| Ok(order(n, Order::Cbas))),
    word!("cbsa", "order", "convolution, norm, skip, activation", |n, _| Ok(order(n, Order::Cbsa))),
    word!("cabs", "order", "convolution, activation, norm, skip", |n, _| Ok(order(n, Order::Cabs))),
    word!("bacs", "order", "norm, activation, convolution, skip", |n, _| Ok(order(n, Order::Bacs))),
    word!("bcas", "order", "norm, convolution, activation, skip", |n, _| Ok(order(n, Order::Bcas))),
    word!("cba", "order", "convolution, norm, activation (VGG-small)", |n, _| {
        Ok(plain_order(n, PlainOrder::Cba))
    }),
    word!("bac", "order", "norm, activation, convolution (VGG-small)", |n, _| {
        Ok(plain_order(n, PlainOrder::Bac))
    }),
    word!("abc", "order", "activation, norm, convolution (VGG-small)", |n, _| {
        Ok(plain_order(n, PlainOrder::Abc))
    }),
    word!(
        "origin",
        "",
        "skips lead over whole blocks; without it over each convolution",
        |n, _| {
            Ok(match n {
                NetworkConfig::MobilenetV1(_) | NetworkConfig::MobilenetV2(_) => true,
                _ => resnet(n, |c| c.skip = SkipSpan::Block),
            })
        }
    ),
    word!("fix", "", "last activation behind the addition, or a norm before it", |n, _| {
        Ok(resnet(n, |c| c.fix = true))
    }),
    word!("fix_pooling", "", "the stem's norm stands before its pooling", |n, _| {
        Ok(resnet(n, |c| c.norm_before_pool = true))
    }),
    word!("preBN", "", "no norm in the stem; one before the last pooling", |n, _| {
        Ok(v1(n, |c| c.pre_norm = true) || resnet(n, |c| c.pre_norm = true))
    }),
    word!("patch_preBN_stem", "", "with preBN: activations there, norm in the stem too", |n, _| {
        Ok(resnet(n, |c| c.pre_norm_stem = true))
    }),
    word!("singleconv", "skip branch", "skip branch: strided 1x1 convolution", |n, _| {
        Ok(resnet(n, |c| c.downsample = DownsampleKind::StridedConv))
    }),
    word!("DCHR", "skip branch", "skip branch: pooled input, channels repeated", |n, _| {
        Ok(resnet(n, |c| c.downsample = DownsampleKind::Repeat))
    }),
    word!("identify_norm", "", "skips without convolution get a norm", |n, _| {
        Ok(resnet(n, |c| c.identity_norm = true))
    }),
    word!(
        "real_skip",
        "",
        "skip branches and lossless downsampling stay in full precision",
        |n, _| {
            n.quantization_mut().real_downsample = true;
            Ok(matches!(n, NetworkConfig::ResNet(_)))
        }
    ),
    word!(
        "first-last",
        "treatment of first and last layer",
        "both are quantized like the other layers",
        |n, _| {
            n.quantization_mut().first_last = FirstLast::LikeOthers;
            Ok(true)
        }
    ),
    word!(
        "first-last-8bit",
        "treatment of first and last layer",
        "both have 8 bits; a word of ours",
        |n, _| {
            n.quantization_mut().first_last = FirstLast::Own(FirstLastQuantizers::new(8));
            Ok(true)
        }
    ),
    word!("TResNetStem", "stem", "space-to-depth 4, then a convolution", |n, options| {
        let kernel = stem_kernel(options)?;
        Ok(resnet(n, |c| c.stem = Stem::SpaceToDepth(kernel)))
    }),
    word!("TResNetStemMaxPool", "stem", "space-to-depth 2, convolution, max pool", |n, options| {
        let kernel = stem_kernel(options)?;
        Ok(resnet(n, |c| c.stem = Stem::SpaceToDepthMaxPool(kernel)))
    }),
    word!("caffe-pooling", "", "max pool without padding, ceiling mode", |n, _| {
        Ok(match n {
            NetworkConfig::ResNet(c) => {
                c.caffe_pooling = true;
                true
            }
            _ => false,
        })
    }),
    word!("group-net", "", "no activation in the stem; for --base branches", |n, _| {
        Ok(resnet(n, |c| c.linear_stem = true))
    }),
    word!("ReShapeResolution", "", "lossless downsampling: space-to-depth, 1x1", |n, options| {
        let order: Option<String> = options.get("order")?;
        let order = order.unwrap_or_else(|| "c".to_owned());
        Ok(resnet(n, |c| {
            c.lossless_downsample = Some(LosslessDownsample { order, whole_block: false });
        }))
    }),
    word!(
        "ldn3x3",
        "",
        "lossless downsampling by a 3x3 convolution for the whole block",
        |n, _| {
            let mut there = false;
            resnet(n, |c| {
                if let Some(lossless) = &mut c.lossless_downsample {
                    (lossless.whole_block, there) = (true, true);
                }
            });
            Ok(there)
        }
    ),
    word!("prone", "", "point-wise-and-reshape convolutions", |n, _| {
        let reshape = Some(PointReshape::default());
        Ok(v1(n, |c| c.point_reshape = reshape) || resnet(n, |c| c.point_reshape = reshape))
    }),
    word!("no_prone_downsample", "", "with prone: strided convolutions stay 3x3", |n, _| {
        Ok(reshape(n, |reshape| reshape.keep_downsample = true))
    }),
    word!("bn_before_restore", "", "with prone: norm before depth-to-space", |n, _| {
        Ok(reshape(n, |reshape| reshape.norm_before_restore = true))
    }),
    word!("f0x0", "first kernel", "no first convolution in lossless blocks", |n, _| {
        Ok(resnet(n, |c| c.first_kernel = BlockKernel::None))
    }),
    word!("f1x1", "first kernel", "first convolution 1x1 in lossless blocks", |n, _| {
        Ok(resnet(n, |c| c.first_kernel = BlockKernel::One))
    }),
    word!("f3x3", "first kernel", "first convolution 3x3 in lossless and prone blocks", |n, _| {
        Ok(resnet(n, |c| c.first_kernel = BlockKernel::Three))
    }),
    word!(
        "s1x1",
        "second kernel",
        "second convolution 1x1 in lossless and prone blocks",
        |n, _| { Ok(resnet(n, |c| c.second_kernel = BlockKernel::One)) }
    ),
    word!("s3x3", "second kernel", "second convolution 3x3 in prone blocks", |n, _| {
        Ok(resnet(n, |c| c.second_kernel = BlockKernel::Three))
    }),
    word!(
        "force_padding",
        "",
        "strided convolutions of 14x14 inputs are padded by 1 more",
        |n, _| { Ok(resnet(n, |c| c.extra_padding = true)) }
    ),
    word!("fixup", "", "Fixup: no norms, learned scales, small initial weights", |n, _| {
        Ok(resnet(n, |c| c.fixup = Some(Fixup::default())))
    }),
    word!("bias", "", "with fixup: learned biases", |n, _| {
        let mut there = false;
        resnet(n, |c| {
            if let Some(fixup) = &mut c.fixup {
                (fixup.bias, there) = (true, true);
            }
        });
        Ok(there)
    }),
    word!("zir", "", "the last norm of each block starts at scale 0", |n, _| {
        Ok(match n {
            NetworkConfig::ResNet(c) => {
                c.zero_init_residual = true;
                true
            }
            _ => false,
        })
    }),
    word!(
        "group-norm",
        "norm",
        "group normalisation, --fm_quant_group groups or 32",
        |n, options| {
            let groups: Option<usize> = options.get("fm_quant_group")?;
            Ok(norm(n, NormKind::Group(groups.filter(|groups| *groups > 0).unwrap_or(32))))
        }
    ),
    word!("static-bn", "norm", "norms with fixed statistics", |n, _| Ok(norm(n, NormKind::Static))),
    word!("freeze-bn", "norm", "norms that are fixed altogether", |n, _| {
        Ok(norm(n, NormKind::Frozen))
    }),
    word!("reverse-bn", "norm", "scale and shift before normalising", |n, _| {
        Ok(norm(n, NormKind::Reverse))
    }),
    word!("instance-norm", "norm", "normalisation of each channel of each image", |n, _| {
        Ok(norm(n, NormKind::Instance))
    }),
    word!("PReLU", "activation", "PReLU with one slope", |n, _| {
        Ok(activation(n, ActivationKind::PReLU))
    }),
    word!("NReLU", "activation", "no activation function", |n, _| {
        Ok(activation(n, ActivationKind::NReLU))
    }),
    word!("ReLU6", "activation", "ReLU cut off at 6", |n, _| Ok(activation(
        n,
        ActivationKind::ReLU6
    ))),
    word!("LReLU", "activation", "leaky ReLU", |n, _| Ok(activation(n, ActivationKind::LReLU))),
    word!("RPReLU", "activation", "ReActNet's PReLU with learned shifts", |n, _| {
        Ok(activation(n, ActivationKind::RPReLU))
    }),
    word!("bireal", "mobile skip", "MobileNet v1: a skip over each convolution", |n, _| {
        Ok(v1(n, |c| c.skip = MobileSkip::Layer))
    }),
    word!("block_skip", "mobile skip", "MobileNet v1: a skip over each block", |n, _| {
        Ok(v1(n, |c| c.skip = MobileSkip::Block))
    }),
    word!("react", "", "with bireal: channels double by two convolutions side by side", |n, _| {
        Ok(v1(n, |c| c.double_by_concatenation = true))
    }),
    word!("normal3x3", "", "MobileNet v1: ordinary 3x3 convolutions", |n, _| {
        Ok(v1(n, |c| c.normal_3x3 = true))
    }),
    word!("real_dp", "", "MobileNet v1: depthwise convolutions in full precision", |n, _| {
        Ok(v1(n, |c| c.real_depthwise = true))
    }),
    word!("real_pt", "", "MobileNet v1: point-wise convolutions in full precision", |n, _| {
        Ok(v1(n, |c| c.real_pointwise = true))
    }),
];

fn reshape(net: &mut NetworkConfig, f: impl FnOnce(&mut PointReshape)) -> bool {
    let reshape = match net {
        NetworkConfig::ResNet(c) => &mut c.point_reshape,
        NetworkConfig::MobilenetV1(c) => &mut c.point_reshape,
        _ => return false,
    };
    match reshape {
        Some(reshape) => {
            f(reshape);
            true
        }
        None => false,
    }
}

/// Returns every word as a Markdown table, with its effect and the words that it excludes.
#[doc(hidden)]
pub fn table() -> String {
    use std::fmt::Write;
    let mut table = String::from("| word | what it does | excludes |\n|---|---|---|\n");
    for entry in WORDS {
        let rivals = WORDS.iter().filter(|other| {
            !entry.kind.is_empty() && other.kind == entry.kind && other.word != entry.word
        });
        let rivals: Vec<&str> = rivals.map(|other| other.word).collect();
        let rivals = if rivals.is_empty() { "-".to_owned() } else { rivals.join(", ") };
        let _ = writeln!(table, "| `{}` | {} | {rivals} |", entry.word, entry.what);
    }
    for (word, what) in QUANTIZERS.iter().chain(&IGNORED) {
        let _ = writeln!(table, "| `{word}` | {what} | - |");
    }
    table
}
