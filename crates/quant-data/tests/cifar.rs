//! CIFAR in its binary and its Python version.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;

use quant_data::{
    Cifar, DataError, Dataset,
    dataset::cifar::{CifarKind, Split},
};

/// A CIFAR-10 file of `images` images: image i has label i and red value i, green 100, blue 200.
fn cifar10(images: u8) -> Vec<u8> {
    let planes = |i: u8| [vec![i; 1024], vec![100; 1024], vec![200; 1024]].concat();
    (0..images).flat_map(|i| [vec![i], planes(i)].concat()).collect()
}

#[test]
fn cifar_planes_become_pixels() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("test_batch.bin"), cifar10(3)).unwrap();
    let cifar = Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap();
    assert_eq!((cifar.len(), cifar.label(2), cifar.classes().len()), (3, 2, 10));
    assert_eq!(cifar.image(2).unwrap().pixels[..6], [2, 100, 200, 2, 100, 200]);
}

#[test]
fn cifar100_takes_the_fine_label() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("cifar-100-binary");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("train.bin"), [vec![3, 77], vec![0; 3072]].concat()).unwrap();
    let cifar = Cifar::open(root.path(), CifarKind::Cifar100, Split::Train).unwrap();
    assert_eq!(cifar.label(0), 77);
}

#[test]
fn a_truncated_cifar_file_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("test_batch.bin"), &cifar10(3)[..4000]).unwrap();
    let error = Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap_err();
    assert!(matches!(error, DataError::Length { length: 4000, record: 3073, .. }), "{error}");
}

#[test]
fn a_cifar_label_out_of_range_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("test_batch.bin"), cifar10(11)).unwrap();
    let error = Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap_err();
    assert!(matches!(error, DataError::Label { index: 10, label: 10, highest: 9, .. }), "{error}");
}
