//! Downloads from a local server that breaks connections, corrupts bytes and refuses requests.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use md5::{Digest, Md5};
use quant_data::{
    Cifar, DataError, Dataset,
    dataset::cifar::{CifarKind, Split},
    download::{Archive, IdxFiles, Limits},
};

/// How the server answers one request.
#[derive(Clone, Copy)]
enum Answer {
    /// Sends all bytes that are requested.
    Whole,
    /// Breaks the connection after this many bytes.
    CutAfter(usize),
    /// Sends wrong bytes.
    Corrupt,
    /// Ignores the requested range.
    NoRange,
    /// Answers with status 503.
    Busy,
    /// Sends this many bytes, and then nothing more while the connection stays open.
    StallAfter(usize),
    /// Sends nothing at all.
    Silent,
    /// Sends zeros without end and without announcing a length.
    Endless,
    /// Announces this many bytes, whatever it sends.
    Announce(u64),
}

/// Serves `bytes` and gives one answer per request. Also returns the first byte that each request
/// asked for.
fn serve(bytes: Vec<u8>, answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        // Stalled connections stay open until the last answer has been given.
        let mut open = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            open.push(stream.try_clone().unwrap());
            seen.lock().unwrap().push(respond(stream, &bytes, answer));
            if !matches!(answer, Answer::StallAfter(_) | Answer::Silent) {
                open.clear();
            }
        }
        // A client that waits for more bytes must not be told that there are none.
        thread::sleep(Duration::from_secs(20));
    });
    (format!("http://{address}/cifar-100-binary.tar.gz"), asked)
}

fn respond(mut stream: TcpStream, bytes: &[u8], answer: Answer) -> usize {
    let mut start = 0;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = match answer {
        Answer::NoRange => bytes.to_vec(),
        _ => bytes[start..].to_vec(),
    };
    let status = match (answer, start) {
        (Answer::Busy, _) => "503 Service Unavailable",
        (Answer::NoRange, _) | (_, 0) => "200 OK",
        _ => "206 Partial Content",
    };
    if let Answer::Corrupt = answer {
        body[0] ^= 1;
    }
    let mut length = body.len() as u64;
    match answer {
        Answer::CutAfter(count) | Answer::StallAfter(count) => body.truncate(count),
        Answer::Announce(bytes) => length = bytes,
        Answer::Silent => return start,
        _ => {}
    }
    let length = match answer {
        Answer::Endless => "Transfer-Encoding: chunked".to_owned(),
        _ => format!("Content-Length: {length}"),
    };
    let head = format!("HTTP/1.1 {status}\r\n{length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    match answer {
        Answer::Busy => {}
        Answer::Endless => {
            let chunk = [b"1000\r\n".to_vec(), vec![0; 0x1000], b"\r\n".to_vec()].concat();
            while stream.write_all(&chunk).is_ok() {}
        }
        // A client that was told a length that is too large does not wait for the bytes.
        _ => drop(stream.write_all(&body)),
    }
    start
}

/// Creates CIFAR-100's archive with 3 training images and 1 test image.
fn archive() -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, images) in [("train.bin", 3), ("test.bin", 1)] {
        let mut content = Vec::new();
        for image in 0..images {
            content.extend([0, image]);
            content
                .extend((0..3072u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ image));
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let name = format!("cifar-100-binary/{name}");
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn described(url: String, bytes: &[u8]) -> Archive {
    let md5 = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let pause = Duration::from_millis(1);
    // The files in `archive`.
    let files = vec![("train.bin".to_owned(), 3 * 3074), ("test.bin".to_owned(), 3074)];
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::new(1 << 20) };
    Archive { url, md5, pause, files, limits, ..Archive::cifar(CifarKind::Cifar100) }
}

/// Downloads with these answers. Returns the first byte that each request asked for, and the
/// result.
fn fetch(folder: &Path, answers: &[Answer]) -> (Vec<usize>, Result<usize, DataError>) {
    let bytes = archive();
    let (url, asked) = serve(bytes.clone(), answers.to_vec());
    let archive = Archive { attempts: answers.len(), ..described(url, &bytes) };
    let fetched = archive.fetch(folder, |_, _| {});
    let images = fetched.map(|_| {
        let train = Cifar::open(folder, CifarKind::Cifar100, Split::Train).unwrap();
        assert_eq!((train.label(2), train.classes().len()), (2, 100));
        train.len()
    });
    let asked = asked.lock().unwrap().clone();
    (asked, images)
}

#[test]
fn an_archive_is_fetched_once() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, images) = fetch(folder.path(), &[Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0], 3));
    let left: Vec<_> = folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["cifar-100-binary"]);
    // There is no server at this address.
    let archive = described("http://127.0.0.1:9/".into(), b"");
    assert!(archive.fetch(folder.path(), |_, _| {}).is_ok());
}

