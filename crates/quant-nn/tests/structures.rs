//! Any structure that a configuration can describe builds, runs forward and backward, and costs
//! what its state says.

mod common {
    use proptest::prelude::*;
    use quant_core::{Levels, Method, QuantizerConfig, Role};
    use quant_nn::{
        FirstLast, FirstLastQuantizers, Quantization, ResNetConfig,
        layers::{activation::ActivationKind, norm::NormKind},
        resnet::{
            BlockKernel, Depth, DownsampleKind, Fixup, LosslessDownsample, NameStyle, Order,
            PointReshape, SkipSpan, Stem,
        },
    };

    fn pick<T: Clone + std::fmt::Debug + 'static>(
        choices: &[T],
    ) -> impl Strategy<Value = T> + use<T> {
        prop::sample::select(choices.to_vec())
    }

    pub(crate) fn quantizations() -> impl Strategy<Value = Quantization> {
        let methods = pick(&[
            None,
            Some(Method::Lsq),
            Some(Method::Dorefa),
            Some(Method::XNOR),
            Some(Method::LQ_NETS),
            Some(Method::FATNN),
        ]);
        let first_last = pick(&[
            FirstLast::FullPrecision,
            FirstLast::LikeOthers,
            FirstLast::Own(FirstLastQuantizers::new(8)),
        ]);
        let flags = prop::array::uniform2(any::<bool>());
        (methods, first_last, flags).prop_map(|(method, first_last, [real, pad])| {
            let of = |role| {
                let method = method?;
                Some(QuantizerConfig::new(method, role, Levels::from_bits(2).ok()?).nearest())
            };
            Quantization {
                activation: of(Role::Activation),
                weight: of(Role::Weight),
                first_last,
                real_downsample: real,
                padding_after_quant: pad,
                ..Quantization::default()
            }
        })
    }

    pub(crate) fn resnets() -> impl Strategy<Value = ResNetConfig> {
        let shape = (
            pick(&[Depth::ResNet20, Depth::ResNet18, Depth::ResNet50, Depth::ResNet20Wide]),
            pick(&[
                Stem::Cifar,
                Stem::ImageNet,
                Stem::SpaceToDepth(1),
                Stem::SpaceToDepthMaxPool(3),
            ]),
            pick(&[Order::Cbas, Order::Cbsa, Order::Cabs, Order::Bacs, Order::Bcas]),
            pick(&[SkipSpan::Block, SkipSpan::Block, SkipSpan::Layer]),
            pick(&[
                DownsampleKind::StridedConv,
                DownsampleKind::AveragePool,
                DownsampleKind::Repeat,
            ]),
        );
        let layers = (
            pick(&[
                NormKind::Batch,
                NormKind::Reverse,
                NormKind::Static,
                NormKind::Frozen,
                NormKind::Group(2),
                NormKind::Instance,
            ]),
            pick(&[
                ActivationKind::ReLU,
                ActivationKind::NReLU,
                ActivationKind::ReLU6,
                ActivationKind::LReLU,
                ActivationKind::PReLU,
                ActivationKind::RPReLU,
            ]),
        );
        let body = (
            1usize..=2,
            pick(&[None, Some("c"), Some("cba")]),
            any::<bool>(),
            pick(&[None, None, Some(false), Some(true)]),
            pick(&[BlockKernel::Usual, BlockKernel::Three, BlockKernel::One]),
            pick(&[None, None, Some(false), Some(true)]),
        );
        let flags = prop::array::uniform9(any::<bool>());
        (shape, layers, body, flags, quantizations()).prop_map(
            |(
                (depth, stem, order, skip, downsample),
                (norm, activation),
                body,
                flags,
                quantization,
            )| {
                let (branches, lossless, whole_block, reshape, kernel, fixup) = body;
                let [fix, norm_first, pre, pre_stem, linear, identity, zero, keyword, restore] =
                    flags;
                ResNetConfig {
                    width_alpha: 0.0625,
                    order,
                    skip,
                    downsample,
                    norm,
                    activation,
                    branches,
                    lossless_downsample: lossless
                        .map(|order| LosslessDownsample { order: order.to_owned(), whole_block }),
                    point_reshape: reshape.map(|keep_downsample| PointReshape {
                        keep_downsample,
                        norm_before_restore: restore,
                    }),
                    first_kernel: kernel,
                    second_kernel: kernel,
                    fixup: fixup.map(|bias| Fixup { bias }),
                    fix,
                    norm_before_pool: norm_first,
                    pre_norm: pre,
                    pre_norm_stem: pre_stem,
                    linear_stem: linear,
                    identity_norm: identity,
                    zero_init_residual: zero,
                    names: if keyword { NameStyle::Keyword } else { NameStyle::Torchvision },
                    quantization,
                    ..ResNetConfig::new(depth, stem, 3, 32)
                }
            },
        )
    }
}

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use proptest::prelude::*;
use quant_nn::{Network, NetworkConfig, NetworkError, QuantizedModule, StateDict, summarize};

