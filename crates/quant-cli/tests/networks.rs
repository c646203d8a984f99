//! Checks what the `quant` program prints about networks.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use quant_cli::{
    inspect,
    networks::{self, Description, NetworkArguments, WeightsArguments},
};
use quant_nn::{
    ResNetConfig, StateDict,
    resnet::{Depth, Stem},
};
use quant_train::WeightsFile;

fn description(model: &str, keyword: &str, options: &str) -> Description {
    let given = |text: &str| Some(text.to_owned());
    Description {
        model: given(model),
        keywords: given(keyword),
        keyword: None,
        options: given(options),
    }
}

#[test]
fn the_guide_is_what_the_program_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/networks.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let expected = networks::guide().unwrap();
    assert!(guide.trim_end() == expected.trim_end(), "run `quant guide > docs/networks.md`");
}

#[test]
fn explaining_tells_each_word_and_draws_a_block() {
    let text =
        networks::explain(&description("resnet20", "cifar10,cbas,real_skip,preBN", "")).unwrap();
    let expected = "real_skip: skip branches and lossless downsampling stay in full precision";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("layer2.0\n") && text.contains("skip.1: convolution 1x1"), "{text}");
    let error = networks::explain(&description("resnet20", "cbas,magic", "")).unwrap_err();
    assert!(error.to_string().contains("nearest"), "{error}");
}

#[test]
fn a_summary_adds_up() {
    let of = NetworkArguments {
        description: description("resnet20", "cifar10,origin,cbas", "--width_alpha 0.125"),
        ..NetworkArguments::default()
    };
    let text = networks::summary(&of).unwrap();
    assert!(text.contains("68786 parameters, 10314048 MACs"), "{text}");
}

/// A checkpoint with torchvision's names can be loaded into a network described by keywords.
#[test]
fn a_converted_torchvision_state_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let base = ResNetConfig {
        width_alpha: 0.0625,
        ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 5, 32)
    };
    let theirs = base.init(&device).unwrap();
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    std::fs::write(&from, StateDict::of(&theirs).to_bytes().unwrap()).unwrap();
    let said = networks::convert(&from, &to, &WeightsArguments::default(), true).unwrap();
    assert!(said.contains("entries in"), "{said}");

    let keyword = ResNetConfig { names: quant_nn::resnet::NameStyle::Keyword, ..base };
    let (ours, report) =
        WeightsFile::new(&to).read().unwrap().load_into(keyword.init(&device).unwrap());
    assert!(report.is_complete(), "{report}");
    let x = Tensor::ones([1, 3, 32, 32], &device);
    let same = ours.forward(x.clone()).equal(theirs.forward(x)).all().into_scalar::<bool>();
    assert!(same);
    let listed = inspect::inspect(&to, &WeightsArguments::default()).unwrap();
    assert!(listed.contains("layer2.0.skip.1.weight") && listed.contains("8x4x1x1"), "{listed}");
}

#[test]
fn a_file_that_is_none_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    for (name, bytes) in [
        ("empty.pth", &b""[..]),
        ("text.pth", b"not a checkpoint at all"),
        ("short.safetensors", b"\x08\0\0\0\0\0\0\0{\"a\":"),
        ("zip.pth", b"PK\x03\x04 broken"),
        ("pickle.pth", b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = networks::convert(&path, &to, &WeightsArguments::default(), false)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{error}");
        assert!(!to.exists());
    }
    let error = inspect::inspect(Path::new("absent.pth"), &WeightsArguments::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("absent.pth"), "{error}");
}
