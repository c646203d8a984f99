//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the binary or the Python version of their files.
//!
//! A binary file holds, for each image, one label byte (two in CIFAR-100: coarse and fine), then
//! 32x32 red, 32x32 green and 32x32 blue bytes. Files of the Python version hold the same numbers
//! as pickled NumPy arrays; they are read without executing anything.

mod kind;
mod pickle;
mod python;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use self::kind::{CifarKind, SIDE, Split};
use self::kind::{IMAGE, Version};
use super::{Dataset, Fingerprint};
use crate::{error::DataError, files, image::RgbImage, names::printable};

/// One part of a CIFAR set, in memory.
#[derive(Debug, Clone)]
pub struct Cifar {
    classes: Vec<String>,
    labels: Vec<u8>,
    /// The pixels in planar form, image after image.
    pixels: Vec<u8>,
}

impl Cifar {
    /// Reads the files in `folder`, or in a subfolder named like the one in the official archive
    /// (`cifar-10-batches-bin`, `cifar-100-binary`, `cifar-10-batches-py`, `cifar-100-python`). The
    /// first of these places that has all files of the part is used; binary files come before those
    /// of the Python version.
    ///
    /// The files may have fewer images than the official ones, so that a subset can be used for
    /// trials. But all files of a part must have the same number of images, as those of CIFAR-10's
    /// training set do, because a shorter file was probably cut off.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Cifar`] for missing, truncated and damaged files;
    /// [`DataError::Label`] for a label that is out of range.
    pub fn open(folder: &Path, kind: CifarKind, split: Split) -> Result<Self, DataError> {
        let (folder, version) = find(folder, kind, split)?;
        let classes = class_names(&folder, version, kind)?;
        let mut cifar = Self { classes, labels: Vec::new(), pixels: Vec::new() };
        let files = version.files(kind, split);
        let mut counts = Vec::new();
        for file in &files {
            let (path, before) = (folder.join(file), cifar.len());
            match version {
                Version::Binary => cifar.append(&path, kind, split.images() / files.len())?,
                Version::Python => cifar.append_python(&path, kind)?,
            }
            counts.push(cifar.len() - before);
        }
        check_counts(&folder, kind, split, &files, &counts)?;
        Ok(cifar)
    }

    /// Appends a binary file, which has `official` images in the official data set.
    fn append(&mut self, path: &Path, kind: CifarKind, official: usize) -> Result<(), DataError> {
        let label_bytes = match kind {
            CifarKind::Cifar10 => 1,
            CifarKind::Cifar100 => 2,
        };
        let record = label_bytes + IMAGE;
        let bytes = files::read(path, files::MOST_BYTES)?;
        let (images, rest) = (bytes.len() / record, bytes.len() % record);
        if images == 0 || rest > 0 {
            let reason = format!(
                "it has {images} whole images of {record} bytes and {rest} bytes more: expected \
                 whole images, {official} in the official file; {}",
                remedy(path.parent().unwrap_or(path), kind)
            );
            return Err(DataError::Cifar { path: path.to_owned(), reason });
        }
        for (index, image) in bytes.chunks_exact(record).enumerate() {
            self.push_label(path, index, image[label_bytes - 1].into())?;
            self.pixels.extend_from_slice(&image[label_bytes..]);
        }
        Ok(())
    }

    /// Appends a file of the Python version.
    fn append_python(&mut self, path: &Path, kind: CifarKind) -> Result<(), DataError> {
        let (labels, pixels) = python::read(path, kind)?;
        if labels.is_empty() {
            let reason = "it has no images".to_owned();
            return Err(DataError::Cifar { path: path.to_owned(), reason });
        }
        for (index, label) in labels.into_iter().enumerate() {
            self.push_label(path, index, label)?;
        }
        self.pixels.extend(pixels);
        Ok(())
    }

    fn push_label(&mut self, path: &Path, index: usize, label: usize) -> Result<(), DataError> {
        let highest = self.classes.len() - 1;
        match u8::try_from(label) {
            Ok(known) if label <= highest => {
                self.labels.push(known);
                Ok(())
            }
            _ => Err(DataError::Label { path: path.to_owned(), index, label, highest }),
        }
    }
}

