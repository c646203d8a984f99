//! The samples of a tar file.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use super::{super::image_folder::is_image, Sample, labels::Labels};
use crate::error::DataError;

/// A label's text is short, whatever a damaged header says.
const LONGEST_LABEL: u64 = 256;

/// Fields that are a sample's image before others are.
const PREFERRED: [&str; 3] = ["jpg", "jpeg", "png"];

/// What a sample's files tell of it.
#[derive(Default)]
struct Fields {
    label: Option<u32>,
    /// Name, offset and length of each.
    images: Vec<(String, u64, u64)>,
}

/// The samples of a tar file, in the order of their first entries.
pub(super) fn list(path: &Path, labels: &Labels) -> Result<Vec<Sample>, DataError> {
    let fail = |reason: String| DataError::Shard { path: path.to_owned(), reason };
    let (file, end) = open(path)?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut groups = Groups::default();
    let entries = archive.entries_with_seek().map_err(|error| fail(error.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| fail(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some((key, field)) = key_and_field(&name) else { continue };
        if field == "cls" {
            let mut text = String::new();
            let read = entry.by_ref().take(LONGEST_LABEL + 1).read_to_string(&mut text);
            if read.is_err() || text.len() as u64 > LONGEST_LABEL {
                return Err(fail(format!("{name} is not a label: expected a short text")));
            }
            let label = labels.number(&text);
            let label = label.map_err(|reason| fail(format!("sample {key} {reason}")))?;
            let group = groups.with(key, |group| group.label.is_none());
            let group = group.ok_or_else(|| fail(format!("{name} is there twice")))?;
            group.label = Some(label);
        } else if is_image(&name) {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(length).is_none_or(|last| last > end) {
                return Err(fail(format!("{name} is cut off")));
            }
            let free = |group: &Fields| group.images.iter().all(|(other, ..)| *other != field);
            let group = groups.with(key, free);
            let group = group.ok_or_else(|| fail(format!("{name} is there twice")))?;
            group.images.push((field, offset, length));
        }
    }
    groups.samples().map_err(fail)
}

/// The file, and its length, unless it is compressed or cut off.
fn open(path: &Path) -> Result<(File, u64), DataError> {
    let fail = |reason: &str| DataError::Shard { path: path.to_owned(), reason: reason.into() };
    let mut file = File::open(path).map_err(DataError::io(path))?;
    let end = file.metadata().map_err(DataError::io(path))?.len();
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
        return Err(fail("it is compressed by gzip; decompress it with gzip -d"));
    }
    // Every writer of tar files ends them with two empty blocks.
    let mut tail = [1; 1024];
    let at_tail = file.seek(SeekFrom::End(-1024)).and_then(|_| file.read_exact(&mut tail));
    if at_tail.is_err() || tail.iter().any(|byte| *byte != 0) {
        return Err(fail("it is cut off"));
    }
    file.rewind().map_err(DataError::io(path))?;
    Ok((file, end))
}

/// The key of the sample that an entry of a tar file belongs to, and which of its fields it is, in
/// lower case. None for entries that belong to no sample.
fn key_and_field(name: &str) -> Option<(String, String)> {
    let parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    let mut folders: Vec<&str> = parts.collect();
    let (stem, field) = folders.pop()?.split_once('.')?;
    let first = folders.first().copied().unwrap_or_default();
    let about_the_shard = first.len() >= 4 && first.starts_with("__") && first.ends_with("__");
    if stem.is_empty() || about_the_shard {
        return None;
    }
    folders.push(stem);
    Some((folders.join("/"), field.to_ascii_lowercase()))
}

/// Samples in the order of their first entries.
#[derive(Default)]
struct Groups {
    groups: Vec<(String, Fields)>,
    /// The latest group of each key.
    latest: HashMap<String, usize>,
}

impl Groups {
    /// The sample that another entry of this key belongs to: the latest one of the key that has
    /// room, or a new one, as an entry that is there again after other samples starts a new sample.
    /// None where it directly follows a sample of its key that has no room for it.
    fn with(&mut self, key: String, has_room: impl Fn(&Fields) -> bool) -> Option<&mut Fields> {
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

    /// Those that have an image.
    fn samples(self) -> Result<Vec<Sample>, String> {
        let with_image = self.groups.into_iter().filter(|(_, fields)| !fields.images.is_empty());
        let samples = with_image.map(|(key, fields)| {
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

/// Offset and length of the image of a sample.
fn image(key: &str, images: &[(String, u64, u64)]) -> Result<(u64, u64), String> {
    let preferred =
        PREFERRED.iter().find_map(|name| images.iter().find(|(field, ..)| field == name));
    match (preferred, images) {
        (Some((_, offset, length)), _) | (None, [(_, offset, length)]) => Ok((*offset, *length)),
        _ => {
            let fields: Vec<&str> = images.iter().map(|(field, ..)| field.as_str()).collect();
            Err(format!(
                "sample {key} has several images, {}: expected one of them to be named {key}.jpg, \
                 {key}.jpeg or {key}.png",
                fields.join(", ")
            ))
        }
    }
}
