//! Files that are not regular files, names that are not UTF-8, and sizes beyond every limit.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::BufWriter,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use quant_data::{
    Cifar, DataError, Dataset, Idx, ImageFolder, RgbImage, Shards, Truncated,
    dataset::cifar::{CifarKind, Split},
};

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn jpeg(grey: u8) -> Vec<u8> {
    let image = RgbImage { width: 8, height: 8, pixels: vec![grey; 192] };
    image.to_jpeg(95).unwrap()
}

#[test]
fn what_is_no_regular_file_is_no_image_and_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let class = root.path().join("class");
    fs::create_dir(&class).unwrap();
    fs::write(class.join("a.jpg"), jpeg(10)).unwrap();
    symlink("a.jpg", class.join("b.jpg")).unwrap();
    symlink("/dev/zero", class.join("c.jpg")).unwrap();
    pipe(&class.join("d.jpg"));
    let _socket = UnixListener::bind(class.join("e.jpg")).unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    // A link to an image counts as an image.
    assert_eq!([0, 1].map(|index| folder.image(index).unwrap().pixels[0]), [10, 10]);
    for (index, kind) in [(2, "a device"), (3, "a named pipe"), (4, "a socket")] {
        let error = folder.image(index).unwrap_err();
        let path = folder.path(index);
        assert!(
            matches!(&error, DataError::NotAFile { path: of, kind: is }
                if (of, *is) == (&path, kind)),
            "{error}"
        );
    }
}

#[test]
fn no_data_set_waits_for_a_pipe() {
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str, pipes: &[&str]| {
        let folder = root.path().join(name);
        fs::create_dir(&folder).unwrap();
        pipes.iter().for_each(|name| pipe(&folder.join(name)));
        folder
    };
    let error = Shards::open(&folder("shards", &["a.tar"])).unwrap_err();
    assert!(error.to_string().contains("a named pipe"), "{error}");
    let error = Shards::open(&folder("list", &["classes.txt"])).unwrap_err();
    assert!(error.to_string().contains("a named pipe"), "{error}");
    let idx = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
    assert!(Idx::open(&folder("idx", &idx), Split::Train).is_err());
    let names = folder("names", &["classes.txt"]);
    fs::write(names.join(idx[0]), [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7]).unwrap();
    fs::write(names.join(idx[1]), [0, 0, 8, 1, 0, 0, 0, 1, 0]).unwrap();
    let error = Idx::open(&names, Split::Train).unwrap_err();
    assert!(error.to_string().contains("classes.txt: a named pipe"), "{error}");
    for (name, file) in [("binary", "test_batch.bin"), ("python", "test_batch")] {
        let folder = folder(name, &[file]);
        assert!(Cifar::open(&folder, CifarKind::Cifar10, Split::Test).is_err());
    }
    let tiny = folder("tiny", &["val_annotations.txt"]);
    fs::create_dir(tiny.join("images")).unwrap();
    fs::write(tiny.join("images/a.jpg"), jpeg(1)).unwrap();
    // The list cannot be read, so the folder is an ordinary class folder.
    assert_eq!(ImageFolder::open(&tiny).unwrap().classes(), ["images"]);
}

#[test]
fn a_file_longer_than_is_read_is_refused_unread() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.jpg");
    // The file has a terabyte, all of which is a hole.
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = RgbImage::read(&path, Truncated::Accept).unwrap_err();
    assert!(
        matches!(error, DataError::TooLong { bytes: 0x100_0000_0000, most: 0x4000_0000, .. }),
        "{error}"
    );
    fs::rename(&path, root.path().join("test_batch.bin")).unwrap();
    let error = Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap_err();
    assert!(error.to_string().contains("more than the limit of 1073741824"), "{error}");
    fs::rename(root.path().join("test_batch.bin"), root.path().join("classes.txt")).unwrap();
    let error = Shards::open(root.path()).unwrap_err();
    assert!(error.to_string().contains("more than the limit of 67108864"), "{error}");
}

