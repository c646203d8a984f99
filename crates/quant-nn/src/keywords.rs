//! QTool's keywords: one table of words, what each does to a typed configuration, and an explanation.
//!
//! A network is described by a model name (`resnet20`, `pytorch-resnet18`, `mobilenetv1`, ...), keywords and a
//! few options. Words are applied in the table's order, so their order in the text does not matter. To add a
//! word, add it to [`WORDS`]: it is then parsed, tested, explained and documented. Words of your own are closures
//! ([`Registry::with`]).

use quant_core::{Role, qtool::QtoolOptions};

use crate::{
    error::NetworkError,
    layers::{activation::ActivationKind, norm::NormKind},
    mobilenet::{MobileNetV1Config, MobileNetV2Config, MobileSkip},
    network::NetworkConfig,
    nin::NinConfig,
    resnet::{
        Depth, DownsampleKind, Fixup, Kernel, LosslessDownsample, NameStyle, Order, PointReshape,
        Quantization, ResNetConfig, SkipSpan, Stem,
    },
    vgg_small::{PlainOrder, VggSmallConfig},
};

/// Changes the configuration; whether the word means something for it.
type Apply = fn(&mut NetworkConfig, &QtoolOptions) -> Result<bool, NetworkError>;

/// A word of the table.
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// Words of one kind exclude each other; empty for words that go with all.
    pub kind: &'static str,
    /// What it does, in a line.
    pub what: &'static str,
    apply: Apply,
}

/// A word that a caller has registered.
struct Custom {
    word: String,
    what: String,
    apply: Box<dyn Fn(&mut NetworkConfig)>,
}

/// The words that are known: the table's, and the caller's own.
#[derive(Default)]
pub struct Registry {
    custom: Vec<Custom>,
}

/// What a description came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The network.
    pub config: NetworkConfig,
    /// One line a word: what it did.
    pub lines: Vec<String>,
    /// What was odd and did no harm: words given twice, words without effect on this model.
    pub warnings: Vec<String>,
}

/// Words that describe quantizers, which `quant_core::qtool` reads.
const QUANTIZERS: [(&str, &str); 26] = [
    ("dorefa", "DoReFa quantizers"),
    ("pact", "PACT activations with DoReFa weights"),
    ("lsq", "LSQ in every role"),
    ("fm_lsq", "LSQ activations"),
    ("wt_lsq", "LSQ weights"),
    ("ot_lsq", "LSQ outputs"),
    ("wt_bin", "DoReFa's binary weights"),
    ("gamma", "XNOR-Net++'s learned factor on weights"),
    ("wt_gamma", "a learned factor on weights"),
    ("ot_gamma", "a learned factor on outputs"),
    ("lq", "LQ-Nets"),
    ("xnor", "signs"),
    ("non-uniform", "FATNN in every role"),
    ("fm_non-uniform", "FATNN activations"),
    ("wt_non-uniform", "FATNN weights"),
    ("ot_non-uniform", "FATNN outputs"),
    ("closed_form", "FATNN values times a least squares factor"),
    ("fm_closed_form", "the same, of activations"),
    ("wt_closed_form", "the same, of weights"),
    ("custom-update", "LQ-Nets' basis is the running mean of all solutions"),
    ("independent_norm", "weights are normalised over the whole tensor"),
    ("adaptive", "set by --fm_adaptive and --wt_adaptive"),
    ("proxquant", "proximal quantization, a matter of training"),
    ("probe", "records quantizers in evaluation"),
    ("label-smooth", "label smoothing, a matter of training"),
    ("less_bn", "frozen norms stay in evaluation, a matter of training"),
];

/// Words that the reference accepts and that change nothing here.
const IGNORED: [(&str, &str); 3] = [
    ("keepdim", "accepted and ignored: point-wise-and-reshape keeps the resolution anyway"),
    ("wt_pass", "accepted and ignored: the default of XNOR weights"),
    ("No-ReLU", "accepted and ignored: see NReLU"),
];

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
    match net {
        NetworkConfig::ResNet(c) => (&mut c.norm, &mut c.activation),
        NetworkConfig::MobilenetV1(c) => (&mut c.norm, &mut c.activation),
        NetworkConfig::MobilenetV2(c) => (&mut c.norm, &mut c.activation),
        NetworkConfig::VggSmall(c) => (&mut c.norm, &mut c.activation),
        NetworkConfig::Nin(c) => (&mut c.norm, &mut c.activation),
    }
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

