//! Data sets on disk: what users get wrong is an error that says what and where.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path};

use quant_data::{
    Cifar, DataError, Dataset, ImageFolder, RgbImage,
    dataset::cifar::{CifarKind, Split},
};

fn put(root: &Path, class: &str, name: &str) {
    let folder = root.join(class);
    fs::create_dir_all(&folder).unwrap();
    let jpeg = RgbImage::new(8, 8).to_jpeg(80).unwrap();
    fs::write(folder.join(name), jpeg).unwrap();
}

#[test]
fn classes_and_images_are_in_order_of_their_names() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "b", "2.JPEG");
    put(root.path(), "b", "1.jpg");
    put(root.path(), "a", "9.jpg");
    fs::write(root.path().join("b/notes.txt"), "not an image").unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.classes(), ["a", "b"]);
    let labels: Vec<usize> = (0..folder.len()).map(|index| folder.label(index)).collect();
    assert_eq!(labels, [0, 1, 1]);
    assert!(folder.path(1).ends_with("b/1.jpg"));
    assert_eq!(folder.image(2).unwrap().width, 8);
}

#[test]
fn a_class_without_images_is_named() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "a", "1.jpg");
    fs::create_dir(root.path().join("empty")).unwrap();
    let error = ImageFolder::open(root.path()).unwrap_err();
    assert!(matches!(&error, DataError::EmptyClass { path } if path.ends_with("empty")), "{error}");
}

#[test]
fn other_classes_than_the_training_sets_are_named() {
    let root = tempfile::tempdir().unwrap();
    let (train, val) = (root.path().join("train"), root.path().join("val"));
    put(&train, "cat", "1.jpg");
    put(&train, "dog", "1.jpg");
    put(&val, "cat", "1.jpg");
    put(&val, "dgo", "1.jpg");
    let train = ImageFolder::open(&train).unwrap();
    let error = ImageFolder::open_like(&val, &train).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("dog") && text.contains("dgo"), "{text}");
}

#[test]
fn a_missing_folder_is_named() {
    let error = ImageFolder::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"));
}

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
