//! Lists the samples of a tar file.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
    rc::Rc,
};

use super::labels::Labels;
use crate::{
    dataset::fingerprint::Hash, error::DataError, files, image::has_image_extension,
    names::printable_bytes,
};

/// The largest length of a label's text in bytes, whatever a damaged header says.
const LONGEST_LABEL: u64 = 256;

/// The largest number of bytes that are read of an entry, without the content of an image: its
/// headers, its name and the text of a label. The headers of a damaged file may announce names of
/// any length.
const MOST_HEADER_BYTES: u64 = 1 << 20;

/// The largest number of images of one sample. The number is bounded because each image is compared
/// with the others.
const MOST_IMAGES: usize = 64;

/// The fields that are preferred as the image of a sample, in this order.
const PREFERRED: [&[u8]; 3] = [b"jpg", b"jpeg", b"png"];

/// The class of an image, and where its bytes are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) shard: u32,
    pub(super) label: u32,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The fields of a sample that are used.
#[derive(Default)]
struct Fields {
    label: Option<u32>,
    /// Field name, offset and length of each image.
    images: Vec<(Vec<u8>, u64, u64)>,
}

/// The content of a tar file.
pub(super) struct Listed {
    /// The samples, in the order of their first entries.
    pub(super) samples: Vec<Sample>,
    /// Length of the file in bytes.
    pub(super) bytes: u64,
    /// A hash of the samples' keys.
    pub(super) keys: u64,
}

/// Lists the content of a tar file.
pub(super) fn list(path: &Path, labels: &Labels) -> Result<Listed, DataError> {
    let fail = |reason: String| DataError::Shard { path: path.to_owned(), reason };
    let (file, end) = open(path)?;
    let left = Rc::new(Cell::new(0));
    let mut archive =
        tar::Archive::new(Rationed { reader: BufReader::new(file), left: left.clone() });
    let mut groups = Groups::default();
    let mut entries = archive.entries_with_seek().map_err(|error| fail(error.to_string()))?;
    loop {
        left.set(MOST_HEADER_BYTES);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|error| fail(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path_bytes().into_owned();
        let shown = || printable_bytes(&name);
        let Some((key, field)) = key_and_field(&name) else { continue };
        if field == b"cls" {
            let mut text = String::new();
            let read = entry.by_ref().take(LONGEST_LABEL + 1).read_to_string(&mut text);
            if read.is_err() || text.len() as u64 > LONGEST_LABEL {
                return Err(fail(format!("{} is not a label: expected a short text", shown())));
            }
            let label = labels.number(&text);
            let sample = || printable_bytes(&key);
            let label = label.map_err(|reason| fail(format!("sample {} {reason}", sample())))?;
            let group = groups.with(key, |group| group.label.is_none());
            let group = group.ok_or_else(|| fail(format!("{} is there twice", shown())))?;
            group.label = Some(label);
        } else if has_image_extension(&String::from_utf8_lossy(&name)) {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(length).is_none_or(|last| last > end) {
                return Err(fail(format!("{} is cut off", shown())));
            }
            let free = |group: &Fields| group.images.iter().all(|(other, ..)| *other != field);
            let group = groups.with(key, free);
            let group = group.ok_or_else(|| fail(format!("{} is there twice", shown())))?;
            if group.images.len() == MOST_IMAGES {
                let reason = format!("{} is image {} of its sample", shown(), MOST_IMAGES + 1);
                return Err(fail(format!("{reason}; at most {MOST_IMAGES} are read")));
            }
            group.images.push((field, offset, length));
        }
    }
    let keys = groups.hash();
    let samples = groups.samples().map_err(fail)?;
    Ok(Listed { samples, bytes: end, keys })
}

/// A reader that fails once more bytes have been read than are allowed. Seeking does not count.
struct Rationed<R> {
    reader: R,
    /// Number of bytes that may still be read.
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64).ok_or_else(|| {
            let reason = "an entry's name and headers have more than";
            io::Error::other(format!("{reason} {MOST_HEADER_BYTES} bytes"))
        })?;
        self.left.set(left);
        Ok(count)
    }
}

impl<R: Seek> Seek for Rationed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

