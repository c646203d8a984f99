//! CIFAR in its binary and its Python version.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path};

use quant_data::{
    Cifar, DataError, Dataset,
    dataset::cifar::{CifarKind, Split},
};

/// Creates a CIFAR-10 file of `images` images. Image i has label i and the colour red i, green 100,
/// blue 200.
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
    let text = error.to_string();
    for part in ["test_batch.bin", "1 whole images", "927 bytes more", "10000", "data download"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_cifar_label_out_of_range_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("test_batch.bin"), cifar10(11)).unwrap();
    let error = Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap_err();
    assert!(matches!(error, DataError::Label { index: 10, label: 10, highest: 9, .. }), "{error}");
}

/// Writes the training files of CIFAR-10 with these numbers of images.
fn batches(folder: &Path, images: [u8; 5]) {
    for (number, images) in (1..).zip(images) {
        fs::write(folder.join(format!("data_batch_{number}.bin")), cifar10(images)).unwrap();
    }
}

fn refused(folder: &Path, split: Split) -> String {
    Cifar::open(folder, CifarKind::Cifar10, split).unwrap_err().to_string()
}

#[test]
fn a_training_file_shorter_than_the_others_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    batches(root.path(), [4, 4, 4, 4, 4]);
    assert_eq!(Cifar::open(root.path(), CifarKind::Cifar10, Split::Train).unwrap().len(), 20);
    batches(root.path(), [4, 4, 4, 4, 1]);
    let error = refused(root.path(), Split::Train);
    for part in ["data_batch_5.bin has 1", "17 images", "should be 20", "50000", "data download"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn missing_files_are_named_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let error = refused(root.path(), Split::Test);
    for part in ["cifar-10-batches-bin", "cifar-10-batches-py", "quant data download cifar10"] {
        assert!(error.contains(part), "{error}");
    }
    let inner = root.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    batches(&inner, [1; 5]);
    fs::remove_file(inner.join("data_batch_3.bin")).unwrap();
    // The advice names the folder that contains the archive's folder, whichever of the two is
    // given.
    let outer = format!("`quant data download cifar10 {}`", root.path().display());
    for folder in [root.path(), &inner] {
        let error = refused(folder, Split::Train);
        assert!(error.contains("missing: data_batch_3.bin;") && error.contains(&outer), "{error}");
    }
    assert!(refused(Path::new("/nowhere"), Split::Train).contains("/nowhere"));
}

