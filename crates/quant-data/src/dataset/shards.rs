//! Images in tar files, the layout of WebDataset: a few large files that are read almost in order,
//! instead of a million small ones.
//!
//! The files `<folder>/*.tar` hold samples. A sample consists of several files with the same key:
//! `<key>.jpg` (or another of [`EXTENSIONS`]) is the image, and `<key>.cls` is its label. The key
//! is the path up to the first dot of the file's name: `./d/s0.input.jpg` is the field `input.jpg`
//! of the sample `d/s0`. The fields of a sample usually follow one another, but need not. Hidden
//! files, and files in folders named `__<name>__`, are ignored.
//!
//! - If a sample has several images, its image is the field `jpg`, `jpeg` or `png`, in this order:
//!   `s0.jpg` comes before `s0.seg.png`. A sample with several images and none of these fields is
//!   refused.
//! - The label is a number from 0. If `<folder>/classes.txt` lists the names of the classes, one
//!   per line, the label may also be a name. A number stands for the class at that place in the
//!   list, even if the name of a class is another number. Without the list, the classes are the
//!   numbers from 0 to the highest label.
//! - All other fields, such as `.json` and `.txt`, are ignored. Their forms differ from one data
//!   set to another, so labels in them are not read.
//!
//! Random orders stay within [blocks](Dataset::blocks) of neighbouring images. Compressed tar files
//! are refused, because images are read from the middle of the files.

mod labels;
mod samples;
mod write;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub use self::write::write_shards;
use self::{
    labels::{CLASSES, Labels},
    samples::Sample,
};
use super::{Dataset, Fingerprint, numbers_by_name};
use crate::{
    error::DataError,
    files,
    image::{EXTENSIONS, RgbImage, Truncated, filled},
    names::printable,
    parallel,
};

/// A data set of tar files in a folder.
#[derive(Debug)]
pub struct Shards {
    files: Vec<PathBuf>,
    /// Length of each tar file in bytes, and a hash of the keys of its samples.
    contents: Vec<(u64, u64)>,
    /// Open files, one per tar file, shared by the loader's threads.
    open: Vec<Mutex<Option<File>>>,
    classes: Vec<String>,
    /// Whether the classes come from a list of names. If not, they come from the labels.
    named: bool,
    images: Vec<Sample>,
    blocks: Vec<Range<usize>>,
    truncated: Truncated,
}

impl Shards {
    /// Lists the samples of all tar files in `folder`, several files at the same time.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Shard`] for a damaged or compressed file, an image without a
    /// label and a label without a class; [`DataError::NoShards`].
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let classes = labels::read_classes(folder)?;
        let labels = match &classes {
            Some(names) => Labels::of(names, CLASSES),
            None => Labels::any(),
        };
        let mut shards = Self::list(folder, &labels)?;
        if let Some(names) = classes {
            (shards.classes, shards.named) = (names, true);
        }
        Ok(shards)
    }

    /// Lists the shards in `folder` as another part of the data set of `training`, with its
    /// classes. If the folder has its own list of classes, labels are matched by name, and the list
    /// may have another order or lack classes. Without a list, labels have the same meaning as in
    /// `training`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`DataError::Classes`] for classes that `training` does not
    /// have.
    pub fn open_like(folder: &Path, training: &Shards) -> Result<Self, DataError> {
        let mut shards = match labels::read_classes(folder)? {
            None => Self::list(folder, &Labels::of(&training.classes, "the training set"))?,
            Some(own) => {
                let path = folder.join(CLASSES);
                if !training.named && !training.classes.starts_with(&own) {
                    let reason = format!(
                        "the training shards have no {CLASSES}, so these names cannot be \
                         matched with the training labels; copy the file to the training shards"
                    );
                    return Err(DataError::Shard { path, reason });
                }
                let numbers = numbers_by_name(&path, &own, &training.classes)?;
                let mut shards = Self::list(folder, &Labels::of(&own, CLASSES))?;
                for sample in &mut shards.images {
                    sample.label = numbers[sample.label as usize];
                }
                shards
            }
        };
        (shards.classes, shards.named) = (training.classes.clone(), training.named);
        Ok(shards)
    }

    /// Lists the samples of the tar files, with the numbers up to the highest label as classes.
    fn list(folder: &Path, labels: &Labels) -> Result<Self, DataError> {
        let files = tar_files(folder)?;
        let found = parallel::map(&files, |path| samples::list(path, labels));
        let (mut images, mut blocks, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, listed) in (0..).zip(found) {
            let (start, listed) = (images.len(), listed?);
            images.extend(listed.samples.into_iter().map(|sample| Sample { shard, ..sample }));
            blocks.push(start..images.len());
            contents.push((listed.bytes, listed.keys));
        }
        let Some(highest) = images.iter().map(|sample| sample.label).max() else {
            let extensions = EXTENSIONS.join(", ");
            let reason = format!("its tar files hold no images (looked for {extensions})");
            return Err(DataError::Shard { path: folder.to_owned(), reason });
        };
        let classes = (0..=highest).map(|class| class.to_string()).collect();
        let open = files.iter().map(|_| Mutex::new(None)).collect();
        let truncated = Truncated::default();
        Ok(Self { files, contents, open, classes, named: false, images, blocks, truncated })
    }

    /// Sets what to do with image files that are cut short.
    #[must_use]
    pub fn with_truncated(mut self, truncated: Truncated) -> Self {
        self.truncated = truncated;
        self
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let sample = self.images[index];
        let (shard, most) = (sample.shard as usize, files::MOST_BYTES);
        let path = &self.files[shard];
        if sample.length > most {
            let path = self.name(index).into();
            return Err(DataError::TooLong { path, bytes: sample.length, most });
        }
        let mut bytes = filled(0, sample.length as usize)
            .map_err(|reason| DataError::Image { path: self.name(index), reason })?;
        let mut slot = self.open[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *slot {
            Some(file) => file,
            empty => empty.insert(files::open(path)?.0),
        };
        let place = file.seek(SeekFrom::Start(sample.offset));
        place.and_then(|_| file.read_exact(&mut bytes)).map_err(DataError::io(path))?;
        Ok(bytes)
    }
}

