//! Images in tar files, WebDataset's layout: few large files that are read nearly in order, instead of a
//! million small ones.
//!
//! `<folder>/*.tar`, each with entries `<key>.jpg` (or `.jpeg`, `.png`) and `<key>.cls`, the class as a number
//! in text; beside them `classes.txt` with a name a line. Random orders stay within [blocks](Dataset::blocks)
//! of neighbouring images.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Dataset, image_folder::is_image};
use crate::{
    error::DataError,
    image::{RgbImage, Truncated},
};

/// A folder of tar files.
#[derive(Debug)]
pub struct Shards {
    files: Vec<PathBuf>,
    /// Open files, one per shard, shared by the loader's threads.
    open: Vec<Mutex<Option<File>>>,
    classes: Vec<String>,
    images: Vec<Sample>,
    blocks: Vec<Range<usize>>,
    truncated: Truncated,
}

/// Where an image's bytes are, and its class.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    shard: u32,
    label: u32,
    offset: u64,
    length: u64,
}

impl Shards {
    /// Lists the entries of all tar files in `folder`, several files at a time.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Shard`] for a damaged file or an image without a class,
    /// [`DataError::NoShards`].
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
            let path = entry.map_err(DataError::io(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(DataError::NoShards { path: folder.to_owned() });
        }
        let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(files.len()) {
                scope.spawn(|| {
                    while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let samples = list(path);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.insert(path.clone(), samples);
                    }
                });
            }
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut images, mut blocks) = (Vec::new(), Vec::new());
        // In order of the names, as `files`.
        for (shard, (_, samples)) in found.into_iter().enumerate() {
            let start = images.len();
            let samples = samples?.into_iter();
            images.extend(samples.map(|sample| Sample { shard: shard as u32, ..sample }));
            blocks.push(start..images.len());
        }
        let highest = images.iter().map(|sample| sample.label as usize).max().unwrap_or(0);
        let path = folder.join("classes.txt");
        let classes: Vec<String> = match fs::read_to_string(&path) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(_) => (0..=highest).map(|class| class.to_string()).collect(),
        };
        if highest >= classes.len() {
            let reason = format!("{} classes, but an image has label {highest}", classes.len());
            return Err(DataError::Shard { path, reason });
        }
        let open = files.iter().map(|_| Mutex::new(None)).collect();
        Ok(Self { files, open, classes, images, blocks, truncated: Truncated::default() })
    }

    /// The same, with what becomes of image files that are cut short.
    #[must_use]
    pub fn with_truncated(mut self, truncated: Truncated) -> Self {
        self.truncated = truncated;
        self
    }

    fn read(&self, sample: Sample) -> std::io::Result<Vec<u8>> {
        let shard = sample.shard as usize;
        let mut slot = self.open[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *slot {
            Some(file) => file,
            empty => empty.insert(File::open(&self.files[shard])?),
        };
        file.seek(SeekFrom::Start(sample.offset))?;
        let mut bytes = vec![0; sample.length as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The images of a tar file.
fn list(path: &Path) -> Result<Vec<Sample>, DataError> {
    let fail = |reason: String| DataError::Shard { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(DataError::io(path))?;
    let end = file.metadata().map_err(DataError::io(path))?.len();
    // Every writer of tar files ends them with two empty blocks.
    let mut tail = [1; 1024];
    let at_tail = file.seek(SeekFrom::End(-1024)).and_then(|_| file.read_exact(&mut tail));
    if at_tail.is_err() || tail.iter().any(|byte| *byte != 0) {
        return Err(fail("it is cut off".into()));
    }
    file.rewind().map_err(DataError::io(path))?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut images: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut labels: BTreeMap<String, u32> = BTreeMap::new();
    let mut order = Vec::new();
    let entries = archive.entries_with_seek().map_err(|error| fail(error.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| fail(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some((key, extension)) = name.rsplit_once('.') else { continue };
        if extension == "cls" {
            let mut text = String::new();
            // A class is a few digits, whatever a damaged header says.
            let read = entry.by_ref().take(32).read_to_string(&mut text);
            let label = read.ok().and_then(|_| text.trim().parse().ok());
            let label = label.ok_or_else(|| fail(format!("{name}: not a class number")))?;
            labels.insert(key.to_owned(), label);
        } else if is_image(&name) {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(length).is_none_or(|last| last > end) {
                return Err(fail(format!("{name} is cut off")));
            }
            images.insert(key.to_owned(), (offset, length));
            order.push(key.to_owned());
        }
    }
    let samples = order.into_iter().map(|key| {
        let (offset, length) = images[&key];
        let label = labels.get(&key).copied();
        let label = label.ok_or_else(|| fail(format!("{key}: no {key}.cls beside it")))?;
        Ok(Sample { shard: 0, label, offset, length })
    });
    samples.collect()
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

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        let sample = self.images[index];
        let path = &self.files[sample.shard as usize];
        let bytes = self.read(sample).map_err(DataError::io(path))?;
        RgbImage::decode(&bytes, self.truncated).map_err(|reason| DataError::Image {
            path: format!("{} at byte {}", path.display(), sample.offset),
            reason,
        })
    }

    fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }
}

/// Writes the images that `files` names (path and class) into tar files of about `bytes` each in `folder`,
/// which must not hold any yet: `shard-00000.tar`, ..., and `classes.txt`. In random order, a function of
/// `seed`, so that each shard is a sample of the whole. The number of shards.
///
/// # Errors
/// [`DataError::Io`]; shards that are complete stay.
pub fn write_shards(
    files: &[(PathBuf, usize)],
    classes: &[String],
    folder: &Path,
    bytes: u64,
    seed: u64,
) -> Result<usize, DataError> {
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    let mut order: Vec<usize> = (0..files.len()).collect();
    crate::random::Random::new(&[seed]).shuffle(&mut order);
    let mut order = order.into_iter().peekable();
    let mut shards = 0;
    while order.peek().is_some() {
        let path = folder.join(format!("shard-{shards:05}.tar"));
        if path.exists() {
            let reason = "it is there already; choose an empty folder".to_owned();
            return Err(DataError::Shard { path, reason });
        }
        let partial = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder))?;
        let mut builder = tar::Builder::new(BufWriter::new(partial));
        let mut written = 0;
        while written < bytes
            && let Some(index) = order.next()
        {
            let (source, label) = &files[index];
            let image = fs::read(source).map_err(DataError::io(source))?;
            let extension = source.extension().unwrap_or_default().to_string_lossy();
            let image_name = format!("{index:08}.{}", extension.to_ascii_lowercase());
            let label = label.to_string();
            let entries =
                [(image_name, image.as_slice()), (format!("{index:08}.cls"), label.as_bytes())];
            for (name, content) in entries {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, name, content).map_err(DataError::io(&path))?;
                written += content.len() as u64 + 512;
            }
        }
        let writer = builder.into_inner().map_err(DataError::io(&path))?;
        let file = writer.into_inner().map_err(|error| DataError::io(&path)(error.into_error()))?;
        crate::files::persist(file, &path)?;
        shards += 1;
    }
    let names = classes.iter().map(|class| format!("{class}\n")).collect::<String>();
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder))?;
    let path = folder.join("classes.txt");
    file.write_all(names.as_bytes()).map_err(DataError::io(&path))?;
    crate::files::persist(file, &path)?;
    Ok(shards)
}
