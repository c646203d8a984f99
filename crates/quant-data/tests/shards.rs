//! Shards as users of WebDataset have them: which files form a sample, and which class it has.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path};

use quant_data::{DataError, Dataset, RgbImage, Shards};

/// Creates a grey JPEG image of 8 by 8 pixels. [`seen`] identifies an image by its first byte.
fn jpeg(grey: u8) -> Vec<u8> {
    let image = RgbImage { width: 8, height: 8, pixels: vec![grey; 192] };
    image.to_jpeg(95).unwrap()
}

/// Writes a tar file. The content of an image entry is a single byte, its grey value.
fn shard(path: &Path, entries: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, content) in entries {
        let is_image = ["jpg", "jpeg", "png"].iter().any(|end| name.to_lowercase().ends_with(end));
        let content = if is_image { jpeg(content[0]) } else { content.to_vec() };
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // `append_data` would remove the leading "./".
        if name.len() < 100 {
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_slice()).unwrap();
        } else {
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
    }
    builder.finish().unwrap();
}

/// Creates a folder with one shard of these entries.
fn folder(entries: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    shard(&folder.path().join("a.tar"), entries);
    folder
}

/// Returns the label and the grey value of every image.
fn seen(shards: &Shards) -> Vec<(usize, u8)> {
    (0..shards.len())
        .map(|index| (shards.label(index), shards.image(index).unwrap().pixels[0]))
        .collect()
}

fn refused(entries: &[(&str, &[u8])]) -> String {
    Shards::open(folder(entries).path()).unwrap_err().to_string()
}

#[test]
fn a_key_is_the_path_up_to_the_first_dot_of_the_name() {
    let folder = folder(&[
        ("./d.x/s0.input.jpg", &[10]),
        ("d.x/s0.json", b"{}"),
        ("d.x/s0.cls", b"1"),
        ("e/s0.cls", b" 0 \n"),
        ("e/s0.JPEG", &[20]),
        ("e/s0.txt", b"a cat"),
        ("s1.a.b.png", &[30]),
        ("s1.cls", b"2"),
    ]);
    let shards = Shards::open(folder.path()).unwrap();
    assert_eq!(seen(&shards), [(1, 10), (0, 20), (2, 30)]);
    assert_eq!(shards.classes(), ["0", "1", "2"]);
}

#[test]
fn the_fields_of_a_sample_may_lie_apart() {
    let entries: [(&str, &[u8]); 6] = [
        ("a.jpg", &[10]),
        ("b.jpg", &[20]),
        ("c.cls", b"0"),
        ("b.cls", b"1"),
        ("a.cls", b"2"),
        ("c.jpg", &[30]),
    ];
    let folder = folder(&entries);
    assert_eq!(seen(&Shards::open(folder.path()).unwrap()), [(2, 10), (1, 20), (0, 30)]);
}

#[test]
fn a_key_that_comes_again_is_another_sample() {
    let folder = folder(&[
        ("a.jpg", &[10]),
        ("a.cls", b"0"),
        ("b.jpg", &[20]),
        ("b.cls", b"1"),
        ("a.jpg", &[30]),
        ("a.cls", b"2"),
    ]);
    assert_eq!(seen(&Shards::open(folder.path()).unwrap()), [(0, 10), (1, 20), (2, 30)]);
    let error = refused(&[("a.jpg", &[10]), ("a.jpg", &[20]), ("a.cls", b"0")]);
    assert!(error.contains("a.jpg is there twice"), "{error}");
}