/// File name endings of compressed tar files, and the commands that decompress them.
const COMPRESSED: [(&str, &str); 9] = [
    (".tar.gz", "gzip -d"),
    (".tgz", "gzip -d"),
    (".tar.bz2", "bzip2 -d"),
    (".tbz2", "bzip2 -d"),
    (".tar.xz", "xz -d"),
    (".txz", "xz -d"),
    (".tar.zst", "zstd -d --rm"),
    (".tzst", "zstd -d --rm"),
    (".tar.lz4", "lz4 -d --rm"),
];

/// Returns the tar files in a folder, in order of their names.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::NoShards`]; [`DataError::Shard`] for a compressed file, unless
/// the decompressed one is there too.
fn tar_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let name = entry.map_err(DataError::io(folder))?.file_name();
        if !bytes(&name).starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_unstable();
    for (ending, command) in COMPRESSED {
        let compressed = names.iter().find(|name| {
            let stem = bytes(name).strip_suffix(ending.as_bytes());
            let decompressed = stem.map(|stem| [stem, b".tar"].concat());
            decompressed.is_some_and(|tar| names.iter().all(|name| *bytes(name) != tar))
        });
        if let Some(name) = compressed {
            let path = folder.join(name);
            let reason = format!(
                "it is compressed, and images are read from the middle of shards; decompress it: \
                 {command} {}",
                printable(&path)
            );
            return Err(DataError::Shard { path, reason });
        }
    }
    names.retain(|name| bytes(name).ends_with(b".tar"));
    if names.is_empty() {
        Err(DataError::NoShards { path: folder.to_owned() })
    } else {
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }
}

fn bytes(name: &OsStr) -> &[u8] {
    name.as_encoded_bytes()
}

impl Dataset for Shards {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].label as usize
    }

    fn name(&self, index: usize) -> String {
        let sample = self.images[index];
        format!("{} at byte {}", printable(&self.files[sample.shard as usize]), sample.offset)
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        RgbImage::decode(&self.read(index)?, self.truncated)
            .map_err(|reason| DataError::Image { path: self.name(index), reason })
    }

    fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }

    /// Hashes the names and lengths of the tar files, the keys and labels of the samples, and the
    /// sizes of the images.
    fn fingerprint(&self) -> Fingerprint {
        let found = Fingerprint::new(self, |hash| {
            for (path, (length, keys)) in self.files.iter().zip(&self.contents) {
                hash.text(bytes(path.file_name().unwrap_or_default()));
                hash.number(*length);
                hash.number(*keys);
            }
            hash.labels(self);
        });
        found.with_contents(|hash| self.images.iter().for_each(|image| hash.number(image.length)))
    }
}
