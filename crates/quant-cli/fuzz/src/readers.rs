//! What reads bytes from outside, each as a function of bytes: it may refuse them, and must not panic.
//!
//! `cargo fuzz run <target>` in this folder's parent attacks one; the tests in `tests/hostile.rs` run all of them over
//! damaged files and over `corpus/`.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::Device;
use quant_data::{
    Cifar, Dataset, Idx, RgbImage, Shards, Truncated,
    dataset::cifar::{CifarKind, Split},
};
use quant_nn::{StateDict, keywords};
use quant_train::{
    Recipe, WeightsFile,
    qtool::{config::ShellConfig, import, policy as rules},
    weights,
};

/// Name and reader.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; a name is a fuzz target's and a folder's below `corpus/`.
pub const READERS: [Reader; 10] = [
    ("recipe", recipe),
    ("configuration", configuration),
    ("policy", policy),
    ("keywords", keywords),
    ("checkpoint", checkpoint),
    ("image", image),
    ("cifar", cifar),
    ("idx", idx),
    ("pickle", pickle),
    ("shard", shard),
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A recipe.
pub fn recipe(bytes: &[u8]) {
    let _ = Recipe::parse(&text(bytes), Path::new("recipe.toml"));
}

/// A configuration file of QTool's.
pub fn configuration(bytes: &[u8]) {
    let config = ShellConfig::parse(&text(bytes), &BTreeMap::new());
    let _ = import::import(&config, |_| Ok(String::new()));
}

/// A policy file of QTool's.
pub fn policy(bytes: &[u8]) {
    let _ = rules::policies(&text(bytes), |_| {});
}

/// Options of QTool's, with keywords before the first blank.
pub fn keywords(bytes: &[u8]) {
    let text = text(bytes);
    let (words, options) = text.split_once(' ').unwrap_or((&text, ""));
    if let Ok(qtool) = quant_core::qtool::QtoolOptions::parse(words, options) {
        let _ = keywords::network("resnet20", &qtool).map(|config| config.validate());
    }
}

/// A checkpoint of PyTorch's or of ours.
pub fn checkpoint(bytes: &[u8]) {
    in_file("network.safetensors", bytes, |path| {
        let _ = StateDict::read(path);
        let _ = weights::read_network(&WeightsFile::new(path), &[], &Device::flex());
    });
}

/// An image of any format.
pub fn image(bytes: &[u8]) {
    for truncated in [Truncated::Refuse, Truncated::Accept] {
        let _ = RgbImage::decode(bytes, truncated);
    }
}

/// A binary file of CIFAR-100.
pub fn cifar(bytes: &[u8]) {
    in_file("train.bin", bytes, |path| {
        let _ = Cifar::open(path.parent().unwrap_or(path), CifarKind::Cifar100, Split::Train);
    });
}

/// Images in MNIST's format, and labels.
pub fn idx(bytes: &[u8]) {
    let open = |images: &[u8], labels: &[u8]| {
        in_file("train-images-idx3-ubyte", images, |path| {
            if fs::write(path.with_file_name("train-labels-idx1-ubyte"), labels).is_ok()
                && let Ok(data) = Idx::open(path.parent().unwrap_or(path), Split::Train)
            {
                (0..data.len()).for_each(|index| drop(data.image(index)));
                data.fingerprint();
            }
        });
    };
    open(bytes, &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1]);
    open(&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6], bytes);
}

/// A file of the Python version of CIFAR-10.
pub fn pickle(bytes: &[u8]) {
    in_file("test_batch", bytes, |path| {
        let _ = Cifar::open(path.parent().unwrap_or(path), CifarKind::Cifar10, Split::Test);
    });
}

/// A tar file of images, without and with a list of classes, and as a part of another set.
pub fn shard(bytes: &[u8]) {
    let read = |shards: &Shards| {
        (0..shards.len()).for_each(|index| drop(shards.image(index)));
        shards.fingerprint();
    };
    in_file("a.tar", bytes, |path| {
        let folder = path.parent().unwrap_or(path);
        let unnamed = Shards::open(folder);
        unnamed.iter().for_each(read);
        if fs::write(folder.join("classes.txt"), "cat\ndog\n1\n").is_ok() {
            Shards::open(folder).iter().for_each(read);
            if let Ok(training) = &unnamed {
                Shards::open_like(folder, training).iter().for_each(read);
            }
        }
    });
    // The same bytes as a list of classes.
    in_file("classes.txt", bytes, |path| drop(Shards::open(path.parent().unwrap_or(path))));
}

fn in_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let path = folder.path().join(name);
    if fs::write(&path, bytes).is_ok() {
        read(&path);
    }
}
