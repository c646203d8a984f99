//! Data sets on disk: users' mistakes are errors that say what is wrong and where.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path};

use quant_data::{DataError, Dataset, ImageFolder, RgbImage};

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
    // All of them are named at once.
    for name in ["empty", "void"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let error = ImageFolder::open(root.path()).unwrap_err();
    assert!(
        matches!(&error, DataError::EmptyClass { classes, .. } if classes == &["empty", "void"]),
        "{error}"
    );
    assert!(error.to_string().contains("class folders without images"), "{error}");
    assert!(error.to_string().contains(": empty, void; "), "{error}");
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
fn images_below_a_class_are_in_torchvisions_order() {
    let root = tempfile::tempdir().unwrap();
    for (class, name) in [
        ("n1/images", "1.JPEG"),
        ("n1/images/more", "0.JPEG"),
        ("n1/images-b", "0.JPEG"),
        ("n1", "z.JPEG"),
        ("n0/images", "5.JPEG"),
        (".git/hooks", "1.JPEG"),
        ("n0/.thumbnails", "1.JPEG"),
        ("n0/images", "._5.JPEG"),
    ] {
        put(root.path(), class, name);
    }
    fs::write(root.path().join("n1/n1_boxes.txt"), "").unwrap();
    fs::write(root.path().join("words.txt"), "").unwrap();
    fs::write(root.path().join("beside.jpg"), "").unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.classes(), ["n0", "n1"]);
    let below = |(path, label): (std::path::PathBuf, usize)| {
        (path.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned(), label)
    };
    let files: Vec<(String, usize)> = folder.files().into_iter().map(below).collect();
    // `sorted(os.walk(class))` compares the folders' paths as texts, so "-" comes before "/".
    let expected = [
        ("n0/images/5.JPEG", 0),
        ("n1/z.JPEG", 1),
        ("n1/images/1.JPEG", 1),
        ("n1/images-b/0.JPEG", 1),
        ("n1/images/more/0.JPEG", 1),
    ];
    assert_eq!(files, expected.map(|(path, label)| (path.to_owned(), label)));
    assert_eq!(folder.image(0).unwrap().width, 8);
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_followed_once_round() {
    use std::os::unix::fs::symlink;
    let (root, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(beside.path(), "images", "1.jpg");
    put(root.path(), "a", "0.jpg");
    put(root.path(), "b", "0.jpg");
    symlink(beside.path().join("images"), root.path().join("a/linked")).unwrap();
    // Each of the two classes has a link to the other.
    symlink("../b", root.path().join("a/b")).unwrap();
    symlink("../a", root.path().join("b/a")).unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    let count = |class| folder.files().iter().filter(|(_, label)| *label == class).count();
    // Class a has its own image, the linked one and b's; class b has its own and two of a's.
    assert_eq!((count(0), count(1)), (3, 3));
}

#[test]
fn a_part_without_some_classes_takes_the_training_sets_numbers() {
    let root = tempfile::tempdir().unwrap();
    let (train, val) = (root.path().join("train"), root.path().join("val"));
    ["ant", "bee", "cat"].iter().for_each(|class| put(&train, class, "1.jpg"));
    put(&val, "cat", "1.jpg");
    let train = ImageFolder::open(&train).unwrap();
    let val = ImageFolder::open_like(&val, &train).unwrap();
    assert_eq!((val.classes(), val.label(0)), (train.classes(), 2));
    assert!(val.path(0).ends_with("val/cat/1.jpg"));
}

/// Creates Tiny ImageNet's validation part with three images and these `annotations`.
fn tiny_imagenet(root: &Path, annotations: &str) -> Result<ImageFolder, DataError> {
    ["n1", "n2", "n3"].iter().for_each(|class| put(&root.join("train"), class, "0.JPEG"));
    ["val_0.JPEG", "val_1.JPEG", "val_2.JPEG"].iter().for_each(|name| {
        put(&root.join("val"), "images", name);
    });
    fs::write(root.join("val/val_annotations.txt"), annotations).unwrap();
    let train = ImageFolder::open(&root.join("train")).unwrap();
    ImageFolder::open_like(&root.join("val"), &train)
}

#[test]
fn tiny_imagenets_annotations_give_the_labels() {
    let root = tempfile::tempdir().unwrap();
    let text = "val_2.JPEG\tn2\t0\t32\t44\t62\nval_0.JPEG\tn3\t1\t2\t3\t4\r\n\n\
                val_1.JPEG\tn2\t9\t9\t9\t9\n";
    let val = tiny_imagenet(root.path(), text).unwrap();
    assert_eq!((0..3).map(|index| val.label(index)).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(val.classes(), ["n1", "n2", "n3"]);
    assert!(val.path(0).ends_with("val/images/val_0.JPEG"));
    assert_eq!(val.image(0).unwrap().width, 8);
}

#[test]
fn annotations_that_do_not_fit_the_images_are_named() {
    let cases = [
        ("val_0.JPEG\tn1\nval_1.JPEG\tn1\n", "val_2.JPEG"),
        (
            "val_0.JPEG\tn1\nval_1.JPEG\tn1\nval_2.JPEG\tn1\nval_7.JPEG\tn1\n",
            "has no image val_7.JPEG",
        ),
        (
            "val_0.JPEG\tn1\nval_1.JPEG\tn9\nval_2.JPEG\tn1\n",
            "no classes named n9 (its classes n2, n3 have no images here)",
        ),
        ("val_0.JPEG\tn1\nval_1.JPEG n1\nval_2.JPEG\tn1\n", "line 2"),
        ("val_0.JPEG\tn1\nval_1.JPEG\tn1\nval_0.JPEG\tn1\n", "line 3"),
    ];
    for (text, part) in cases {
        let root = tempfile::tempdir().unwrap();
        let error = tiny_imagenet(root.path(), text).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("val"), "{error}");
    }
}

#[test]
fn annotations_beside_class_folders_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "n1", "val_0.JPEG");
    put(root.path(), "n2", "val_1.JPEG");
    fs::write(root.path().join("val_annotations.txt"), "val_0.JPEG\tn2\n").unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!((folder.classes().len(), folder.label(0)), (2, 0));
}

#[test]
fn a_missing_folder_is_named() {
    let error = ImageFolder::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"));
}
