//! Folders and shards: what is listed, what is remembered, and the order in which images are read.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use quant_data::{
    DataError, Dataset, ImageFolder, LastBatch, Loader, LoaderConfig, Pipeline, RgbImage, Shards,
    Share, Transform, dataset::shards::write_shards,
};

/// Creates `classes` folders with `images` JPEG files of 8 by 8 pixels each.
fn folder(root: &Path, classes: usize, images: usize) {
    for class in 0..classes {
        let folder = root.join(format!("class{class}"));
        fs::create_dir_all(&folder).unwrap();
        for image in 0..images {
            add(&folder, &format!("{image}.jpg"), (class * images + image) as u8);
        }
    }
}

fn add(folder: &Path, name: &str, grey: u8) {
    let image = RgbImage { width: 8, height: 8, pixels: vec![grey; 192] };
    fs::write(folder.join(name), image.to_jpeg(95).unwrap()).unwrap();
}

/// Sets the date of a folder an hour back, so that the date counts as reliable.
fn settle(folder: &Path) {
    let past = SystemTime::now() - Duration::from_secs(3600);
    File::open(folder).unwrap().set_modified(past).unwrap();
}

fn names(folder: &ImageFolder) -> Vec<PathBuf> {
    folder.files().into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_remembered_folder_is_the_one_that_is_there() {
    let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(data.path(), 3, 4);
    (0..3).for_each(|class| settle(&data.path().join(format!("class{class}"))));
    let open = || ImageFolder::open_cached(data.path(), cache.path()).unwrap();
    let first = open();
    assert_eq!((first.len(), first.classes().len()), (12, 3));
    assert_eq!(names(&first), names(&open()));

    // The remembered list is used: a class folder with an unchanged date is not read again.
    let path = cache.path().read_dir().unwrap().next().unwrap().unwrap().path();
    let list = fs::read_to_string(&path).unwrap();
    fs::write(&path, list.replacen("3.jpg", "other.jpg", 1)).unwrap();
    assert!(names(&open()).iter().any(|path| path.ends_with("other.jpg")));
    fs::write(&path, list).unwrap();

    // A changed folder is read again, a new class is found, and a removed one is gone.
    add(&data.path().join("class1"), "new.jpg", 1);
    assert_eq!(open().len(), 13);
    folder(data.path(), 4, 4);
    assert_eq!(open().classes().len(), 4);
    fs::remove_dir_all(data.path().join("class0")).unwrap();
    assert_eq!((open().len(), open().classes().len()), (9 + 4, 3));

    // A list that is damaged, or of another folder, is ignored.
    fs::write(&path, "{").unwrap();
    assert_eq!(
        names(&open()),
        names(&ImageFolder::open(data.path()).unwrap()).into_iter().collect::<Vec<_>>()
    );
}

#[test]
fn a_change_below_a_remembered_folder_is_noticed() {
    let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (class, nested) = (data.path().join("class0"), data.path().join("class0/images"));
    folder(data.path(), 1, 2);
    fs::create_dir(&nested).unwrap();
    add(&nested, "a.jpg", 1);
    let settled = || {
        settle(&nested);
        settle(&class);
        ImageFolder::open_cached(data.path(), cache.path()).unwrap()
    };
    assert_eq!(settled().len(), 3);
    // The class folder keeps its date, and the folder below it gets a new one.
    add(&nested, "b.jpg", 2);
    assert_eq!(ImageFolder::open_cached(data.path(), cache.path()).unwrap().len(), 4);
    assert_eq!(settled().len(), 4);
    fs::remove_dir_all(&nested).unwrap();
    assert_eq!(ImageFolder::open_cached(data.path(), cache.path()).unwrap().len(), 2);
}

#[test]
fn a_folder_that_has_just_changed_is_not_believed_yet() {
    let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(data.path(), 2, 2);
    let open = || ImageFolder::open_cached(data.path(), cache.path()).unwrap();
    open();
    let class = data.path().join("class0");
    let before = fs::metadata(&class).unwrap().modified().unwrap();
    add(&class, "late.jpg", 3);
    // With a clock that ticks slowly, the folder would keep the same date.
    File::open(&class).unwrap().set_modified(before).unwrap();
    assert_eq!(open().len(), 5);
}

#[cfg(unix)]
#[test]
fn loops_of_links_are_passed_over() {
    let data = tempfile::tempdir().unwrap();
    folder(data.path(), 2, 2);
    std::os::unix::fs::symlink("loop", data.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("..", data.path().join("class0/up")).unwrap();
    let folder = ImageFolder::open(data.path()).unwrap();
    assert_eq!((folder.len(), folder.classes().len()), (4, 2));
}

#[test]
fn shards_hold_what_was_written() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(data.path(), 3, 10);
    let images = ImageFolder::open(data.path()).unwrap();
    let count = write_shards(&images.files(), images.classes(), out.path(), 8000, 7).unwrap();
    assert!(count > 2, "{count}");
    let shards = Shards::open(out.path()).unwrap();
    assert_eq!(
        (shards.len(), shards.classes(), shards.blocks().len()),
        (30, images.classes(), count)
    );
    let mut seen: Vec<(usize, u8)> = (0..30)
        .map(|index| (shards.label(index), shards.image(index).unwrap().pixels[0]))
        .collect();
    // The images are not in the order of the folder.
    assert!(!seen.is_sorted());
    seen.sort();
    let expected: Vec<(usize, u8)> = (0..30)
        .map(|index| (images.label(index), images.image(index).unwrap().pixels[0]))
        .collect();
    assert_eq!(seen, expected);
    let again = write_shards(&images.files(), images.classes(), out.path(), 8000, 7);
    assert!(matches!(again, Err(DataError::Shard { .. })));
}

#[test]
fn damaged_shards_are_errors_with_their_reason() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(matches!(Shards::open(out.path()), Err(DataError::NoShards { .. })));
    folder(data.path(), 1, 3);
    let images = ImageFolder::open(data.path()).unwrap();
    write_shards(&images.files(), images.classes(), out.path(), 1 << 20, 7).unwrap();
    let path = out.path().join("shard-00000.tar");
    let whole = fs::read(&path).unwrap();
    for length in (1..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        match Shards::open(out.path()) {
            // Some of the zeros at the end belong to the last entry.
            Ok(shards) => assert!(shards.len() == 3 && length + 512 > whole.len(), "{length}"),
            Err(error) => assert!(matches!(error, DataError::Shard { .. }), "{length}: {error}"),
        }
    }
    fs::write(&path, &whole).unwrap();
    fs::write(out.path().join("classes.txt"), "").unwrap();
    let error = Shards::open(out.path()).unwrap_err().to_string();
    assert!(error.contains("label 0"), "{error}");
}

#[test]
fn shards_are_read_in_blocks_and_every_image_once() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(data.path(), 5, 50);
    let images = ImageFolder::open(data.path()).unwrap();
    let count = write_shards(&images.files(), images.classes(), out.path(), 8000, 7).unwrap();
    assert!(count > 32, "{count}");
    let shards = Arc::new(Shards::open(out.path()).unwrap());
    let pipeline = Pipeline(vec![Transform::CenterCrop { size: 8 }]);
    let config = LoaderConfig {
        batch_size: 10,
        training: true,
        last_batch: LastBatch::Drop,
        seed: 1,
        workers: 2,
        prefetch: 2,
        share: Share::ALL,
        max_broken: LoaderConfig::MAX_BROKEN,
    };
    let loader = Loader::new(shards.clone(), pipeline, config).unwrap();
    let order = loader.order(0);
    assert_ne!(order, loader.order(1));
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..250).collect::<Vec<_>>());
    // The first images come from 16 shards, not from all of them.
    let shard_of = |index: &usize| shards.blocks().iter().position(|block| block.contains(index));
    let first: std::collections::BTreeSet<_> = order[..60].iter().map(shard_of).collect();
    assert!(first.len() <= 16, "{}", first.len());
}
