//! The search for the configuration of a network that has the structure of a model.
//!
//! It begins with the usual network of each family, and changes one field after another as long as
//! more of the model's pieces are in the network.

use burn::tensor::Device;
use quant_infer::model::{Model, Op};
use quant_nn::{
    Network, NetworkConfig, ResNetConfig,
    layers::{activation::ActivationKind, norm::NormKind},
    mobilenet::{MobileNetV1Config, MobileNetV2Config, MobileSkip},
    nin::NinConfig,
    resnet::{
        Depth, DownsampleKind, Fixup, Kernel, LosslessDownsample, NameStyle, Order, PointReshape,
        SkipSpan, Stem,
    },
    vgg_small::{PlainOrder, VggSmallConfig},
};

use super::{
    RaiseError,
    pieces::{self, Kind, Numbering, Parts, Piece, Place},
};

/// A network that has the structure of a model.
pub(super) struct Found {
    pub(super) config: NetworkConfig,
    pub(super) pieces: Vec<Piece<Place>>,
    /// Each piece of the network with that of the model.
    pub(super) pairs: Vec<(usize, usize)>,
}

/// A candidate that was compared with the model.
struct Candidate {
    config: NetworkConfig,
    pieces: Vec<Piece<Place>>,
    numbers: Vec<u32>,
    /// How many pieces of the model it has.
    score: usize,
}

struct Search<'a> {
    model: &'a Model,
    theirs: &'a [Piece<Parts>],
    their_numbers: Vec<u32>,
    numbering: Numbering,
    device: Device,
}

/// What is known of a model before its structure is.
struct Facts {
    classes: usize,
    size: usize,
    /// The channels of the first convolution, and the most that a convolution has.
    first: usize,
    most: usize,
    convs: usize,
    norms: Vec<NormKind>,
    /// The numbers of parallel branches that sums may join.
    branches: Vec<usize>,
    /// Whether nothing is normalised.
    fixup: bool,
}

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

/// Finds the network that has the structure of a model.
///
/// # Errors
/// [`RaiseError::Structure`] with the first node that the nearest network does not have.
pub(super) fn search(model: &Model, theirs: &[Piece<Parts>]) -> Result<Found, RaiseError> {
    let mut numbering = Numbering::default();
    let their_numbers = numbering.of(theirs);
    let facts = facts(model, theirs)?;
    let device = Device::default();
    let mut search = Search { model, theirs, their_numbers, numbering, device };
    let mut best = search.climbed(starts(&facts, 1), &facts);
    if !best.as_ref().is_some_and(|best| search.is_equal(best)) {
        // Some fields of residual networks only fit together.
        let starts = search.combined(&facts);
        let other = search.climbed(starts, &facts);
        let score = |found: &Option<Candidate>| found.as_ref().map(|found| found.score);
        if score(&other) > score(&best) {
            best = other;
        }
    }
    let Some(best) = best else {
        let reason = format!("its images have {0}x{0} pixels, which suit no network", facts.size);
        return Err(RaiseError::Image { reason });
    };
    if !search.is_equal(&best) {
        return Err(search.error(&best));
    }
    let best = search.named(best);
    let ours = (&best.pieces[..], &best.numbers[..]);
    let pairs = pieces::pairs(ours, (theirs, &search.their_numbers));
    Ok(Found { config: best.config, pieces: best.pieces, pairs })
}