#[test]
fn names_that_are_not_utf8_are_read_each_as_its_own() {
    let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = root.path().join(OsStr::from_bytes(b"r\xffoot"));
    for (class, grey) in [(&b"c\xfe"[..], 10), (b"c\xff", 30)] {
        let folder = root.join(OsStr::from_bytes(class));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(OsStr::from_bytes(b"\xfe.jpg")), jpeg(grey)).unwrap();
        fs::write(folder.join(OsStr::from_bytes(b"\xff.jpg")), jpeg(grey + 10)).unwrap();
        // The old date makes the remembered list reliable.
        let past = SystemTime::now() - Duration::from_secs(3600);
        File::open(&folder).unwrap().set_modified(past).unwrap();
    }
    // The first round lists the folder and writes the list; the second uses it.
    for _ in 0..2 {
        let folder = ImageFolder::open_cached(&root, cache.path()).unwrap();
        let greys: Vec<u8> =
            (0..folder.len()).map(|index| folder.image(index).unwrap().pixels[0]).collect();
        assert_eq!(greys, [10, 20, 30, 40]);
        assert_eq!(folder.classes(), ["c\\xfe", "c\\xff"]);
        assert!(folder.name(0).ends_with("r\\xffoot/c\\xfe/\\xfe.jpg"), "{}", folder.name(0));
    }
    let list = cache.path().read_dir().unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&list).unwrap();
    // The list holds the bytes of "\xfe.jpg" as digits, so that they can be read back.
    assert!(text.contains("\\u0000fe2e6a7067"), "{text}");
    let other = text.replace("\\u0000fe2e6a7067", "\\u0000fd2e6a7067");
    fs::write(&list, other).unwrap();
    let folder = ImageFolder::open_cached(&root, cache.path()).unwrap();
    assert_eq!(folder.path(0).file_name(), Some(OsStr::from_bytes(b"\xfd.jpg")));
}

#[test]
fn shards_with_names_that_are_not_utf8_are_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(OsStr::from_bytes(b"\xff.tar"));
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    let image = jpeg(10);
    for (name, content) in [("a.jpg", &image[..]), ("a.cls", b"0")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    }
    builder.finish().unwrap();
    let shards = Shards::open(root.path()).unwrap();
    assert_eq!(shards.image(0).unwrap().pixels[0], 10);
    assert!(shards.name(0).contains("\\xff.tar at byte 512"), "{}", shards.name(0));
    fs::write(root.path().join(OsStr::from_bytes(b"\xfe.tar.gz")), "").unwrap();
    let error = Shards::open(root.path()).unwrap_err().to_string();
    assert!(error.contains("gzip -d") && error.contains("\\xfe.tar.gz"), "{error}");
}

#[test]
fn control_characters_in_names_are_escaped_in_messages() {
    let root = tempfile::tempdir().unwrap();
    let class = root.path().join("red \u{1b}[31m\nclass");
    fs::create_dir(&class).unwrap();
    fs::write(class.join("two\nlines.jpg"), "no image").unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    let (error, name) = (folder.image(0).unwrap_err().to_string(), folder.name(0));
    for text in [error, name] {
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("red \\u{1b}[31m\\nclass/two\\nlines.jpg"), "{text}");
    }
    // Labels are still matched by the original name.
    assert_eq!(folder.classes(), ["red \u{1b}[31m\nclass"]);
    let shards = root.path().join("shards");
    let error = quant_data::dataset::shards::write_shards(
        &folder.files(),
        folder.classes(),
        &shards,
        1 << 20,
        1,
    );
    assert!(error.unwrap_err().to_string().contains("cannot be a line of classes.txt"));
}

#[test]
fn a_photograph_of_ninety_megapixels_is_decoded() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.png");
    // The image has more than the 89,478,485 pixels above which Pillow warns, with one bit each.
    let (width, height) = (10_000, 9_000);
    let file = BufWriter::new(File::create(&path).unwrap());
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    let row = width.div_ceil(8) as usize;
    let mut bits = vec![0; row * height as usize];
    // The first pixel becomes white.
    bits[0] = 0x80;
    writer.write_image_data(&bits).unwrap();
    writer.finish().unwrap();
    let image = RgbImage::read(&path, Truncated::Refuse).unwrap();
    assert_eq!((image.width, image.height), (10_000, 9_000));
    assert_eq!(image.pixels[..6], [255, 255, 255, 0, 0, 0]);
}
