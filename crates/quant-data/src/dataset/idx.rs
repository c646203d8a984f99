//! MNIST and similar data sets (Fashion-MNIST, KMNIST, EMNIST) in the IDX format
//! (<http://yann.lecun.com/exdb/mnist/>), gzipped or not.
//!
//! An IDX file begins with two zero bytes, the type of its elements (8 for bytes) and the number of
//! dimensions. Then come the size of each dimension, as a big-endian 32-bit number, and the
//! elements, with the last dimension varying fastest. Images have the shape
//! `[images, height, width]`, labels `[images]`.

use std::{
    fs,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::{Dataset, Fingerprint, cifar::Split};
use crate::{
    error::DataError,
    files,
    image::{RgbImage, check_size},
    names::printable,
};

/// One part of a data set of grey images, in memory.
#[derive(Debug, Clone)]
pub struct Idx {
    classes: Vec<String>,
    labels: Vec<u8>,
    width: usize,
    height: usize,
    /// Grey values, image after image, row by row.
    pixels: Vec<u8>,
}

/// The largest number of elements of an IDX file, each of which is one byte of memory: three times
/// the number in EMNIST, the largest of these data sets.
const MOST_ELEMENTS: usize = 3 * 814_255 * 28 * 28;

/// Subfolders in which archives and torchvision put the files.
const PLACES: [&str; 6] = ["", "raw", "FashionMNIST/raw", "MNIST/raw", "KMNIST/raw", "EMNIST/raw"];

impl Idx {
    /// Reads the images and labels of a part from `folder`, or from one of the subfolders that
    /// torchvision makes, such as `raw`. The files' names end in `train-images-idx3-ubyte` and
    /// `train-labels-idx1-ubyte` or, for the test part, in the same with `t10k-` or `test-` in
    /// place of `train-`; gzipped files also have the extension `.gz`. The classes are the lines of
    /// `classes.txt` in the same folder or, if there is no such file, numbers.
    ///
    /// # Errors
    /// [`DataError::Idx`] if a file is missing, is not an IDX file or is cut off, or if the numbers
    /// of images and labels differ; [`DataError::Label`] for a label without a class.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let images_path = find(folder, split, "images", 3)?;
        let labels_path = find(folder, split, "labels", 1)?;
        let (sizes, pixels) = read(&images_path, 3)?;
        let (_, labels) = read(&labels_path, 1)?;
        let [images, height, width] = sizes[..] else { unreachable!("`read` checks the rank") };
        let fail = |reason: String| DataError::Idx { path: labels_path.clone(), reason };
        if images != labels.len() {
            let (labels, images_path) = (labels.len(), printable(&images_path));
            return Err(fail(format!("{labels} labels for the {images} images of {images_path}")));
        }
        check_size(width, height)
            .map_err(|reason| DataError::Idx { path: images_path.clone(), reason })?;
        if pixels.is_empty() {
            return Err(DataError::Idx { path: images_path, reason: "it has no images".into() });
        }
        let highest = labels.iter().copied().max().unwrap_or(0);
        let classes = classes(&labels_path, highest)?;
        if usize::from(highest) >= classes.len() {
            let index = labels.iter().position(|label| *label == highest).unwrap_or(0);
            return Err(DataError::Label {
                path: labels_path,
                index,
                label: highest.into(),
                highest: classes.len() - 1,
            });
        }
        Ok(Self { classes, labels, width, height, pixels })
    }

    /// Returns this part with the names of the classes of `training`, if all its labels are classes
    /// there.
    ///
    /// # Errors
    /// [`DataError::Label`] for a label that is not a class of the training set.
    pub fn like(mut self, training: &Self, folder: &Path) -> Result<Self, DataError> {
        let classes = training.classes.len();
        let beyond = self.labels.iter().position(|label| usize::from(*label) >= classes);
        if let Some(index) = beyond {
            return Err(DataError::Label {
                path: folder.to_owned(),
                index,
                label: self.labels[index].into(),
                highest: classes - 1,
            });
        }
        self.classes.clone_from(&training.classes);
        Ok(self)
    }
}

