//! The configurations that the search for a network tries.

use quant_nn::{
    NetworkConfig, ResNetConfig,
    layers::activation::ActivationKind,
    mobilenet::{MobileNetV1Config, MobileNetV2Config, MobileSkip},
    nin::NinConfig,
    resnet::{
        BlockKernel, Depth, DownsampleKind, Fixup, LosslessDownsample, Order, PointReshape,
        SkipSpan, Stem,
    },
    vgg_small::{PlainOrder, VggSmallConfig},
};

use super::facts::Facts;

const DEPTHS: [Depth; 11] = [
    Depth::ResNet18,
    Depth::ResNet20,
    Depth::ResNet32,
    Depth::ResNet34,
    Depth::ResNet44,
    Depth::ResNet50,
    Depth::ResNet56,
    Depth::ResNet101,
    Depth::ResNet152,
    Depth::ResNet20Wide,
    Depth::ResNet34Deep,
];

const ACTIVATIONS: [ActivationKind; 6] = [
    ActivationKind::ReLU,
    ActivationKind::NReLU,
    ActivationKind::ReLU6,
    ActivationKind::LReLU,
    ActivationKind::PReLU,
    ActivationKind::RPReLU,
];

/// The networks with which the search begins: those with about as many convolutions first, if each
/// is there `branches` times.
pub(super) fn starts(facts: &Facts, branches: usize) -> Vec<NetworkConfig> {
    let count = facts.convs.div_ceil(branches);
    let Facts { classes, size, .. } = *facts;
    let mut starts: Vec<(usize, NetworkConfig)> = Vec::new();
    for depth in DEPTHS {
        let blocks: usize = depth.stages().iter().sum();
        let (convs, of_block) = match depth.block() {
            quant_nn::resnet::BlockKind::Basic => (2 + 2 * blocks, 2),
            quant_nn::resnet::BlockKind::Bottleneck => (2 + 3 * blocks, 3),
        };
        // Skips may have a convolution in each stage but the first.
        let most = convs + depth.stages().len();
        let apart = match count {
            count if count < convs => (convs - count) * of_block,
            count => count.saturating_sub(most),
        };
        let stem = if size > 32 { Stem::ImageNet } else { Stem::Cifar };
        let config = ResNetConfig {
            width_alpha: facts.first as f64 / 64.0,
            ..ResNetConfig::new(depth, stem, classes, size)
        };
        starts.push((apart, config.into()));
    }
    let first = MobileNetV1Config {
        width_alpha: facts.most as f64 / 1024.0,
        ..MobileNetV1Config::new(classes, size)
    };
    starts.push((count.abs_diff(28), NetworkConfig::MobilenetV1(first)));
    let second = MobileNetV2Config {
        width_alpha: facts.first as f64 / 32.0,
        ..MobileNetV2Config::new(classes, size)
    };
    starts.push((count.abs_diff(53), NetworkConfig::MobilenetV2(second)));
    let vgg = VggSmallConfig::new(classes, size);
    starts.push((count.abs_diff(7), NetworkConfig::VggSmall(vgg)));
    let nin = NinConfig::new(classes, size);
    starts.push((count.abs_diff(9), NetworkConfig::Nin(nin)));
    starts.sort_by_key(|(apart, _)| *apart);
    starts.into_iter().map(|(_, config)| config).collect()
}

/// Returns configurations that differ from this one by a field.
pub(super) fn changes(config: &NetworkConfig, facts: &Facts) -> Vec<NetworkConfig> {
    match config {
        NetworkConfig::ResNet(config) => {
            of_resnet(config, facts).into_iter().map(NetworkConfig::ResNet).collect()
        }
        NetworkConfig::MobilenetV1(config) => {
            of_mobilenet_v1(config, facts).into_iter().map(NetworkConfig::MobilenetV1).collect()
        }
        NetworkConfig::MobilenetV2(config) => {
            of_mobilenet_v2(config, facts).into_iter().map(NetworkConfig::MobilenetV2).collect()
        }
        NetworkConfig::VggSmall(config) => {
            let orders = [PlainOrder::Cba, PlainOrder::Bac, PlainOrder::Abc];
            let order = orders.map(|order| VggSmallConfig { order, ..config.clone() });
            let activation =
                ACTIVATIONS.map(|activation| VggSmallConfig { activation, ..config.clone() });
            let norm =
                facts.norms.iter().map(|norm| VggSmallConfig { norm: *norm, ..config.clone() });
            let all = order.into_iter().chain(activation).chain(norm);
            all.map(NetworkConfig::VggSmall).collect()
        }
        NetworkConfig::Nin(config) => {
            let activation =
                ACTIVATIONS.map(|activation| NinConfig { activation, ..config.clone() });
            let norm = facts.norms.iter().map(|norm| NinConfig { norm: *norm, ..config.clone() });
            activation.into_iter().chain(norm).map(NetworkConfig::Nin).collect()
        }
    }
}