fn facts(model: &Model, theirs: &[Piece<Parts>]) -> Result<Facts, RaiseError> {
    let [height, width] = model.input.size;
    let channels = model.input.scale.len();
    if height != width || channels != 3 {
        let reason = format!(
            "its images have {channels} channels and {height}x{width} pixels; trainable networks \
             take square images of 3 channels"
        );
        return Err(RaiseError::Image { reason });
    }
    let convs: Vec<[usize; 2]> = (theirs.iter())
        .filter_map(|piece| match &piece.kind {
            Kind::Conv(geometry) => Some(geometry.channels),
            _ => None,
        })
        .collect();
    let (Some(first), Some(last)) = (convs.first(), convs.last()) else {
        let reason = "it has no convolution".to_owned();
        return Err(RaiseError::Image { reason });
    };
    let mut norms = vec![NormKind::Batch, NormKind::Instance];
    for piece in theirs {
        if let Kind::GroupNorm(groups) = piece.kind
            && !norms.contains(&NormKind::Group(groups))
            && norms.len() < 8
        {
            norms.push(NormKind::Group(groups));
        }
    }
    let mut branches = vec![1];
    for piece in theirs {
        let count = piece.inputs.len();
        if piece.kind == Kind::Add && count > 2 && !branches.contains(&count) && branches.len() < 4
        {
            branches.push(count);
        }
    }
    let most = convs[..convs.len() - 1].iter().map(|[_, outputs]| *outputs).max();
    Ok(Facts {
        classes: last[1],
        size: height,
        first: first[1],
        most: most.unwrap_or(first[1]),
        convs: convs.len(),
        norms,
        branches,
        fixup: !theirs.iter().any(|piece| piece.kind == Kind::Norm),
    })
}