#[test]
fn of_several_images_the_plainly_named_one_is_taken() {
    let folder = folder(&[
        ("a.depth.png", &[10]),
        ("a.png", &[20]),
        ("a.jpg", &[30]),
        ("a.cls", b"0"),
        ("b.mask.png", &[40]),
        ("b.png", &[50]),
        ("b.cls", b"0"),
    ]);
    assert_eq!(seen(&Shards::open(folder.path()).unwrap()), [(0, 30), (0, 50)]);
    let error = refused(&[("d/a.left.jpg", &[1]), ("d/a.right.jpg", &[2]), ("d/a.cls", b"0")]);
    for part in ["a.tar", "sample d/a", "left.jpg", "right.jpg"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn hidden_files_and_notes_on_the_shard_belong_to_no_sample() {
    let folder = folder(&[
        ("__notes__/a.jpg", &[10]),
        ("._a.jpg", &[20]),
        ("d/.b.jpg", &[20]),
        ("README", b"no dot"),
        ("a.jpg", &[30]),
        ("a.cls", b"0"),
    ]);
    fs::write(folder.path().join("._a.tar"), "not a shard").unwrap();
    assert_eq!(seen(&Shards::open(folder.path()).unwrap()), [(0, 30)]);
}

#[test]
fn long_names_are_read_in_both_forms() {
    let long = format!("{}/s0", "folder".repeat(30));
    let (image, label) = (format!("{long}.jpg"), format!("{long}.cls"));
    // GNU's format for long names.
    let gnu = folder(&[(&image, &[10]), (&label, b"1")]);
    assert_eq!(seen(&Shards::open(gnu.path()).unwrap()), [(1, 10)]);
    // PAX's format for long names.
    let pax = tempfile::tempdir().unwrap();
    let file = fs::File::create(pax.path().join("a.tar")).unwrap();
    let mut builder = tar::Builder::new(file);
    for (name, content) in [(&image, jpeg(20)), (&label, b"1".to_vec())] {
        builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "short", content.as_slice()).unwrap();
    }
    builder.finish().unwrap();
    drop(builder);
    assert_eq!(seen(&Shards::open(pax.path()).unwrap()), [(1, 20)]);
}

#[test]
fn a_label_is_a_number_or_a_name_of_the_list() {
    let entries: [(&str, &[u8]); 4] =
        [("a.jpg", &[10]), ("a.cls", b"dog\n"), ("b.jpg", &[20]), ("b.cls", b"0")];
    let named = folder(&entries);
    fs::write(named.path().join("classes.txt"), "cat\r\ndog\r\n\r\n").unwrap();
    let shards = Shards::open(named.path()).unwrap();
    assert_eq!((seen(&shards), shards.classes().len()), (vec![(1, 10), (0, 20)], 2));
    assert!(refused(&entries).contains("classes.txt"));
    fs::write(named.path().join("classes.txt"), "cat\ndgo\n").unwrap();
    let error = Shards::open(named.path()).unwrap_err().to_string();
    assert!(error.contains("sample a has label \"dog\""), "{error}");
    fs::write(named.path().join("classes.txt"), "cat\n\ndog\n").unwrap();
    let error = Shards::open(named.path()).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn a_sample_without_a_label_is_named() {
    let error = refused(&[("d/a.jpg", &[10]), ("d/a.json", b"{\"label\": 0}")]);
    assert!(error.contains("expected d/a.cls") && error.contains(".json"), "{error}");
    let error = refused(&[("a.jpg", &[10]), ("a.cls", b"4000000000")]);
    assert!(error.contains("4000000000"), "{error}");
    let error = refused(&[("a.cls", b"0")]);
    assert!(error.contains("no images"), "{error}");
}

/// Creates training shards with the labels 0 to 3, and other shards with `labels`.
fn parts(labels: &[&str]) -> (tempfile::TempDir, tempfile::TempDir) {
    let part = |labels: &[&str]| {
        let names: Vec<(String, String)> = (0..labels.len())
            .map(|index| (format!("{index:06}.jpg"), format!("{index:06}.cls")))
            .collect();
        let mut entries: Vec<(&str, &[u8])> = Vec::new();
        for ((image, class), label) in names.iter().zip(labels) {
            entries.extend([(image.as_str(), &[50u8][..]), (class.as_str(), label.as_bytes())]);
        }
        folder(&entries)
    };
    (part(&["0", "1", "2", "3"]), part(labels))
}

fn labels(shards: &Shards) -> Vec<usize> {
    (0..shards.len()).map(|index| shards.label(index)).collect()
}

#[test]
fn a_label_unknown_to_the_training_set_is_refused_with_its_place() {
    let (train, val) = parts(&["0", "9"]);
    let train = Shards::open(train.path()).unwrap();
    let error = Shards::open_like(val.path(), &train).unwrap_err().to_string();
    for part in ["a.tar", "sample 000001", "label 9", "0 to 3"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_part_without_some_classes_has_the_training_sets() {
    let (train, val) = parts(&["1", "0"]);
    let train = Shards::open(train.path()).unwrap();
    let val = Shards::open_like(val.path(), &train).unwrap();
    assert_eq!((labels(&val), val.classes()), (vec![1, 0], train.classes()));
}

#[test]
fn lists_in_another_order_are_matched_by_name() {
    let (train, val) = parts(&["0", "1", "ant", "fly"]);
    fs::write(train.path().join("classes.txt"), "ant\nbee\ncat\nfly\n").unwrap();
    fs::write(val.path().join("classes.txt"), "fly\nant\n").unwrap();
    let train = Shards::open(train.path()).unwrap();
    let val_shards = Shards::open_like(val.path(), &train).unwrap();
    // Numbers are places in the folder's own list: 0 is fly, which is 3 in the training set.
    assert_eq!(labels(&val_shards), [3, 0, 0, 3]);
    assert_eq!(val_shards.classes(), train.classes());

    // Without a list in the folder, numbers refer to the training set's list.
    fs::remove_file(val.path().join("classes.txt")).unwrap();
    let val_shards = Shards::open_like(val.path(), &train).unwrap();
    assert_eq!(labels(&val_shards), [0, 1, 0, 3]);
}

#[test]
fn names_that_cannot_be_matched_are_refused() {
    let (train, val) = parts(&["0", "1"]);
    fs::write(val.path().join("classes.txt"), "cat\ndog\n").unwrap();
    let unnamed = Shards::open(train.path()).unwrap();
    let error = Shards::open_like(val.path(), &unnamed).unwrap_err().to_string();
    assert!(error.contains("training shards have no classes.txt"), "{error}");

    let list = |names| {
        fs::write(train.path().join("classes.txt"), names).unwrap();
        let train = Shards::open(train.path()).unwrap();
        Shards::open_like(val.path(), &train).unwrap_err()
    };
    let error = list("cat\ndgo\nx\ny\n");
    assert!(matches!(&error, DataError::Classes { unknown, .. } if unknown == &["dog"]), "{error}");
    let error = list("dog\ncat\ncat\nx\n");
    assert!(matches!(&error, DataError::SameName { name, .. } if name == "cat"), "{error}");
}

#[test]
fn compressed_shards_are_refused_with_the_remedy() {
    let folder = folder(&[("a.jpg", &[10]), ("a.cls", b"0")]);
    for name in ["b.tar.gz", "b.tgz"] {
        let path = folder.path().join(name);
        fs::write(&path, "").unwrap();
        let error = Shards::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("gzip -d {}", path.display())), "{error}");
        fs::remove_file(&path).unwrap();
    }
    // The decompressed file is in the same folder.
    fs::write(folder.path().join("a.tgz"), "").unwrap();
    assert_eq!(Shards::open(folder.path()).unwrap().len(), 1);
    fs::write(folder.path().join("c.tar"), [0x1f, 0x8b, 8, 0]).unwrap();
    let error = Shards::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("c.tar") && error.contains("gzip"), "{error}");
}

#[test]
fn labels_and_lists_beyond_the_bound_are_refused() {
    for label in ["4294967295", "20000000", "1000000", "99999999999999999999"] {
        let error = refused(&[("a.jpg", &[10]), ("a.cls", label.as_bytes())]);
        assert!(error.contains(label), "{error}");
    }
    let error = refused(&[("a.jpg", &[10]), ("a.cls", b"1000000")]);
    assert!(error.contains("0 to 999999"), "{error}");
    let listed = folder(&[("a.jpg", &[10]), ("a.cls", b"0")]);
    fs::write(listed.path().join("classes.txt"), "x\n".repeat(1_000_001)).unwrap();
    let error = Shards::open(listed.path()).unwrap_err().to_string();
    assert!(error.contains("1000001 lines") && error.contains("1000000 classes"), "{error}");
}

#[test]
fn names_and_samples_of_any_length_are_bounded() {
    let long = format!("{}.jpg", "long/".repeat(300_000));
    let error = refused(&[(&long, &[10]), ("a.cls", b"0")]);
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    let names: Vec<String> = (0..65).map(|number| format!("a.{number}.jpg")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &[10][..])).collect();
    let error = refused(&entries);
    assert!(error.contains("a.64.jpg") && error.contains("64 are read"), "{error}");
}