const FLAGS: [bool; 2] = [false, true];

const ORDERS: [Order; 5] = [Order::Cbas, Order::Cbsa, Order::Cabs, Order::Bacs, Order::Bcas];

const STEMS: [Stem; 6] = [
    Stem::Cifar,
    Stem::ImageNet,
    Stem::SpaceToDepth(1),
    Stem::SpaceToDepth(3),
    Stem::SpaceToDepthMaxPool(1),
    Stem::SpaceToDepthMaxPool(3),
];

/// Combinations of the fields that only fit together.
pub(super) fn combinations(
    config: &ResNetConfig,
    facts: &Facts,
    branches: usize,
) -> Vec<ResNetConfig> {
    let linear_stem = branches > 1;
    let mut all = vec![ResNetConfig { branches, linear_stem, ..config.clone() }];
    let mut vary = |changes: Vec<&dyn Fn(&mut ResNetConfig)>| {
        all = (all.iter())
            .flat_map(|config| {
                changes.iter().map(|change| {
                    let mut changed = config.clone();
                    change(&mut changed);
                    changed
                })
            })
            .collect();
    };
    let stems = STEMS.map(|stem| move |config: &mut ResNetConfig| config.stem = stem);
    vary(stems.iter().map(|change| change as &dyn Fn(&mut ResNetConfig)).collect());
    let orders = ORDERS.map(|order| move |config: &mut ResNetConfig| config.order = order);
    vary(orders.iter().map(|change| change as &dyn Fn(&mut ResNetConfig)).collect());
    if branches > 1 {
        let kinds =
            [DownsampleKind::StridedConv, DownsampleKind::AveragePool, DownsampleKind::Repeat];
        let kinds = kinds.map(|kind| move |config: &mut ResNetConfig| config.downsample = kind);
        vary(kinds.iter().map(|change| change as &dyn Fn(&mut ResNetConfig)).collect());
    }
    vary(vec![&|config| config.skip = SkipSpan::Block, &|config| config.skip = SkipSpan::Layer]);
    vary(vec![&|config| config.fix = false, &|config| config.fix = true]);
    vary(vec![&|config| config.norm_before_pool = false, &|config| config.norm_before_pool = true]);
    if facts.fixup {
        vary(vec![&|config| config.fixup = Some(Fixup { bias: false }), &|config| {
            config.fixup = Some(Fixup { bias: true })
        }]);
    } else {
        vary(vec![
            &|config| config.pre_norm = false,
            &|config| (config.pre_norm, config.pre_norm_stem) = (true, false),
            &|config| (config.pre_norm, config.pre_norm_stem) = (true, true),
        ]);
    }
    all
}