fn runs(network: &Network, size: usize) {
    let device = Device::flex().autodiff();
    let state = StateDict::of(network);
    let names = network.trained();
    let trained = state.entries().filter(|(name, _)| names.contains(*name));
    let elements: usize = trained.map(|(_, entry)| entry.values.len()).sum();
    assert_eq!(summarize(network, &state).parameters, elements as u64);
    let x = Tensor::random([2, 3, size, size], Distribution::Default, &device);
    let y = network.forward(x);
    assert_eq!(y.dims(), [2, network.config().classes()]);
    y.sum().backward();
    // Weights that are quantized once for all make no difference.
    let network = network.valid();
    let x = Tensor::random([2, 3, size, size], Distribution::Default, &Device::flex());
    let [folded, called] =
        [&network.folded(), &network].map(|network| network.forward(x.clone()).into_data());
    assert_eq!(folded.iter::<f32>().map(f32::to_bits).collect::<Vec<_>>(), {
        called.iter::<f32>().map(f32::to_bits).collect::<Vec<_>>()
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        max_global_rejects: 4096,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_residual_network_runs(config in common::resnets()) {
        let device = Device::flex().autodiff();
        match config.init(&device) {
            Ok(network) => {
                runs(&network, 32);
                // Names are unique, and what is written is read back.
                let names: std::collections::BTreeSet<String> =
                    network.layers().into_iter().map(|layer| layer.name).collect();
                prop_assert_eq!(names.len(), network.layers().len());
                let (_, report) = StateDict::of(&network).load_into(network);
                prop_assert!(report.is_complete(), "{}", report);
            }
            // Branches of other shapes, norms that do not divide: said so, and no panic.
            Err(NetworkError::Structure { .. } | NetworkError::Field { .. }) => {
                return Err(TestCaseError::reject("does not fit together"));
            }
            Err(error) => panic!("{error}: {config:?}"),
        }
    }

    #[test]
    fn configurations_survive_serialisation(config in common::resnets()) {
        let config = NetworkConfig::ResNet(config);
        let text = serde_json::to_string(&config).map_err(|error| error.to_string());
        let read = serde_json::from_str::<NetworkConfig>(&text.unwrap_or_default());
        prop_assert_eq!(read.ok(), Some(config));
    }
}

#[test]
fn mobile_networks_run_with_every_skip() {
    use quant_nn::mobilenet::{MobileNetV1Config, MobileNetV2Config, MobileSkip};
    use quant_nn::resnet::Order;
    let device = Device::flex().autodiff();
    for skip in [MobileSkip::None, MobileSkip::Layer, MobileSkip::Block] {
        for (double_by_concatenation, order) in
            [(false, Order::Cbas), (true, Order::Bacs), (false, Order::Cbsa)]
        {
            let config = MobileNetV1Config {
                width_alpha: 0.125,
                skip,
                double_by_concatenation,
                order,
                ..MobileNetV1Config::new(3, 32)
            };
            runs(&config.init(&device).unwrap_or_else(|error| panic!("{error}")), 32);
        }
    }
    for order in [Order::Cbas, Order::Bacs] {
        let config =
            MobileNetV2Config { width_alpha: 0.125, order, ..MobileNetV2Config::new(3, 32) };
        runs(&config.init(&device).unwrap_or_else(|error| panic!("{error}")), 32);
    }
}

#[test]
fn what_does_not_fit_together_says_where() {
    use quant_nn::ResNetConfig;
    use quant_nn::layers::norm::NormKind;
    use quant_nn::resnet::{Depth, SkipSpan, Stem};
    let device = Device::flex();
    let base = ResNetConfig::new(Depth::ResNet50, Stem::Cifar, 3, 32);
    let layer_wise = ResNetConfig { skip: SkipSpan::Layer, ..base.clone() };
    let text = |config: ResNetConfig| match config.init(&device) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert!(text(layer_wise).contains("block-wise skips only"));
    let groups = ResNetConfig { norm: NormKind::Group(7), ..base };
    let text = text(groups);
    assert!(text.contains("bn1") && text.contains("7 groups") && text.contains("64"), "{text}");
}

/// Norms that stay in evaluation neither use nor move statistics; the others do.
#[test]
fn frozen_statistics_stay() {
    use quant_nn::ResNetConfig;
    use quant_nn::resnet::{Depth, Stem};
    let device = Device::flex().autodiff();
    let config = ResNetConfig {
        width_alpha: 0.0625,
        ..ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 3, 32)
    };
    let network = config.init(&device).unwrap_or_else(|error| panic!("{error}"));
    let network = network.with_frozen_statistics(|name| name.starts_with("layer1"));
    network.forward(Tensor::random([2, 3, 32, 32], Distribution::Default, &device));
    let state = StateDict::of(&network);
    for (name, entry) in state.entries().filter(|(name, _)| name.ends_with("running_mean")) {
        let moved = entry.values.iter().any(|mean| *mean != 0.0);
        assert_eq!(moved, !name.starts_with("layer1"), "{name}");
    }
    assert!(network.trained().contains("layer1.0.bn1.weight"));
}
