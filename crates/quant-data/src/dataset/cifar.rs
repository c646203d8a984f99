//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary format: per image one label byte (two in
//! CIFAR-100: coarse, fine), then 32x32 red, 32x32 green, 32x32 blue bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Dataset;
use crate::{error::DataError, image::RgbImage};

/// Side of the images, in pixels.
pub const SIDE: usize = 32;

/// Which of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CifarKind {
    /// Ten classes; `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`.
    Cifar10,
    /// A hundred fine classes; `train.bin`, `test.bin`.
    Cifar100,
}

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// 50,000 images.
    Train,
    /// 10,000 images.
    Test,
}

/// One part of a CIFAR set, in memory.
#[derive(Debug, Clone)]
pub struct Cifar {
    classes: Vec<String>,
    labels: Vec<u8>,
    /// Planar pixels, image after image.
    pixels: Vec<u8>,
}

impl Cifar {
    /// Reads the binary files in `folder`, or in the folder that the official archive makes in it
    /// (`cifar-10-batches-bin`, `cifar-100-binary`).
    ///
    /// # Errors
    /// [`DataError::Io`] for a missing file, [`DataError::Length`] for a truncated one,
    /// [`DataError::Label`] for a label out of range.
    pub fn open(folder: &Path, kind: CifarKind, split: Split) -> Result<Self, DataError> {
        let (archive, label_bytes, count) = match kind {
            CifarKind::Cifar10 => ("cifar-10-batches-bin", 1, 10),
            CifarKind::Cifar100 => ("cifar-100-binary", 2, 100),
        };
        let files: &[&str] = match (kind, split) {
            (CifarKind::Cifar10, Split::Train) => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            (CifarKind::Cifar10, Split::Test) => &["test_batch.bin"],
            (CifarKind::Cifar100, Split::Train) => &["train.bin"],
            (CifarKind::Cifar100, Split::Test) => &["test.bin"],
        };
        let inner = folder.join(archive);
        let folder: PathBuf = if inner.is_dir() { inner } else { folder.to_owned() };
        let mut cifar = Self {
            classes: class_names(&folder, kind, count),
            labels: Vec::new(),
            pixels: Vec::new(),
        };
        for file in files {
            cifar.append(&folder.join(file), label_bytes)?;
        }
        Ok(cifar)
    }

    fn append(&mut self, path: &Path, label_bytes: usize) -> Result<(), DataError> {
        let record = label_bytes + 3 * SIDE * SIDE;
        let bytes = fs::read(path).map_err(DataError::io(path))?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            let length = bytes.len();
            return Err(DataError::Length { path: path.to_owned(), length, record });
        }
        for (index, image) in bytes.chunks_exact(record).enumerate() {
            let label = image[label_bytes - 1];
            if usize::from(label) >= self.classes.len() {
                return Err(DataError::Label {
                    path: path.to_owned(),
                    index,
                    label: label.into(),
                    highest: self.classes.len() - 1,
                });
            }
            self.labels.push(label);
            self.pixels.extend_from_slice(&image[label_bytes..]);
        }
        Ok(())
    }
}

/// Names from the archive's own list, or numbers.
fn class_names(folder: &Path, kind: CifarKind, count: usize) -> Vec<String> {
    let file = match kind {
        CifarKind::Cifar10 => "batches.meta.txt",
        CifarKind::Cifar100 => "fine_label_names.txt",
    };
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match names.len() == count {
        true => names,
        false => (0..count).map(|label| label.to_string()).collect(),
    }
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
}
