//! MNIST's files: gzipped or not, with the names that archives and mirrors use, and damaged ones.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use quant_data::{DataError, Dataset, Idx, dataset::cifar::Split};
use tempfile::TempDir;

/// Creates two images of 2 rows and 3 columns, with the values 0 to 5 and 6 to 11.
fn images() -> Vec<u8> {
    [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &(0..12).collect::<Vec<u8>>()].concat()
}

fn labels(labels: &[u8]) -> Vec<u8> {
    [&[0, 0, 8, 1, 0, 0, 0, labels.len() as u8][..], labels].concat()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Result<Idx, DataError> {
    Idx::open(folder, Split::Train)
}

#[test]
fn grey_values_are_repeated_in_all_channels() {
    let folder = folder(&[
        ("train-images-idx3-ubyte", images()),
        ("train-labels-idx1-ubyte", labels(&[1, 0])),
    ]);
    let data = open(folder.path()).unwrap();
    assert_eq!((data.len(), data.label(0), data.label(1)), (2, 1, 0));
    assert_eq!(data.classes(), ["0", "1"]);
    let image = data.image(1).unwrap();
    assert_eq!((image.width, image.height), (3, 2));
    let expected: Vec<u8> = (6..12).flat_map(|grey| [grey; 3]).collect();
    assert_eq!(image.pixels, expected);
}

#[test]
fn gzipped_files_dotted_names_and_torchvisions_folders_are_found() {
    for (images_name, labels_name) in [
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("FashionMNIST/raw/train-images-idx3-ubyte", "FashionMNIST/raw/train-labels-idx1-ubyte"),
        ("emnist-digits-train-images-idx3-ubyte.gz", "emnist-digits-train-labels-idx1-ubyte.gz"),
    ] {
        let packed = |name: &str, bytes: Vec<u8>| {
            if name.ends_with(".gz") { gzipped(&bytes) } else { bytes }
        };
        let folder = folder(&[
            (images_name, packed(images_name, images())),
            (labels_name, packed(labels_name, labels(&[0, 1]))),
        ]);
        assert_eq!(open(folder.path()).unwrap().len(), 2, "{images_name}");
    }
}

#[test]
fn the_unpacked_file_is_taken_where_both_are_there() {
    let folder = folder(&[
        ("train-images-idx3-ubyte", images()),
        ("train-images-idx3-ubyte.gz", b"damaged".to_vec()),
        ("train-labels-idx1-ubyte", labels(&[0, 1])),
    ]);
    assert_eq!(open(folder.path()).unwrap().len(), 2);
}

#[test]
fn classes_are_named_by_the_list_beside_the_labels() {
    let folder = folder(&[
        ("train-images-idx3-ubyte", images()),
        ("train-labels-idx1-ubyte", labels(&[0, 1])),
        ("classes.txt", b"shirt\nshoe\nbag\n".to_vec()),
    ]);
    assert_eq!(open(folder.path()).unwrap().classes(), ["shirt", "shoe", "bag"]);
}

#[test]
fn a_list_of_more_classes_than_labels_can_name_is_refused() {
    let folder = folder(&[
        ("train-images-idx3-ubyte", images()),
        ("train-labels-idx1-ubyte", labels(&[0, 1])),
        ("classes.txt", "shirt\n".repeat(257).into_bytes()),
    ]);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("classes.txt") && error.contains("more than 256 lines"), "{error}");
}

#[test]
fn what_is_no_idx_file_is_refused_with_the_reason() {
    let good = images();
    let cut = good[..good.len() - 1].to_vec();
    let long = [&good[..], &[0]].concat();
    let huge = [&[0, 0, 8, 3][..], &[0xff; 12]].concat();
    let mut floats = good.clone();
    floats[2] = 13;
    for (bytes, reason) in [
        (cut.clone(), "1 of 2 items"),
        (gzipped(&cut), "1 of 2 items"),
        (gzipped(&good)[..20].to_vec(), "cut off or damaged"),
        (long, "more bytes"),
        (huge, "more than"),
        (floats, "begins with the bytes"),
        (labels(&[0, 1]), "3 dimensions"),
        (Vec::new(), "cut off"),
    ] {
        let folder = folder(&[
            ("train-images-idx3-ubyte", bytes),
            ("train-labels-idx1-ubyte", labels(&[0, 1])),
        ]);
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("train-images"), "{error}");
    }
}

#[test]
fn images_and_labels_must_be_as_many() {
    let folder = folder(&[
        ("train-images-idx3-ubyte", images()),
        ("train-labels-idx1-ubyte", labels(&[0, 1, 1])),
    ]);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("3 labels for the 2 images"), "{error}");
}

#[test]
fn a_missing_file_is_named_with_its_usual_name() {
    let folder = folder(&[("train-images-idx3-ubyte", images())]);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("train-labels-idx1-ubyte"), "{error}");
}

#[test]
fn files_of_two_sets_in_one_folder_are_refused() {
    let folder = folder(&[
        ("emnist-digits-train-images-idx3-ubyte", images()),
        ("emnist-letters-train-images-idx3-ubyte", images()),
    ]);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("several sets"), "{error}");
}

#[test]
fn a_test_label_without_a_training_class_is_refused() {
    let folder = folder(&[
        ("train-images-idx3-ubyte", images()),
        ("train-labels-idx1-ubyte", labels(&[0, 1])),
        ("t10k-images-idx3-ubyte", images()),
        ("t10k-labels-idx1-ubyte", labels(&[0, 5])),
    ]);
    let train = open(folder.path()).unwrap();
    let test = Idx::open(folder.path(), Split::Test).unwrap();
    let error = test.like(&train, folder.path()).unwrap_err().to_string();
    assert!(error.contains("image 1 has label 5: expected 0 to 1"), "{error}");
}
