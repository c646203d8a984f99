//! Fingerprints distinguish data sets, wherever their files are stored.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path};

use quant_data::{
    Cifar, Dataset, Fake, Fingerprint, Idx, ImageFolder, RgbImage, Shards,
    dataset::{
        cifar::{CifarKind, Split},
        shapes::ShapesConfig,
        shards::write_shards,
    },
};

fn put(root: &Path, names: &[&str]) {
    let jpeg = RgbImage::new(8, 8).to_jpeg(80).unwrap();
    for name in names {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), &jpeg).unwrap();
    }
}

/// Returns the fingerprint of a folder with these images.
fn of_images(names: &[&str]) -> Fingerprint {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), names);
    ImageFolder::open(root.path()).unwrap().fingerprint()
}

#[test]
fn a_folder_has_the_same_fingerprint_wherever_it_lies() {
    let names = ["ant/1.jpg", "ant/x/2.jpg", "bee/1.jpg"];
    let known = of_images(&names);
    assert_eq!((known.classes.as_slice(), known.images), (&["ant".into(), "bee".into()][..], 3));
    assert_eq!(of_images(&names), known);
    // Here the folder is listed with the help of a remembered list.
    let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(root.path(), &names);
    for _ in 0..2 {
        let folder = ImageFolder::open_cached(root.path(), cache.path()).unwrap();
        assert_eq!(folder.fingerprint(), known);
    }
}

#[test]
fn a_folder_with_other_images_or_labels_has_another_fingerprint() {
    let known = of_images(&["ant/1.jpg", "ant/2.jpg", "bee/1.jpg"]);
    for names in [
        // An image is renamed, in another class, in a subfolder, or missing, and the classes are
        // different.
        &["ant/1.jpg", "ant/3.jpg", "bee/1.jpg"][..],
        &["ant/1.jpg", "bee/2.jpg", "bee/1.jpg"],
        &["ant/1.jpg", "ant/x/2.jpg", "bee/1.jpg"],
        &["ant/1.jpg", "bee/1.jpg"],
        &["ant/1.jpg", "ant/2.jpg", "cat/1.jpg"],
    ] {
        assert_ne!(of_images(names).hash, known.hash, "{names:?}");
    }
    // The same images, with the classes of another training set.
    let (root, training) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(root.path(), &["ant/1.jpg", "ant/2.jpg", "bee/1.jpg"]);
    put(training.path(), &["aaa/1.jpg", "ant/1.jpg", "bee/1.jpg"]);
    let training = ImageFolder::open(training.path()).unwrap();
    let folder = ImageFolder::open_like(root.path(), &training).unwrap();
    assert_ne!(folder.fingerprint().hash, known.hash);
}

#[test]
fn a_picture_that_is_replaced_under_its_name_shows_in_the_contents() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &["ant/1.jpg", "ant/2.jpg", "bee/1.jpg"]);
    let of = || ImageFolder::open(root.path()).unwrap().fingerprint();
    let known = of();
    assert!(known.contents.is_some());
    // A copy of the same picture is the same data, whatever its date.
    let path = root.path().join("ant/2.jpg");
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(of(), known);
    fs::write(&path, RgbImage::new(64, 64).to_jpeg(80).unwrap()).unwrap();
    let changed = of();
    assert_eq!((&changed.classes, changed.images, changed.hash), (&known.classes, 3, known.hash));
    assert_ne!(changed.contents, known.contents);

    // The same in a tar file, which keeps its length: entries are padded to 512 bytes.
    let images = ImageFolder::open(root.path()).unwrap();
    let shards = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        write_shards(&images.files(), images.classes(), folder.path(), 1 << 20, 1).unwrap();
        change(&folder.path().join("shard-00000.tar"));
        Shards::open(folder.path()).unwrap().fingerprint()
    };
    let known = shards(&|_| ());
    let longer = shards(&|tar| {
        let mut bytes = fs::read(tar).unwrap();
        // The first header whose file is an image: one byte of its padding becomes content.
        let headers = (0..bytes.len()).step_by(512);
        let mut of_images = headers.filter(|at| bytes[at + 257..].starts_with(b"ustar"));
        let at = of_images.find(|at| bytes[*at..at + 100].windows(4).any(|x| x == b".jpg"));
        let at = at.unwrap();
        let size = std::str::from_utf8(&bytes[at + 124..at + 135]).unwrap();
        let size = u64::from_str_radix(size.trim(), 8).unwrap();
        assert!(!size.is_multiple_of(512));
        bytes[at + 124..at + 135].copy_from_slice(format!("{:011o}", size + 1).as_bytes());
        bytes[at + 148..at + 156].fill(b' ');
        let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        fs::write(tar, bytes).unwrap();
    });
    assert_eq!(longer.hash, known.hash);
    assert_ne!(longer.contents, known.contents);
}