/// Classes, size of images, and the stem that goes with them.
fn data(net: &mut NetworkConfig, classes: usize, size: usize) -> bool {
    match net {
        // torchvision's networks keep their 1000 classes and their stem.
        NetworkConfig::ResNet(c) if c.names == NameStyle::Torchvision => c.input_size = size,
        NetworkConfig::ResNet(c) => {
            (c.classes, c.input_size) = (classes, size);
            c.stem = if size == 32 { Stem::Cifar } else { Stem::ImageNet };
        }
        NetworkConfig::MobilenetV1(c) => {
            (c.classes, c.input_size, c.strided_stem) = (classes, size, size != 32);
        }
        NetworkConfig::MobilenetV2(c) => {
            (c.classes, c.input_size, c.small_images) = (classes, size, size == 32);
        }
        NetworkConfig::VggSmall(c) => (c.classes, c.input_size) = (classes, size),
        NetworkConfig::Nin(c) => (c.classes, c.input_size) = (classes, size),
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
    word!("real_skip", "", "skip branches stay in full precision", |n, _| {
        n.quantization_mut().real_downsample = true;
        Ok(matches!(n, NetworkConfig::ResNet(_)))
    }),
    word!("first-last", "", "first and last layer are quantized too", |n, _| {
        n.quantization_mut().first_last = true;
        Ok(true)
    }),
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
        Ok(resnet(n, |c| c.first_kernel = Kernel::None))
    }),
    word!("f1x1", "first kernel", "first convolution 1x1 in lossless blocks", |n, _| {
        Ok(resnet(n, |c| c.first_kernel = Kernel::One))
    }),
    word!("f3x3", "first kernel", "first convolution 3x3 in lossless and prone blocks", |n, _| {
        Ok(resnet(n, |c| c.first_kernel = Kernel::Three))
    }),
    word!(
        "s1x1",
        "second kernel",
        "second convolution 1x1 in lossless and prone blocks",
        |n, _| { Ok(resnet(n, |c| c.second_kernel = Kernel::One)) }
    ),
    word!("s3x3", "second kernel", "second convolution 3x3 in prone blocks", |n, _| {
        Ok(resnet(n, |c| c.second_kernel = Kernel::Three))
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

/// The models: name, and the network before any keyword.
fn model(name: &str) -> Result<NetworkConfig, NetworkError> {
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
        "mobilenetv1" => NetworkConfig::MobilenetV1(MobileNetV1Config::new(1000, 224)),
        "mobilenetv2" => NetworkConfig::MobilenetV2(MobileNetV2Config::new(1000, 224)),
        "vgg_small" => NetworkConfig::VggSmall(VggSmallConfig::new(10, 32)),
        "nin" => NetworkConfig::Nin(NinConfig::new(10, 32)),
        _ => {
            let reason = format!("no such model; known: {}", MODELS.join(", "));
            return Err(NetworkError::Keyword { word: name.to_owned(), reason });
        }
    })
}

/// The models' names.
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

/// The network that QTool builds from `model_name`, its keywords and its options.
///
/// # Errors
/// [`NetworkError::Keyword`] for an unknown model or word, and for words that contradict each other; the
/// quantizers' errors.
pub fn network(model_name: &str, qtool: &QtoolOptions) -> Result<NetworkConfig, NetworkError> {
    Ok(Registry::default().read(model_name, qtool)?.config)
}

impl Registry {
    /// Registers a word of the caller's own, which is applied after the table's.
    #[must_use]
    pub fn with(
        mut self,
        word: impl Into<String>,
        what: impl Into<String>,
        apply: impl Fn(&mut NetworkConfig) + 'static,
    ) -> Self {
        let (word, what, apply) = (word.into(), what.into(), Box::new(apply));
        self.custom.push(Custom { word, what, apply });
        self
    }

    /// Reads a description, and says what each word did.
    ///
    /// # Errors
    /// Those of [`network`].
    pub fn read(&self, model_name: &str, qtool: &QtoolOptions) -> Result<Explained, NetworkError> {
        let mut config = model(model_name)?;
        let words: Vec<&str> = qtool.keywords().collect();
        words.iter().try_for_each(|word| self.known(word))?;
        contradictions(&words)?;
        let (mut lines, mut warnings) = (Vec::new(), Vec::new());
        for entry in WORDS.iter().filter(|entry| words.contains(&entry.word)) {
            match (entry.apply)(&mut config, qtool)? {
                true => lines.push(format!("{}: {}", entry.word, entry.what)),
                false => warnings.push(format!("{}: no effect on {model_name} here", entry.word)),
            }
        }
        let told = QUANTIZERS.iter().chain(&IGNORED);
        for (word, what) in told.filter(|(word, _)| words.contains(word)) {
            lines.push(format!("{word}: {what}"));
        }
        options(&mut config, qtool)?;
        for custom in self.custom.iter().filter(|custom| words.contains(&custom.word.as_str())) {
            (custom.apply)(&mut config);
            lines.push(format!("{}: {}", custom.word, custom.what));
        }
        for word in qtool.repeated() {
            warnings.push(format!("{word}: given more than once"));
        }
        if let NetworkConfig::ResNet(resnet) = &config
            && resnet.names == NameStyle::Keyword
            && !words.iter().any(|word| kind(word) == Some("order"))
        {
            let reason = "needs the order of a block: cbas, cbsa, cabs, bacs or bcas".to_owned();
            return Err(NetworkError::Keyword { word: model_name.to_owned(), reason });
        }
        Ok(Explained { config, lines, warnings })
    }