fn of_resnet(config: &ResNetConfig, facts: &Facts) -> Vec<ResNetConfig> {
    let mut all = Vec::new();
    let mut change = |change: &dyn Fn(&mut ResNetConfig)| {
        let mut changed = config.clone();
        change(&mut changed);
        all.push(changed);
    };
    for stem in STEMS {
        change(&|config| config.stem = stem);
        // These come with the layers after the stem.
        change(&|config| (config.stem, config.pre_norm) = (stem, true));
        change(&|config| (config.stem, config.norm_before_pool) = (stem, false));
        for fixup in [Fixup { bias: false }, Fixup { bias: true }] {
            change(&|config| (config.stem, config.fixup) = (stem, Some(fixup)));
        }
    }
    for activation in ACTIVATIONS {
        change(&|config| config.activation = activation);
    }
    for norm in &facts.norms {
        change(&|config| config.norm = *norm);
    }
    for order in ORDERS {
        for fix in FLAGS {
            for skip in [SkipSpan::Block, SkipSpan::Layer] {
                change(&|config| {
                    (config.order, config.fix, config.skip) = (order, fix, skip);
                });
            }
        }
    }
    for downsample in
        [DownsampleKind::StridedConv, DownsampleKind::AveragePool, DownsampleKind::Repeat]
    {
        for identity_norm in FLAGS {
            change(&|config| {
                (config.downsample, config.identity_norm) = (downsample, identity_norm);
            });
        }
    }
    for flag in FLAGS {
        change(&|config| config.norm_before_pool = flag);
        change(&|config| config.pre_norm = flag);
        change(&|config| config.pre_norm_stem = flag);
        change(&|config| config.linear_stem = flag);
        change(&|config| config.extra_padding = flag);
        change(&|config| config.caffe_pooling = flag);
    }
    for branches in [1, 2, 3, 4, 5, 8] {
        change(&|config| config.branches = branches);
    }
    let letters = ["c", "ca", "cb", "cba"];
    for (order, whole_block) in letters.iter().flat_map(|order| FLAGS.map(|flag| (order, flag))) {
        change(&|config| {
            let order = (*order).to_owned();
            config.lossless_downsample = Some(LosslessDownsample { order, whole_block });
        });
    }
    for (keep_downsample, norm_before_restore) in FLAGS.iter().flat_map(|a| FLAGS.map(|b| (*a, b)))
    {
        let reshape = PointReshape { keep_downsample, norm_before_restore };
        change(&|config| config.point_reshape = Some(reshape));
    }
    for first in [BlockKernel::Usual, BlockKernel::One, BlockKernel::Three, BlockKernel::None] {
        for second in [BlockKernel::Usual, BlockKernel::One, BlockKernel::Three] {
            change(&|config| (config.first_kernel, config.second_kernel) = (first, second));
        }
    }
    for (groups, width_per_group) in [(1, 64), (1, 128), (32, 4), (32, 8), (64, 4)] {
        change(&|config| (config.groups, config.width_per_group) = (groups, width_per_group));
    }
    all
}

fn of_mobilenet_v1(config: &MobileNetV1Config, facts: &Facts) -> Vec<MobileNetV1Config> {
    let mut all = Vec::new();
    let mut change = |change: &dyn Fn(&mut MobileNetV1Config)| {
        let mut changed = config.clone();
        change(&mut changed);
        all.push(changed);
    };
    for strided in [None, Some(false), Some(true)] {
        change(&|config| config.strided_stem = strided);
        change(&|config| (config.strided_stem, config.pre_norm) = (strided, true));
    }
    for activation in ACTIVATIONS {
        change(&|config| config.activation = activation);
    }
    for norm in &facts.norms {
        change(&|config| config.norm = *norm);
    }
    for order in [Order::Cbas, Order::Cbsa, Order::Bacs] {
        for skip in [MobileSkip::None, MobileSkip::Layer, MobileSkip::Block] {
            change(&|config| (config.order, config.skip) = (order, skip));
        }
    }
    for flag in FLAGS {
        change(&|config| config.double_by_concatenation = flag);
        change(&|config| config.normal_3x3 = flag);
        change(&|config| config.pre_norm = flag);
    }
    for (keep_downsample, norm_before_restore) in FLAGS.iter().flat_map(|a| FLAGS.map(|b| (*a, b)))
    {
        let reshape = PointReshape { keep_downsample, norm_before_restore };
        change(&|config| config.point_reshape = Some(reshape));
    }
    all
}

fn of_mobilenet_v2(config: &MobileNetV2Config, facts: &Facts) -> Vec<MobileNetV2Config> {
    let mut all = Vec::new();
    let mut change = |change: &dyn Fn(&mut MobileNetV2Config)| {
        let mut changed = config.clone();
        change(&mut changed);
        all.push(changed);
    };
    for small in [None, Some(false), Some(true)] {
        change(&|config| config.small_images = small);
    }
    for activation in ACTIVATIONS {
        change(&|config| config.activation = activation);
    }
    for norm in &facts.norms {
        change(&|config| config.norm = *norm);
    }
    for order in [Order::Cbas, Order::Bacs] {
        change(&|config| config.order = order);
    }
    // The channels are rounded down, so that several factors give those of the first convolution.
    for part in 0..32 {
        let alpha = (facts.first as f64 + f64::from(part) / 32.0) / 32.0;
        change(&|config| config.width_alpha = alpha);
    }
    all
}