#[test]
fn shards_are_told_apart_by_files_keys_and_labels() {
    let images = tempfile::tempdir().unwrap();
    put(images.path(), &["ant/1.jpg", "ant/2.jpg", "bee/1.jpg"]);
    let images = ImageFolder::open(images.path()).unwrap();
    let write = |classes: [usize; 3], seed, name: &str| {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = images
            .files()
            .into_iter()
            .zip(classes)
            .map(|((path, _), label)| (path, label))
            .collect();
        write_shards(&files, images.classes(), folder.path(), 1 << 20, seed).unwrap();
        fs::rename(folder.path().join("shard-00000.tar"), folder.path().join(name)).unwrap();
        Shards::open(folder.path()).unwrap().fingerprint()
    };
    let known = write([0, 0, 1], 1, "a.tar");
    assert_eq!((known.classes.len(), known.images), (2, 3));
    assert_eq!(write([0, 0, 1], 1, "a.tar"), known);
    assert_ne!(write([0, 1, 1], 1, "a.tar").hash, known.hash);
    assert_ne!(write([0, 0, 1], 2, "a.tar").hash, known.hash, "another order");
    assert_ne!(write([0, 0, 1], 1, "b.tar").hash, known.hash);
}

#[test]
fn sets_in_memory_are_told_apart_by_their_labels() {
    let cifar_of = |labels: [u8; 2], grey| {
        let root = tempfile::tempdir().unwrap();
        let images = labels.map(|label| [vec![label], vec![grey; 3072]].concat()).concat();
        fs::write(root.path().join("test_batch.bin"), images).unwrap();
        Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap().fingerprint()
    };
    let cifar = |labels| cifar_of(labels, 0);
    assert_eq!(cifar([1, 2]), cifar([1, 2]));
    assert_ne!(cifar([1, 2]).contents, cifar_of([1, 2], 1).contents);
    assert_ne!(cifar([1, 2]).hash, cifar([2, 1]).hash);
    let idx_of = |labels: [u8; 2], width: u8, grey: u8| {
        let root = tempfile::tempdir().unwrap();
        let sizes = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 12 / width, 0, 0, 0, width];
        let images = [&sizes[..], &[grey; 24]].concat();
        fs::write(root.path().join("train-images-idx3-ubyte"), images).unwrap();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, 2][..], &labels].concat();
        fs::write(root.path().join("train-labels-idx1-ubyte"), labels).unwrap();
        Idx::open(root.path(), Split::Train).unwrap().fingerprint()
    };
    let idx = |labels, width| idx_of(labels, width, 7);
    assert_eq!(idx([0, 1], 3), idx([0, 1], 3));
    assert_ne!(idx([0, 1], 3).contents, idx_of([0, 1], 3, 8).contents);
    assert_ne!(idx([0, 1], 3).hash, idx([1, 0], 3).hash);
    assert_ne!(idx([0, 1], 3).hash, idx([0, 1], 4).hash);
}

#[test]
fn sets_that_are_made_are_told_apart_by_their_parameters() {
    let known = Fake::new(10, 8, 3, 1).fingerprint();
    assert_eq!(Fake::new(10, 8, 3, 1).fingerprint(), known);
    for other in [Fake::new(11, 8, 3, 1), Fake::new(10, 9, 3, 1), Fake::new(10, 8, 3, 2)] {
        assert_ne!(other.fingerprint().hash, known.hash);
    }
    assert_ne!(Fake::new(10, 8, 4, 1).fingerprint(), known);
    // Rendered images have the same names, whatever they show.
    let cache = tempfile::tempdir().unwrap();
    let rendered = |seed| {
        let config = ShapesConfig { side: 8, train_per_class: 1, val_per_class: 1, seed };
        let folder = config.render(cache.path()).unwrap().join("train");
        ImageFolder::open(&folder).unwrap().with_origin(config.name()).fingerprint()
    };
    assert_eq!(rendered(1), rendered(1));
    assert_ne!(rendered(1).hash, rendered(2).hash);
}

/// A data set that keeps the trait's default fingerprint.
struct Labels(Vec<usize>, Vec<String>);

impl Dataset for Labels {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn classes(&self) -> &[String] {
        &self.1
    }
    fn label(&self, index: usize) -> usize {
        self.0[index]
    }
    fn image(&self, _index: usize) -> Result<RgbImage, quant_data::DataError> {
        Ok(RgbImage::new(1, 1))
    }
}

#[test]
fn any_data_set_is_told_apart_by_its_labels() {
    let labels = |labels: &[usize]| Labels(labels.to_vec(), vec!["a".into()]).fingerprint();
    assert_eq!(labels(&[0, 0, 1]), labels(&[0, 0, 1]));
    assert_ne!(labels(&[0, 0, 1]).hash, labels(&[0, 1, 0]).hash);
}