/// Opens the file and returns it with its length in bytes. Compressed and truncated files are
/// errors.
fn open(path: &Path) -> Result<(File, u64), DataError> {
    let fail = |reason: &str| DataError::Shard { path: path.to_owned(), reason: reason.into() };
    let (mut file, end) = files::open(path)?;
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
        return Err(fail("it is compressed by gzip; decompress it with gzip -d"));
    }
    // A complete tar file ends with two empty blocks.
    let mut tail = [1; 1024];
    let at_tail = file.seek(SeekFrom::End(-1024)).and_then(|_| file.read_exact(&mut tail));
    if at_tail.is_err() || tail.iter().any(|byte| *byte != 0) {
        return Err(fail("it is cut off"));
    }
    file.rewind().map_err(DataError::io(path))?;
    Ok((file, end))
}

/// Returns the key of the sample that an entry belongs to, and the name of the field in lower case.
/// `None` if the entry does not belong to a sample.
fn key_and_field(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let parts = name.split(|byte| *byte == b'/');
    let mut folders: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    let last = folders.pop()?;
    let dot = last.iter().position(|byte| *byte == b'.')?;
    let (stem, field) = (&last[..dot], &last[dot + 1..]);
    let first = folders.first().copied().unwrap_or_default();
    let about_the_shard = first.len() >= 4 && first.starts_with(b"__") && first.ends_with(b"__");
    if stem.is_empty() || about_the_shard {
        return None;
    }
    folders.push(stem);
    Some((folders.join(&b'/'), field.to_ascii_lowercase()))
}

/// The samples of a tar file, in the order of their first entries.
#[derive(Default)]
struct Groups {
    groups: Vec<(Vec<u8>, Fields)>,
    /// Index of the latest sample with each key.
    latest: HashMap<Vec<u8>, usize>,
}

impl Groups {
    /// Returns the sample that the next entry with this key belongs to. This is the latest sample
    /// with the key if it has room for the entry. If it has not, and entries of other samples came
    /// between, a new sample starts. `None` if the latest sample of the whole file has this key but
    /// no room.
    fn with(&mut self, key: Vec<u8>, has_room: impl Fn(&Fields) -> bool) -> Option<&mut Fields> {
        let last = self.groups.len().checked_sub(1);
        let latest = self.latest.get(&key).copied();
        let index = match latest {
            Some(index) if has_room(&self.groups[index].1) => index,
            Some(_) if latest == last => return None,
            _ => {
                self.latest.insert(key.clone(), self.groups.len());
                self.groups.push((key, Fields::default()));
                self.groups.len() - 1
            }
        };
        Some(&mut self.groups[index].1)
    }

    /// Returns a hash of the keys.
    fn hash(&self) -> u64 {
        let mut hash = Hash::default();
        self.groups.iter().for_each(|(key, _)| hash.text(key));
        hash.finish()
    }

    /// Returns the samples that have an image.
    fn samples(self) -> Result<Vec<Sample>, String> {
        let with_image = self.groups.into_iter().filter(|(_, fields)| !fields.images.is_empty());
        let samples = with_image.map(|(key, fields)| {
            let key = printable_bytes(&key);
            let (offset, length) = image(&key, &fields.images)?;
            let label = fields.label.ok_or_else(|| {
                format!(
                    "sample {key} has no label: expected {key}.cls in the same shard, with the \
                     number or the name of its class (labels in .json, .txt and other fields are \
                     not read)"
                )
            })?;
            Ok(Sample { shard: 0, label, offset, length })
        });
        samples.collect()
    }
}

/// Returns the offset and the length of the image of a sample.
fn image(key: &str, images: &[(Vec<u8>, u64, u64)]) -> Result<(u64, u64), String> {
    let preferred =
        PREFERRED.iter().find_map(|name| images.iter().find(|(field, ..)| field == name));
    match (preferred, images) {
        (Some((_, offset, length)), _) | (None, [(_, offset, length)]) => Ok((*offset, *length)),
        _ => {
            let fields: Vec<String> =
                images.iter().map(|(field, ..)| printable_bytes(field)).collect();
            Err(format!(
                "sample {key} has several images, {}: expected one of them to be named {key}.jpg, \
                 {key}.jpeg or {key}.png",
                fields.join(", ")
            ))
        }
    }
}
