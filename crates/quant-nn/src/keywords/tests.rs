//! Checks what descriptions by keywords become.

use burn::tensor::Device;
use quant_core::qtool::QtoolOptions;

use super::{Explained, MODELS, Registry, WORDS};
use crate::{
    config::{NetworkConfig, resnet::Fixup},
    error::NetworkError,
};

fn read(model: &str, words: &str, options: &str) -> Result<Explained, NetworkError> {
    Registry::default().read(model, &QtoolOptions::parse(words, options)?)
}

fn message(model: &str, words: &str) -> String {
    read(model, words, "").unwrap_err().to_string()
}

/// Each word has an effect on some model, together with the words that it needs, and has an
/// explanation.
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
    for (option, nearest) in [("--width_alhpa 0.5", "width_alpha"), ("--wt_bits 2", "wt_bit")] {
        let text = read("resnet20", "cifar10,cbsa", option).unwrap_err().to_string();
        assert!(text.contains(&format!("nearest: {nearest}")), "{text}");
    }
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
        assert!(config.init(&Device::flex()).is_ok(), "{name}: {:?}", config.init(&Device::flex()));
    }
}