    fn known(&self, word: &str) -> Result<(), NetworkError> {
        let table = WORDS.iter().map(|entry| entry.word);
        let others = QUANTIZERS.iter().chain(&IGNORED).map(|(word, _)| *word);
        let custom = self.custom.iter().map(|custom| custom.word.as_str());
        let all: Vec<&str> = table.chain(others).chain(custom).collect();
        if all.contains(&word) {
            return Ok(());
        }
        let mut near: Vec<(usize, &str)> =
            all.into_iter().map(|known| (strsim::levenshtein(word, known), known)).collect();
        near.sort_unstable();
        let near: Vec<&str> = near.into_iter().take(3).map(|(_, known)| known).collect();
        let reason = format!("no such keyword; the nearest: {}", near.join(", "));
        Err(NetworkError::Keyword { word: word.to_owned(), reason })
    }
}

fn kind(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|entry| entry.word == word).map(|entry| entry.kind)
}

/// Words of one kind, and methods that cannot both be.
fn contradictions(words: &[&str]) -> Result<(), NetworkError> {
    let clash = |a: &str, b: &str, why: &str| {
        let reason = format!("contradicts {b:?}: {why}");
        Err(NetworkError::Keyword { word: a.to_owned(), reason })
    };
    let structural = WORDS.iter().filter(|entry| !entry.kind.is_empty());
    let given: Vec<&Word> = structural.filter(|entry| words.contains(&entry.word)).collect();
    for (index, entry) in given.iter().enumerate() {
        if let Some(other) = given[..index].iter().find(|other| other.kind == entry.kind) {
            return clash(other.word, entry.word, &format!("one {} at most", entry.kind));
        }
    }
    for family in ["lq", "xnor"] {
        let rivals = ["lq", "xnor", "pact", "dorefa", "lsq"];
        let rival = rivals.iter().find(|rival| **rival != family && words.contains(rival));
        if let Some(rival) = rival.filter(|_| words.contains(&family)) {
            return clash(family, rival, "one family of quantizers at most");
        }
    }
    Ok(())
}

/// What options say beside the words.
fn options(net: &mut NetworkConfig, qtool: &QtoolOptions) -> Result<(), NetworkError> {
    let classes: Option<usize> = qtool.get("num_classes")?;
    let size: Option<usize> = qtool.get("input_size")?;
    let alpha: Option<f64> = qtool.get("width_alpha")?;
    let branches: Option<usize> = qtool.get("base")?;
    let set = |field: &mut usize, value: Option<usize>| *field = value.unwrap_or(*field);
    match net {
        NetworkConfig::ResNet(c) => {
            set(&mut c.input_size, size);
            if c.names == NameStyle::Keyword {
                set(&mut c.classes, classes);
                set(&mut c.branches, branches);
                c.width_alpha = alpha.unwrap_or(c.width_alpha);
            }
        }
        NetworkConfig::MobilenetV1(c) => {
            set(&mut c.classes, classes);
            set(&mut c.input_size, size);
            c.width_alpha = alpha.unwrap_or(c.width_alpha);
        }
        NetworkConfig::MobilenetV2(c) => {
            set(&mut c.classes, classes);
            set(&mut c.input_size, size);
            c.width_alpha = alpha.unwrap_or(c.width_alpha);
        }
        NetworkConfig::VggSmall(c) => {
            set(&mut c.classes, classes);
            set(&mut c.input_size, size);
        }
        NetworkConfig::Nin(c) => {
            set(&mut c.classes, classes);
            set(&mut c.input_size, size);
        }
    }
    let quantization = net.quantization_mut();
    *quantization = Quantization {
        activation: qtool.quantizer(Role::Activation)?,
        weight: qtool.quantizer(Role::Weight)?,
        output: qtool.quantizer(Role::Output)?,
        padding_after_quant: qtool.has("padding_after_quant"),
        batch_size: qtool.get("batch_size")?,
        ..quantization.clone()
    };
    Ok(())
}