#[test]
fn an_image_longer_than_is_read_is_unusable_and_the_others_are_not() {
    use std::io::{Seek, SeekFrom, Write};
    let folder = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(folder.path().join("a.tar")).unwrap();
    let header = |name: &str, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        *header.as_bytes()
    };
    // The two gigabytes are a hole in the file.
    let size = 2 << 30;
    file.write_all(&header("a.jpg", size)).unwrap();
    file.seek(SeekFrom::Current(size as i64)).unwrap();
    let small = jpeg(30);
    for (name, content) in [("a.cls", &b"0"[..]), ("b.jpg", &small), ("b.cls", b"1")] {
        file.write_all(&header(name, content.len() as u64)).unwrap();
        file.write_all(content).unwrap();
        file.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()]).unwrap();
    }
    file.write_all(&[0; 1024]).unwrap();
    let shards = Shards::open(folder.path()).unwrap();
    let error = shards.image(0).unwrap_err();
    let expected = (size, 1 << 30);
    assert!(
        matches!(&error, DataError::TooLong { bytes, most, .. } if (*bytes, *most) == expected),
        "{error}"
    );
    assert_eq!(shards.image(1).unwrap().pixels[0], 30);
}

/// Writes a tar file with names that need not be UTF-8.
fn shard_of_bytes(path: &Path, entries: &[(&[u8], &[u8])]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn keys_that_are_not_utf8_stay_apart_and_are_escaped_in_messages() {
    let (first, second) = (jpeg(10), jpeg(20));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let entries: [(&[u8], &[u8]); 4] =
        [(b"\xff.jpg", &first), (b"\xfe.jpg", &second), (b"\xff.cls", b"0"), (b"\xfe.cls", b"1")];
    shard_of_bytes(&path, &entries);
    assert_eq!(seen(&Shards::open(folder.path()).unwrap()), [(0, 10), (1, 20)]);
    shard_of_bytes(&path, &[(b"a\xff\x1b[2J\n.jpg", &first)]);
    let error = Shards::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("sample a\\xff\\u{1b}[2J\\n has no label"), "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}