/// The networks with which the search begins: those with about as many convolutions first, if each
/// is there `branches` times.
fn starts(facts: &Facts, branches: usize) -> Vec<NetworkConfig> {
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
fn changes(config: &NetworkConfig, facts: &Facts) -> Vec<NetworkConfig> {
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
fn combinations(config: &ResNetConfig, facts: &Facts, branches: usize) -> Vec<ResNetConfig> {
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
    for first in [Kernel::Usual, Kernel::One, Kernel::Three, Kernel::None] {
        for second in [Kernel::Usual, Kernel::One, Kernel::Three] {
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

impl Search<'_> {
    /// Changes one field after another of each network, and returns the best one. It ends with the
    /// first that is equal.
    fn climbed(&mut self, starts: Vec<NetworkConfig>, facts: &Facts) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for start in starts {
            let Some(mut candidate) = self.candidate(start) else { continue };
            while let Some(better) = self.improved(&candidate, facts) {
                candidate = better;
            }
            let equal = self.is_equal(&candidate);
            if best.as_ref().is_none_or(|best| candidate.score > best.score) {
                best = Some(candidate);
            }
            if equal {
                break;
            }
        }
        best
    }

    /// Returns the best of all combinations of the fields of residual networks that say how blocks
    /// and the layers around them fit together.
    fn combined(&mut self, facts: &Facts) -> Vec<NetworkConfig> {
        let mut found: Vec<(usize, NetworkConfig)> = Vec::new();
        for branches in &facts.branches {
            let residual = starts(facts, *branches).into_iter().filter_map(|start| match start {
                NetworkConfig::ResNet(config) => Some(config),
                _ => None,
            });
            for start in residual.take(2) {
                for config in combinations(&start, facts, *branches) {
                    if let Some(candidate) = self.candidate(config.into()) {
                        found.push((candidate.score, candidate.config));
                    }
                }
            }
        }
        found.sort_by_key(|(score, _)| usize::MAX - score);
        found.into_iter().take(4).map(|(_, config)| config).collect()
    }

    /// Compares a network with the model. `None` for one that cannot be built.
    fn candidate(&mut self, config: NetworkConfig) -> Option<Candidate> {
        let network: Network = config.init(&self.device).ok()?;
        let pieces = pieces::of_network(&network);
        let numbers = self.numbering.of(&pieces);
        let has = |number: &&u32| numbers.contains(number);
        let score = self.their_numbers.iter().filter(has).count();
        Some(Candidate { config, pieces, numbers, score })
    }

    /// Returns the change of a field that makes more of the model's pieces those of the network.
    fn improved(&mut self, candidate: &Candidate, facts: &Facts) -> Option<Candidate> {
        if self.is_equal(candidate) {
            return None;
        }
        let mut best: Option<Candidate> = None;
        for config in changes(&candidate.config, facts) {
            let Some(changed) = self.candidate(config) else { continue };
            let least = best.as_ref().map_or(candidate.score, |best| best.score);
            if self.is_equal(&changed) {
                return Some(changed);
            }
            if changed.score > least {
                best = Some(changed);
            }
        }
        best
    }

    fn is_equal(&self, candidate: &Candidate) -> bool {
        candidate.numbers.last() == self.their_numbers.last()
    }

    /// Chooses the names of the network that are those of the model.
    fn named(&mut self, found: Candidate) -> Candidate {
        let NetworkConfig::ResNet(config) = &found.config else { return found };
        let keyword = ResNetConfig { names: NameStyle::Keyword, ..config.clone() };
        match self.candidate(keyword.into()) {
            Some(keyword) if self.is_equal(&keyword) => {
                if self.same_names(&keyword) > self.same_names(&found) { keyword } else { found }
            }
            _ => found,
        }
    }

    /// Returns how many layers have the name of the model's node.
    fn same_names(&self, candidate: &Candidate) -> usize {
        let Ok(network) = candidate.config.init(&self.device) else { return 0 };
        let ours = (&candidate.pieces[..], &candidate.numbers[..]);
        let pairs = pieces::pairs(ours, (self.theirs, &self.their_numbers));
        let same = |(our, their): &(usize, usize)| {
            let Place::Submodule(index) = candidate.pieces[*our].source else { return false };
            let name = network.submodule_name(index);
            let mut nodes = self.theirs[*their].source.nodes.iter();
            nodes.any(|at| self.model.nodes[*at].name == name)
        };
        pairs.iter().filter(|pair| same(pair)).count()
    }

    /// Names the first piece that the nearest network does not have.
    fn error(&self, nearest: &Candidate) -> RaiseError {
        let is_ours = |at: &usize| nearest.numbers.contains(&self.their_numbers[*at]);
        let first = (0..self.theirs.len()).find(|at| !is_ours(at));
        let Some(piece) = first.map(|at| &self.theirs[at]) else {
            let reason = "its scores are those of a part of a network".to_owned();
            return RaiseError::Image { reason };
        };
        // What the nearest network does with the same values.
        let wanted: Vec<u32> =
            piece.inputs.iter().map(|input| self.their_numbers[*input]).collect();
        let reads = |other: &&Piece<Place>| {
            let inputs: Vec<u32> =
                other.inputs.iter().map(|input| nearest.numbers[*input]).collect();
            inputs.iter().any(|input| wanted.contains(input))
                && !inputs.is_empty()
                && other.kind != piece.kind
        };
        let expected: Vec<String> =
            nearest.pieces.iter().filter(reads).map(|piece| piece.kind.text()).collect();
        let nodes = piece.source.nodes.iter().chain(piece.source.bias_of.as_ref());
        let node = nodes.map(|at| &self.model.nodes[*at]).next();
        RaiseError::Structure {
            node: node.map_or_else(String::new, |node| node.name.clone()),
            is: match node.map(|node| &node.op) {
                Some(Op::Conv(_)) if piece.source.bias_of.is_some() => {
                    "a bias of a convolution".to_owned()
                }
                _ => piece.kind.text(),
            },
            nearest: describe(&nearest.config),
            expected: expected.first().cloned(),
        }
    }
}

/// Names a network for people.
pub fn describe(config: &NetworkConfig) -> String {
    match config {
        NetworkConfig::ResNet(config) => {
            let stem = match config.stem {
                Stem::Cifar => "the stem for small images",
                Stem::ImageNet => "ImageNet's stem",
                _ => "a stem of squares",
            };
            let letters = config.order.letters();
            let channels = (64.0 * config.width_alpha) as usize;
            format!(
                "a {depth:?} with {stem}, {channels} channels in its first stage and the order \
                 {letters}",
                depth = config.depth,
            )
        }
        NetworkConfig::MobilenetV1(_) => "MobileNet v1".to_owned(),
        NetworkConfig::MobilenetV2(_) => "MobileNet v2".to_owned(),
        NetworkConfig::VggSmall(_) => "VGG-small".to_owned(),
        NetworkConfig::Nin(_) => "NiN".to_owned(),
    }
}