/// Every word as a Markdown table: what it does, and what it excludes.
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn read(model: &str, words: &str, options: &str) -> Result<Explained, NetworkError> {
        Registry::default().read(model, &QtoolOptions::parse(words, options)?)
    }

    fn message(model: &str, words: &str) -> String {
        read(model, words, "").unwrap_err().to_string()
    }

    /// Each word means something for some model, with the words it needs, and is explained.
    #[test]
    fn every_word_of_the_table_does_something() {
        let needs = |word: &str| match word {
            "ldn3x3" | "f0x0" | "f1x1" => ",ReShapeResolution",
            "no_prone_downsample" | "bn_before_restore" => ",prone",
            "bias" => ",fixup",
            _ => "",
        };
        for entry in WORDS {
            let order = |model: &str| match (model, entry.kind) {
                (_, "order") => "",
                ("vgg_small", _) => ",cba",
                _ => ",cbas",
            };
            let found =
                ["resnet20", "pytorch-resnet18", "mobilenetv1", "vgg_small"].iter().any(|model| {
                    let words = format!("{}{}{}", entry.word, needs(entry.word), order(model));
                    let Ok(explained) = read(model, &words, "") else { return false };
                    let line = format!("{}: {}", entry.word, entry.what);
                    explained.lines.contains(&line)
                });
            assert!(found, "{}", entry.word);
        }
    }

    #[test]
    fn the_order_of_words_does_not_matter() {
        let one = read("resnet20", "bias,origin,cifar10,cbsa,fixup", "").unwrap();
        let other = read("resnet20", "cifar10,fixup,cbsa,origin,bias", "").unwrap();
        assert_eq!(one.config, other.config);
        let NetworkConfig::ResNet(config) = one.config else { unreachable!() };
        assert_eq!(config.fixup, Some(Fixup { bias: true }));
    }

    #[test]
    fn an_unknown_word_shows_the_nearest() {
        let text = message("resnet20", "cifar10,cbsa,fix_poolin");
        assert!(text.contains("fix_poolin") && text.contains("nearest: fix_pooling"), "{text}");
        assert!(message("resnet19", "cbsa").contains("resnet18"));
    }

    #[test]
    fn contradictions_name_both_words() {
        for (words, both) in [
            ("cbas,bacs", ["cbas", "bacs"]),
            ("cbas,lq,pact", ["lq", "pact"]),
            ("cbas,xnor,lq", ["lq", "xnor"]),
            ("cbas,group-norm,static-bn", ["group-norm", "static-bn"]),
            ("cbas,cifar10,imagenet", ["imagenet", "cifar10"]),
            ("cbas,bireal,block_skip", ["bireal", "block_skip"]),
        ] {
            let text = message("resnet20", words);
            assert!(both.iter().all(|word| text.contains(&format!("{word:?}"))), "{text}");
        }
    }

    #[test]
    fn a_network_without_an_order_says_what_it_needs() {
        assert!(message("resnet20", "cifar10,origin").contains("cbas, cbsa, cabs, bacs or bcas"));
    }

    #[test]
    fn words_given_twice_and_words_without_effect_are_warnings() {
        let explained = read("pytorch-resnet18", "preBN,real_skip,real_skip", "").unwrap();
        assert_eq!(explained.warnings.len(), 2, "{:?}", explained.warnings);
        assert!(explained.warnings.iter().any(|warning| warning.starts_with("preBN")));
        assert!(explained.warnings.iter().any(|warning| warning.contains("more than once")));
    }

    #[test]
    fn a_word_of_the_callers_own_is_a_closure() {
        let registry = Registry::default().with("half", "half the width", |network| {
            if let NetworkConfig::ResNet(config) = network {
                config.width_alpha /= 2.0;
            }
        });
        let qtool = QtoolOptions::parse("cifar10,cbas,half", "--width_alpha 0.5").unwrap();
        let explained = registry.read("resnet20", &qtool).unwrap();
        let NetworkConfig::ResNet(config) = &explained.config else { unreachable!() };
        assert_eq!(config.width_alpha, 0.25);
        assert!(explained.lines.contains(&"half: half the width".to_owned()));
        assert!(message("resnet20", "cifar10,cbas,half").contains("half"));
    }

    #[test]
    fn every_model_builds() {
        for name in MODELS {
            let (words, options) = match name {
                "vgg_small" | "nin" => ("cifar10", ""),
                "resnet34_" => ("cifar10,origin,cbas", "--width_alpha 0.02 --input_size 256"),
                _ => ("imagenet,origin,cbas", "--width_alpha 0.0625 --input_size 64"),
            };
            let words = if name.starts_with("pytorch") { "imagenet" } else { words };
            let config = read(name, words, options).unwrap().config;
            assert!(
                config.init(&Device::flex()).is_ok(),
                "{name}: {:?}",
                config.init(&Device::flex())
            );
        }
    }
}