/// Returns the operations of protocol 2 that create a NumPy array with this type of elements, this
/// shape, and these bytes.
fn array(element: &str, shape: &[u16], fortran: bool, bytes: &[u8]) -> Vec<u8> {
    let mut pickle = b"cnumpy.core.multiarray\n_reconstruct\n".to_vec();
    // The call _reconstruct(ndarray, (0,), b'b').
    pickle.extend(b"cnumpy\nndarray\nK\0\x85U\x01b\x87R");
    // The state (1, shape, dtype(element, 0, 1) with state (3, '<', ...), fortran, bytes).
    pickle.extend(b"(K\x01(");
    shape.iter().for_each(|size| pickle.extend([b"M", &size.to_le_bytes()[..]].concat()));
    pickle.push(b't');
    pickle.extend(b"cnumpy\ndtype\nU");
    pickle.push(element.len() as u8);
    pickle.extend(element.bytes());
    pickle.extend(b"K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
    pickle.push(if fortran { 0x88 } else { 0x89 });
    pickle.push(b'T');
    pickle.extend((bytes.len() as u32).to_le_bytes());
    pickle.extend(bytes);
    pickle.extend(b"tb");
    pickle
}

/// Returns a pickled dictionary of `data` and `labels`, which are given as operations.
fn dictionary(data: &[u8], key: &str, labels: &[u8]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(U\x04data".to_vec();
    pickle.extend(data);
    pickle.push(b'U');
    pickle.push(key.len() as u8);
    pickle.extend(key.bytes());
    pickle.extend(labels);
    pickle.extend(b"u.");
    pickle
}

/// Returns a list of labels as operations.
fn list(labels: &[u8]) -> Vec<u8> {
    let items = labels.iter().flat_map(|label| [b'K', *label]);
    [b"](".to_vec(), items.collect(), b"e".to_vec()].concat()
}

/// Opens a test part with these bytes as its file.
fn open(pickle: &[u8]) -> Result<Cifar, DataError> {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("test_batch"), pickle).unwrap();
    Cifar::open(root.path(), CifarKind::Cifar10, Split::Test)
}

#[test]
fn python_files_give_the_images_of_binary_ones() {
    let root = tempfile::tempdir().unwrap();
    let binary = cifar10(3);
    fs::write(root.path().join("test_batch.bin"), &binary).unwrap();
    let binary_set = Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap();
    let pixels: Vec<u8> = binary.chunks(3073).flat_map(|image| image[1..].to_vec()).collect();
    for shape in [&[3, 3072][..], &[3, 3, 32, 32]] {
        let data = array("u1", shape, false, &pixels);
        let labels = [list(&[0, 1, 2]), array("i2", &[3], false, &[0, 0, 1, 0, 2, 0])];
        for labels in labels {
            let python = open(&dictionary(&data, "labels", &labels)).unwrap();
            assert_eq!(python.len(), 3);
            for index in 0..3 {
                assert_eq!(python.label(index), binary_set.label(index));
                assert_eq!(python.image(index).unwrap(), binary_set.image(index).unwrap());
            }
        }
    }
}

#[test]
fn files_that_python_and_numpy_wrote_are_read() {
    // The files were written by `pickle.dump` of a dictionary with
    // `data[i][j] = (31 i + j j) % 256` and the labels 7 and 3.
    let files: [&[u8]; 2] = [
        include_bytes!("pickles/python2.7-numpy1.16-protocol2"),
        include_bytes!("pickles/python3.11-numpy2.4-protocol4"),
    ];
    for file in files {
        let cifar = open(file).unwrap();
        assert_eq!((cifar.len(), cifar.label(0), cifar.label(1)), (2, 7, 3));
        for index in 0..2 {
            let image = cifar.image(index).unwrap();
            for (place, byte) in image.pixels.iter().enumerate() {
                // Byte 3 p + c of the pixels is byte 1024 c + p of the planes.
                let j = place % 3 * 1024 + place / 3;
                assert_eq!(usize::from(*byte), (31 * index + j * j) % 256);
            }
        }
    }
}

#[test]
fn text_pickles_of_protocol_0_are_read() {
    // With this protocol, Python 3 writes bytes as a call that encodes a text in which each
    // character stands for the byte with its number.
    let mut raw = b"(c_codecs\nencode\n(V".to_vec();
    let pixels: Vec<u8> = (0..3072u32).map(|place| place as u8).collect();
    for byte in &pixels {
        match byte {
            0 | b'\n' | b'\r' | 0x1a | b'\\' => raw.extend(format!("\\u{byte:04x}").bytes()),
            byte => raw.push(*byte),
        }
    }
    raw.extend(b"\np5\nVlatin1\ntRt");
    let mut pickle = b"(dp0\nc_codecs\nencode\n(Vdata\nVlatin1\ntRp1\n".to_vec();
    pickle.extend(b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR");
    pickle.extend(b"(I1\n(L1L\nI3072\ntcnumpy\ndtype\n(S'u1'\nI00\nI01\ntR");
    pickle.extend(b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n");
    // The outer tuple is left out, because the call is the last item of the state.
    pickle.extend(&raw[1..raw.len() - 1]);
    pickle.extend(b"tbsS'\\x6cabels'\n(lp2\nI4\nas.");
    let cifar = open(&pickle).unwrap();
    assert_eq!((cifar.len(), cifar.label(0)), (1, 4));
    let image = cifar.image(0).unwrap();
    assert_eq!(image.pixels[..6], [pixels[0], pixels[1024], pixels[2048], 1, 1, 1]);
    assert_eq!(image.pixels[3 * 200], 200);
}

#[test]
fn cifar100s_python_files_give_fine_labels_and_names() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("cifar-100-python");
    fs::create_dir(&inner).unwrap();
    let data = array("u1", &[1, 3072], false, &[9; 3072]);
    fs::write(inner.join("train"), dictionary(&data, "fine_labels", &list(&[99]))).unwrap();
    let names = (0..100).flat_map(|class| {
        let name = format!("class {class}");
        [vec![0x8c, name.len() as u8], name.into_bytes()].concat()
    });
    let names = [b"](".to_vec(), names.collect(), b"e".to_vec()].concat();
    let meta = [b"}U\x10fine_label_names".to_vec(), names, b"s.".to_vec()].concat();
    fs::write(inner.join("meta"), meta).unwrap();
    let cifar = Cifar::open(root.path(), CifarKind::Cifar100, Split::Train).unwrap();
    assert_eq!((cifar.label(0), cifar.classes()[99].as_str()), (99, "class 99"));
}

#[test]
fn binary_files_come_before_those_of_the_python_version() {
    let root = tempfile::tempdir().unwrap();
    let (binary, python) =
        (root.path().join("cifar-10-batches-bin"), root.path().join("cifar-10-batches-py"));
    fs::create_dir(&binary).unwrap();
    fs::create_dir(&python).unwrap();
    let data = array("u1", &[1, 3072], false, &[9; 3072]);
    fs::write(python.join("test_batch"), dictionary(&data, "labels", &list(&[5]))).unwrap();
    let label = || Cifar::open(root.path(), CifarKind::Cifar10, Split::Test).unwrap().label(0);
    assert_eq!(label(), 5);
    fs::write(binary.join("test_batch.bin"), cifar10(1)).unwrap();
    assert_eq!(label(), 0);
    // Without its files, the binary folder is ignored.
    fs::remove_file(binary.join("test_batch.bin")).unwrap();
    assert_eq!(label(), 5);
}

#[test]
fn python_files_of_another_form_are_refused_with_the_reason() {
    let (pixels, labels) = ([0; 2 * 3072], list(&[1, 2]));
    let good = array("u1", &[2, 3072], false, &pixels);
    let cases = [
        (array("f4", &[2, 768], false, &pixels), "labels", labels.clone(), "f4"),
        (array("u1", &[2, 3072], true, &pixels), "labels", labels.clone(), "ascontiguousarray"),
        (array("u1", &[2, 32, 32, 3], false, &pixels), "labels", labels.clone(), "[2, 3072]"),
        (array("u1", &[3, 3072], false, &pixels), "labels", labels.clone(), "6144 bytes"),
        (good.clone(), "labels", list(&[1]), "for 1 labels"),
        (good.clone(), "fine_labels", labels.clone(), "\"labels\""),
        (good.clone(), "labels", b"](K\x01J\xff\xff\xff\xffe".to_vec(), "a label is -1"),
        (good.clone(), "labels", b"](K\x01Ne".to_vec(), "expected integers"),
        // The call of a malicious pickle is not an array.
        (b"cos\nsystem\nU\x02ls\x85R".to_vec(), "labels", labels.clone(), "os.system"),
        (b"U\x02ab".to_vec(), "labels", labels.clone(), "not a NumPy array"),
    ];
    for (data, key, labels, part) in cases {
        let error = open(&dictionary(&data, key, &labels)).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("test_batch"), "{part}: {error}");
    }
    let error = open(&dictionary(&good, "labels", &list(&[1, 10]))).unwrap_err();
    assert!(matches!(error, DataError::Label { index: 1, label: 10, highest: 9, .. }), "{error}");
}

#[test]
fn a_truncated_pickle_is_an_error_wherever_it_ends() {
    let data = array("u1", &[1, 3072], false, &[7; 3072]);
    let whole = dictionary(&data, "labels", &list(&[5]));
    for length in (0..300).chain(whole.len() - 300..whole.len()) {
        assert!(open(&whole[..length.min(whole.len() - 1)]).is_err(), "{length}");
    }
    assert!(open(&whole).is_ok());
}

#[test]
fn pickles_made_to_hurt_are_errors() {
    let cases: [(&[u8], &str); 14] = [
        (b"\x80\x06.", "protocol 6"),
        (b".", "empty stack"),
        (b"(0e.", "mark"),
        (b"N(0s.", "empty stack"),
        (b"](K\x01(a.", "empty stack"),
        (b"N(K\x01e.", "not a list"),
        (b"](K\x01s.", "empty stack"),
        (b"}(K\x01u.", "without a value"),
        (b"h\x07.", "no value 7"),
        (b"p-1\n.", "not an index"),
        (b"T\xff\xff\xff\xff", "cut off"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "cut off"),
        (b"Pid\n.", "0x50"),
        // This list contains itself.
        (b"]q\0h\0a.", "not a dictionary"),
    ];
    for (pickle, part) in cases {
        let error = open(pickle).unwrap_err().to_string();
        assert!(error.contains(part), "{}: {error}", String::from_utf8_lossy(pickle));
    }
    // The first pickle is nested half as deep as it is long; the second has too many operations.
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999], b".".to_vec()].concat();
    assert!(open(&deep).unwrap_err().to_string().contains("not a dictionary"));
    let error = open(&vec![b'N'; 5_000_000]).unwrap_err().to_string();
    assert!(error.contains("more than 4194304 operations"), "{error}");
}