#[test]
fn a_half_unpacked_folder_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    fetch(folder.path(), &[Answer::Whole]).1.unwrap();
    let unpacked = folder.path().join("cifar-100-binary");
    let train = fs::read(unpacked.join("train.bin")).unwrap();
    fs::write(unpacked.join("train.bin"), &train[..2 * 3074]).unwrap();
    fs::remove_file(unpacked.join("test.bin")).unwrap();
    fs::write(unpacked.join("notes.txt"), "mine").unwrap();
    let (asked, images) = fetch(folder.path(), &[Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0], 3));
    assert_eq!(fs::metadata(unpacked.join("test.bin")).unwrap().len(), 3074);
    assert_eq!(fs::read_to_string(unpacked.join("notes.txt")).unwrap(), "mine");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn an_archive_that_is_there_is_unpacked_and_kept() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), archive());
    let path = folder.path().join("cifar-100-binary.tar.gz");
    // There is no server at this address.
    let mut archive = described("http://127.0.0.1:9/cifar-100-binary.tar.gz".into(), &bytes);
    archive.attempts = 1;
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(archive.fetch(folder.path(), |_, _| {}).is_err());
    fs::write(&path, &bytes).unwrap();
    let unpacked = archive.fetch(folder.path(), |_, _| {}).unwrap();
    assert!(path.is_file() && unpacked.join("test.bin").is_file());
}

#[test]
fn an_archive_without_the_files_is_an_error() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), archive());
    let (url, _) = serve(bytes.clone(), vec![Answer::Whole]);
    let mut archive = described(url, &bytes);
    archive.files.push(("more.bin".into(), 1));
    let error = archive.fetch(folder.path(), |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("more.bin"), "{error}");
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [Answer::CutAfter(1000), Answer::Busy, Answer::CutAfter(500), Answer::Whole];
    let (asked, images) = fetch(folder.path(), &answers);
    assert_eq!((asked, images.unwrap()), (vec![0, 1000, 1000, 1500], 3));
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = fetch(folder.path(), &[Answer::CutAfter(1000), Answer::NoRange]);
    assert_eq!(images.unwrap(), 3);
}

#[test]
fn corrupt_bytes_are_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, images) = fetch(folder.path(), &[Answer::Corrupt, Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0, 0], 3));
}

#[test]
fn what_has_arrived_stays_for_the_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = fetch(folder.path(), &[Answer::CutAfter(700), Answer::Busy]);
    let error = images.unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("700 bytes are kept"), "{error}");
    let (asked, images) = fetch(folder.path(), &[Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![700], 3));
}

#[test]
fn progress_counts_up_to_the_whole() {
    let bytes = archive();
    let (url, _) = serve(bytes.clone(), vec![Answer::Whole]);
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    described(url, &bytes).fetch(folder.path(), |have, total| seen.push((have, total))).unwrap();
    assert_eq!(seen.last(), Some(&(bytes.len() as u64, bytes.len() as u64)));
    assert!(seen.is_sorted());
}