/// Returns the folder and the format of the files of a part.
fn find(folder: &Path, kind: CifarKind, split: Split) -> Result<(PathBuf, Version), DataError> {
    fs::metadata(folder).map_err(DataError::io(folder))?;
    let places = [Version::Binary, Version::Python].into_iter().flat_map(|version| {
        let inner = folder.join(version.archive(kind));
        [(inner, version), (folder.to_owned(), version)]
    });
    // The first place that has some of the files but not all.
    let mut incomplete = None;
    for (place, version) in places {
        let files = version.files(kind, split);
        let (present, missing): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| place.join(file).is_file());
        if missing.is_empty() {
            return Ok((place, version));
        }
        if incomplete.is_none() && (!present.is_empty() || is_archive(&place, kind)) {
            incomplete = Some((place, missing.join(", ")));
        }
    }
    let [name, _] = kind.names();
    let (path, reason) = match incomplete {
        Some((place, missing)) => {
            let reason = format!("files are missing: {missing}; {}", remedy(&place, kind));
            (place, reason)
        }
        None => {
            let reason = format!(
                "neither its folder {} nor its folder {} is here, nor are their files; {}",
                Version::Binary.archive(kind),
                Version::Python.archive(kind),
                remedy(folder, kind)
            );
            (folder.to_owned(), reason)
        }
    };
    Err(DataError::Cifar { path, reason: format!("{name}: {reason}") })
}

/// Returns whether a folder has a name from the official archives.
fn is_archive(folder: &Path, kind: CifarKind) -> bool {
    let names = [Version::Binary, Version::Python].map(|version| version.archive(kind));
    folder.is_dir() && names.iter().any(|name| folder.ends_with(name))
}

/// Returns the advice for files in `folder` that are missing or incomplete.
fn remedy(folder: &Path, kind: CifarKind) -> String {
    let outer = if is_archive(folder, kind) {
        folder.parent().filter(|outer| !outer.as_os_str().is_empty())
    } else {
        Some(folder)
    };
    let outer = outer.unwrap_or(Path::new("."));
    let [_, name] = kind.names();
    format!("`quant data download {name} {}` downloads complete files", printable(outer))
}

/// Checks that all files of a part have the same number of images.
///
/// # Errors
/// [`DataError::Cifar`] if they do not.
fn check_counts(
    folder: &Path,
    kind: CifarKind,
    split: Split,
    files: &[String],
    counts: &[usize],
) -> Result<(), DataError> {
    let most = counts.iter().copied().max().unwrap_or(0);
    let Some(short) = counts.iter().position(|count| *count < most) else {
        return Ok(());
    };
    let reason = format!(
        "{} has {} images but other files have {most}: there are {} images in total and there \
         should be {} ({} in the official set); {}",
        files[short],
        counts[short],
        counts.iter().sum::<usize>(),
        most * counts.len(),
        split.images(),
        remedy(folder, kind)
    );
    Err(DataError::Cifar { path: folder.to_owned(), reason })
}

/// Returns the names from the archive's own list, or numbers if there is no usable list.
fn class_names(folder: &Path, version: Version, kind: CifarKind) -> Result<Vec<String>, DataError> {
    let count = kind.classes();
    let names = match (version, kind) {
        (Version::Binary, CifarKind::Cifar10) => {
            files::read_lines(&folder.join("batches.meta.txt"), count).ok()
        }
        (Version::Binary, CifarKind::Cifar100) => {
            files::read_lines(&folder.join("fine_label_names.txt"), count).ok()
        }
        (Version::Python, CifarKind::Cifar10) => {
            python::class_names(&folder.join("batches.meta"), "label_names")?
        }
        (Version::Python, CifarKind::Cifar100) => {
            python::class_names(&folder.join("meta"), "fine_label_names")?
        }
    };
    let numbers = || (0..count).map(|label| label.to_string()).collect();
    Ok(names.filter(|names| names.len() == count).unwrap_or_else(numbers))
}

impl Dataset for Cifar {
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
        let plane = SIDE * SIDE;
        let planes = &self.pixels[index * 3 * plane..(index + 1) * 3 * plane];
        let mut image = RgbImage::new(SIDE, SIDE);
        for (pixel, rgb) in image.pixels.chunks_exact_mut(3).enumerate() {
            for (channel, byte) in rgb.iter_mut().enumerate() {
                *byte = planes[channel * plane + pixel];
            }
        }
        Ok(image)
    }

    /// Hashes the labels, which distinguish parts and orders of the images, and the pixels.
    fn fingerprint(&self) -> Fingerprint {
        let found = Fingerprint::new(self, |hash| hash.text(&self.labels));
        found.with_contents(|hash| hash.bytes(&self.pixels))
    }
}
