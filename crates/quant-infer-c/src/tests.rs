//! Wrong arguments, and results that are those of the engine.

use std::{
    ffi::{CStr, CString},
    ptr,
};

use quant_infer::{
    Image, Network,
    model::{Input, Model, Node, Op},
};

use crate::*;

/// A network of two classes: the means of two channels over an image of 1 x 2 pixels.
fn model() -> Model {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    Model {
        name: "mean\0s".into(),
        producer: "test".into(),
        classes: vec!["red".into(), "gr\0ün".into()],
        input: Input {
            size: [1, 2],
            shorter_side: Some(3),
            scale: vec![0.1, 0.3],
            shift: vec![0.0, -1.0],
        },
        nodes: vec![node("input", Op::Input, vec![]), node("pool", Op::GlobalPool, vec![0])],
    }
}

fn load(model: &Model) -> *mut NetworkHandle {
    let bytes = model.to_bytes();
    // SAFETY: the pointer and the length are those of the bytes.
    unsafe { qnet_from_bytes(bytes.as_ptr(), bytes.len()) }
}

fn error() -> String {
    // SAFETY: the function returns a text that ends with a zero.
    unsafe { CStr::from_ptr(qnet_error()) }.to_str().expect("UTF-8").to_owned()
}

fn text<'a>(pointer: *const c_char) -> &'a str {
    assert!(!pointer.is_null(), "{}", error());
    // SAFETY: the texts of a network end with a zero, and the tests read them before it is freed.
    unsafe { CStr::from_ptr(pointer) }.to_str().expect("UTF-8")
}

#[test]
fn scores_and_facts_are_those_of_the_engine() {
    let model = model();
    let pixels = [7, 250, 31, 0];
    let expected = Network::new(&model).unwrap().run(&Image::interleaved(&pixels, [1, 2])).unwrap();
    let network = load(&model);
    let mut scores = [0.0; 2];
    // SAFETY: the network is valid until it is freed, the session afterwards too, and the pointers
    // are those of arrays with these lengths.
    unsafe {
        assert_eq!(text(qnet_name(network)), "mean\u{fffd}s");
        assert_eq!(qnet_classes(network), 2);
        assert_eq!(text(qnet_class_name(network, 1)), "gr\u{fffd}ün");
        assert_eq!([qnet_height(network), qnet_width(network)], [1, 2]);
        assert_eq!([qnet_channels(network), qnet_shorter_side(network)], [2, 3]);
        let session = qnet_session_new(network);
        qnet_free(network);
        let run = qnet_run(session, pixels.as_ptr(), 4, 1, 2, scores.as_mut_ptr(), 2);
        assert_eq!(run, 0, "{}", error());
        qnet_session_free(session);
    }
    assert_eq!(scores.map(f32::to_bits), [expected[0].to_bits(), expected[1].to_bits()]);
}

#[test]
fn null_pointers_are_errors_or_nothing() {
    let null = ptr::null_mut::<NetworkHandle>();
    // SAFETY: the functions take null pointers.
    unsafe {
        assert!(qnet_load(ptr::null()).is_null());
        assert_eq!(error(), "path is a null pointer");
        assert!(qnet_from_bytes(ptr::null(), 9).is_null());
        assert_eq!(error(), "bytes is a null pointer");
        assert!(qnet_name(null).is_null());
        assert_eq!(error(), "network is a null pointer");
        assert!(qnet_class_name(null, 0).is_null());
        assert_eq!(qnet_classes(null), 0);
        assert_eq!([qnet_height(null), qnet_width(null)], [0, 0]);
        assert_eq!([qnet_channels(null), qnet_shorter_side(null)], [0, 0]);
        assert!(qnet_session_new(null).is_null());
        qnet_free(null);
        qnet_session_free(ptr::null_mut());
    }
}

#[test]
fn wrong_arguments_of_a_run_are_errors_that_leave_the_scores() {
    let network = load(&model());
    // SAFETY: the network is valid.
    let session = unsafe { qnet_session_new(network) };
    let pixels = [1; 4];
    let mut scores = [5.0; 4];
    let (from, to) = (pixels.as_ptr(), scores.as_mut_ptr());
    let unaligned = to.wrapping_byte_add(1);
    let none = ptr::null_mut();
    let cases = [
        (none, from, 4, 2, to, 2, "session is a null pointer"),
        (session, ptr::null(), 4, 2, to, 2, "pixels is a null pointer"),
        (session, from, usize::MAX, 2, to, 2, "pixels cannot have"),
        (session, from, 3, 2, to, 2, "the image has 3 numbers for 1 x 2 pixels"),
        (session, from, 4, 0, to, 2, "the image has 4 numbers for 1 x 0 pixels"),
        (session, from, 4, usize::MAX, to, 2, "the image has 4 numbers"),
        (session, from, 4, 2, ptr::null_mut(), 2, "scores is a null pointer"),
        (session, from, 4, 2, unaligned, 2, "scores is not aligned"),
        (session, from, 4, 2, to, 1, "scores has room for 1 numbers, and the network has 2"),
        (session, from, 4, 2, to, 3, "scores has room for 3 numbers"),
    ];
    for (session, pixels, length, width, to, count, expected) in cases {
        // SAFETY: pointers that are not null are valid; wrong lengths are found before they are
        // used, or are smaller than the true ones.
        let result = unsafe { qnet_run(session, pixels, length, 1, width, to, count) };
        assert_eq!(result, -1, "{expected}");
        assert!(error().contains(expected), "{} instead of {expected}", error());
    }
    assert_eq!(scores.map(f32::to_bits), [5f32.to_bits(); 4]);
    // SAFETY: both are valid, and used for the last time.
    unsafe {
        qnet_free(network);
        qnet_session_free(session);
    }
}

#[test]
fn a_class_beyond_the_last_has_no_name() {
    let network = load(&Model { classes: Vec::new(), ..model() });
    // SAFETY: the network is valid until it is freed.
    unsafe {
        assert!(qnet_class_name(network, 0).is_null());
        assert!(error().contains("the network has 2 classes, 0 names"), "{}", error());
        qnet_free(network);
    }
}

#[test]
fn files_that_are_missing_or_damaged_are_errors_with_their_path() {
    let missing = CString::new("no/such/file.qnet").unwrap();
    let damaged = CString::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    for path in [missing, damaged] {
        // SAFETY: the text ends with a zero.
        assert!(unsafe { qnet_load(path.as_ptr()) }.is_null());
        assert!(error().contains(path.to_str().unwrap()), "{}", error());
    }
}

#[test]
fn a_session_that_another_thread_runs_is_an_error() {
    let network = load(&model());
    let mut scores = [0.0; 2];
    // SAFETY: the handles are valid until they are freed, and the arrays have these lengths.
    unsafe {
        let session = qnet_session_new(network);
        let running = (*session).session.lock().unwrap();
        let result = qnet_run(session, [1; 4].as_ptr(), 4, 1, 2, scores.as_mut_ptr(), 2);
        assert_eq!(result, -1);
        assert!(error().contains("another thread is running this session"), "{}", error());
        drop(running);
        qnet_session_free(session);
        qnet_free(network);
    }
}