#[test]
fn mnists_files_are_fetched_checked_and_repaired() {
    let bytes = b"one of four files".to_vec();
    let md5: String = Md5::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let files = ["a.gz", "b.gz"].map(|name| (name.to_owned(), md5.clone())).to_vec();
    let set = |url: String| IdxFiles {
        url,
        files: files.clone(),
        pause: Duration::from_millis(1),
        ..IdxFiles::fashion_mnist()
    };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("fashion");
    let (url, _) = serve(bytes.clone(), vec![Answer::CutAfter(5), Answer::Whole, Answer::Whole]);
    set(url).fetch(&place, |_, _| {}).unwrap();
    for name in ["a.gz", "b.gz"] {
        assert_eq!(fs::read(place.join(name)).unwrap(), bytes);
    }
    let classes = fs::read_to_string(place.join("classes.txt")).unwrap();
    assert_eq!(classes.lines().count(), 10);
    assert_eq!(classes.lines().last(), Some("Ankle boot"));

    // Only the damaged file is downloaded again.
    fs::write(place.join("b.gz"), b"one of").unwrap();
    let (url, asked) = serve(bytes.clone(), vec![Answer::Whole]);
    set(url).fetch(&place, |_, _| {}).unwrap();
    assert_eq!(fs::read(place.join("b.gz")).unwrap(), bytes);
    assert_eq!(asked.lock().unwrap().len(), 1);
    let names: Vec<_> = fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left over: {names:?}");
}

#[test]
fn a_server_that_stalls_is_given_up_and_asked_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let answers = [Answer::StallAfter(1000), Answer::Silent, Answer::Whole];
    let (asked, images) = fetch(folder.path(), &answers);
    assert_eq!((asked, images.unwrap()), (vec![0, 1000, 1000], 3));
    // The download has waited twice for 0.3 seconds.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = fetch(folder.path(), &[Answer::StallAfter(500)]);
    let error = images.unwrap_err().to_string();
    assert!(error.contains("timeout") && error.contains("500 bytes are kept"), "{error}");
}

#[test]
fn more_bytes_than_a_file_may_have_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = fetch(folder.path(), &[Answer::Endless]);
    let error = images.unwrap_err().to_string();
    assert!(error.contains("more than the 1048576 bytes"), "{error}");
    assert!(error.contains("0 bytes are kept"), "{error}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    let (asked, images) = fetch(folder.path(), &[Answer::Endless, Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0, 0], 3));
}

#[test]
fn a_length_that_the_server_makes_up_is_not_believed() {
    let length = archive().len() as u64;
    for announced in [u64::MAX, u64::MAX - 999, (1 << 20) + 1] {
        let folder = tempfile::tempdir().unwrap();
        // The bytes received before are kept, and adding the announced length does not overflow.
        let (_, images) =
            fetch(folder.path(), &[Answer::CutAfter(1000), Answer::Announce(announced)]);
        let error = images.unwrap_err().to_string();
        assert!(error.contains("1000 bytes are kept"), "{announced}: {error}");
        let (asked, images) = fetch(folder.path(), &[Answer::Whole]);
        assert_eq!((asked, images.unwrap()), (vec![1000], 3), "{announced}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = fetch(folder.path(), &[Answer::Announce((1 << 20) + 1)]);
    let error = images.unwrap_err().to_string();
    assert!(error.contains("announces 1048577 bytes: the file may have 1048576"), "{error}");
    // All bytes have arrived, although more were announced.
    let (asked, images) = fetch(folder.path(), &[Answer::Announce(length + 10), Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0], 3));
    // Here fewer bytes are announced than there are.
    let folder = tempfile::tempdir().unwrap();
    let (asked, images) = fetch(folder.path(), &[Answer::Announce(length - 10), Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0, 0], 3));
}

#[test]
fn a_partial_file_that_is_too_long_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let partial = folder.path().join("cifar-100-binary.tar.gz.partial");
    fs::write(&partial, vec![0; (1 << 20) + 1]).unwrap();
    let (asked, images) = fetch(folder.path(), &[Answer::Whole]);
    assert_eq!((asked, images.unwrap()), (vec![0], 3));
}