/// Returns the file of a part below `folder`.
fn find(folder: &Path, split: Split, what: &str, rank: usize) -> Result<PathBuf, DataError> {
    let starts: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["t10k", "test"],
    };
    let is_it = |name: &str| {
        let name = name.strip_suffix(".gz").unwrap_or(name);
        starts.iter().any(|start| {
            // Some mirrors have a dot in place of the last hyphen.
            ["-", "."].iter().any(|dash| {
                let end = format!("{start}-{what}{dash}idx{rank}-ubyte");
                name.strip_suffix(&end).is_some_and(|set| set.is_empty() || set.ends_with('-'))
            })
        })
    };
    fs::read_dir(folder).map_err(DataError::io(folder))?;
    for place in PLACES {
        let place = folder.join(place);
        let Ok(entries) = fs::read_dir(&place) else { continue };
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in entries {
            let path = entry.map_err(DataError::io(&place))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_it(&name) && path.is_file() {
                found.push(path);
            }
        }
        // If a file is there both unpacked and packed, the unpacked one is used, because it is read
        // faster.
        found.sort();
        let plain = |path: &Path| {
            let name = path.as_os_str().as_encoded_bytes();
            name.strip_suffix(b".gz").unwrap_or(name).to_vec()
        };
        found.dedup_by(|second, first| plain(second) == plain(first));
        match &found[..] {
            [] => {}
            [path] => return Ok(path.clone()),
            [first, second, ..] => {
                let reason = format!(
                    "files of several sets: {} and {}; give each set a folder of its own",
                    printable(first),
                    printable(second)
                );
                return Err(DataError::Idx { path: place, reason });
            }
        }
    }
    let reason = format!(
        "no file {}-{what}-idx{rank}-ubyte or {}-{what}-idx{rank}-ubyte.gz inside",
        starts[0], starts[0]
    );
    Err(DataError::Idx { path: folder.to_owned(), reason })
}

/// Returns the sizes and the elements of a file of bytes with `rank` dimensions.
fn read(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let fail = |reason: String| DataError::Idx { path: path.to_owned(), reason };
    let (file, length) = files::open(path)?;
    let mut reader = BufReader::new(file);
    let mut start = [0; 2];
    reader.read_exact(&mut start).map_err(|_| fail("it is cut off".into()))?;
    let rest = std::io::Cursor::new(start).chain(reader);
    match start {
        [0x1f, 0x8b] => elements(MultiGzDecoder::new(rest), rank, None).map_err(fail),
        _ => elements(rest, rank, Some(length)).map_err(fail),
    }
}

/// Returns the sizes and the elements that `reader` gives. `length` is the length of the file in
/// bytes, if it is known.
fn elements(
    mut reader: impl Read,
    rank: usize,
    length: Option<u64>,
) -> Result<(Vec<usize>, Vec<u8>), String> {
    let cut = |error: std::io::Error| format!("it is cut off or damaged: {error}");
    let mut word = [0; 4];
    reader.read_exact(&mut word).map_err(cut)?;
    if word != [0, 0, 8, rank as u8] {
        return Err(format!(
            "it begins with the bytes {word:02x?}; expected {:02x?}, an IDX file of bytes with \
             {rank} dimensions",
            [0, 0, 8, rank as u8]
        ));
    }
    let mut sizes = Vec::with_capacity(rank);
    for _ in 0..rank {
        reader.read_exact(&mut word).map_err(cut)?;
        sizes.push(u32::from_be_bytes(word) as usize);
    }
    let count = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let count = count.filter(|count| *count <= MOST_ELEMENTS);
    let count = count.ok_or_else(|| {
        format!("its header gives {sizes:?} elements, more than the limit of {MOST_ELEMENTS}")
    })?;
    let mut bytes = Vec::new();
    if let Some(length) = length {
        // No more is reserved than the file can hold. The length of a packed file is only known
        // once it is unpacked.
        let expected = (count as u64).min(length) as usize;
        bytes.try_reserve_exact(expected + 1).map_err(|error| error.to_string())?;
    }
    // One additional byte is read to notice a file that is too long.
    reader.take(count as u64 + 1).read_to_end(&mut bytes).map_err(cut)?;
    let per_item = count.checked_div(sizes[0]).unwrap_or(0);
    match bytes.len() {
        length if length == count => Ok((sizes, bytes)),
        length if length > count => {
            Err(format!("it has more bytes than the {count} that its header gives"))
        }
        length => Err(format!(
            "it is cut off: it has {} of {} items",
            length.checked_div(per_item).unwrap_or(0),
            sizes[0]
        )),
    }
}

/// The largest number of classes: labels are bytes.
const MOST_CLASSES: usize = 256;

/// Returns the lines of `classes.txt` in the folder of the labels, or numbers if there is no such
/// file.
fn classes(labels: &Path, highest: u8) -> Result<Vec<String>, DataError> {
    let path = labels.with_file_name("classes.txt");
    let names = if path.exists() { files::read_lines(&path, MOST_CLASSES)? } else { Vec::new() };
    Ok(if names.is_empty() {
        (0..=highest).map(|label| label.to_string()).collect()
    } else {
        names
    })
}

impl Dataset for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.labels[index].into()
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        let plane = self.width * self.height;
        let grey = &self.pixels[index * plane..(index + 1) * plane];
        Ok(RgbImage {
            width: self.width,
            height: self.height,
            pixels: grey.iter().flat_map(|value| [*value; 3]).collect(),
        })
    }

    /// Hashes the size of the images, the labels and the pixels.
    fn fingerprint(&self) -> Fingerprint {
        let found = Fingerprint::new(self, |hash| {
            hash.number(self.width as u64);
            hash.number(self.height as u64);
            hash.text(&self.labels);
        });
        found.with_contents(|hash| hash.bytes(&self.pixels))
    }
}
