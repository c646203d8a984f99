//! The commands of the `quant` program for data. They return the text that the program prints.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use quant_data::{
    Dataset, ImageFolder, Truncated,
    dataset::{
        cifar::{CifarKind, Split},
        shards::write_shards,
    },
    download::{Archive, IdxFiles},
    names::printable,
};
use quant_train::{
    data::{DataKind, DataRecipe},
    output::{self, plural},
};

use crate::machine;

/// A format of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Folders train and val with one folder per class, or Tiny ImageNet's val
    ImageFolder,
    /// Tar files train/*.tar and val/*.tar
    Shards,
    /// Files of CIFAR-10, in the binary or the Python version
    Cifar10,
    /// Files of CIFAR-100, in the binary or the Python version
    Cifar100,
    /// IDX files of MNIST, Fashion-MNIST and similar data sets
    Idx,
}

impl From<Format> for DataKind {
    fn from(format: Format) -> Self {
        match format {
            Format::ImageFolder => DataKind::ImageFolder,
            Format::Shards => DataKind::Shards,
            Format::Cifar10 => DataKind::Cifar10,
            Format::Cifar100 => DataKind::Cifar100,
            Format::Idx => DataKind::Idx,
        }
    }
}

/// What to do with image files that are cut short or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CutShort {
    /// Count them as unusable
    Refuse,
    /// Use the part that can be decoded
    Accept,
}

impl From<CutShort> for Truncated {
    fn from(choice: CutShort) -> Self {
        match choice {
            CutShort::Refuse => Truncated::Refuse,
            CutShort::Accept => Truncated::Accept,
        }
    }
}

/// The result of `quant data check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// A description of each part, with its unusable images and anything unusual.
    pub report: String,
    /// The number of images that cannot be used.
    pub unusable: usize,
}

impl Checked {
    /// Checks that all images can be used.
    ///
    /// # Errors
    /// If an image is unusable: the number of these images.
    pub fn verdict(&self) -> Result<(), Box<dyn Error>> {
        match self.unusable {
            0 => Ok(()),
            1 => Err("1 image is unusable".into()),
            count => Err(format!("{count} images are unusable").into()),
        }
    }
}

/// Decodes every image of the data in `folder`. The report lists images that cannot be decoded, and
/// anything unusual.
///
/// # Errors
/// If the data cannot be opened.
pub fn check(
    folder: &Path,
    format: Format,
    truncated: Truncated,
) -> Result<Checked, Box<dyn Error>> {
    let recipe = DataRecipe { truncated, ..DataRecipe::new(format.into(), 224) };
    let (train, val) = recipe.open(folder, &machine::cache())?;
    let mut report = String::new();
    let mut unusable = 0;
    let parts = [("training", train, Split::Train), ("validation", val, Split::Test)];
    for (name, data, split) in parts {
        let bad = undecodable(data.as_ref());
        let (images, classes) = (data.len(), data.classes().len());
        let images = plural(images, "image", "images");
        let classes = plural(classes, "class", "classes");
        writeln!(report, "{name}: {images}, {classes}, {} unusable", bad.len())?;
        for reason in &bad {
            writeln!(report, "  {reason}")?;
        }
        for remark in remarks(data.as_ref(), format, split) {
            writeln!(report, "  {remark}")?;
        }
        unusable += bad.len();
    }
    Ok(Checked { report, unusable })
}

/// Decodes every image, and returns the errors in the order of the images.
fn undecodable(data: &dyn Dataset) -> Vec<String> {
    let (next, bad) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= data.len() {
                        return;
                    }
                    if let Err(error) = data.image(index) {
                        let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                        bad.push((index, error.to_string()));
                    }
                }
            });
        }
    });
    let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort();
    bad.into_iter().map(|(_, reason)| reason).collect()
}

/// Returns remarks on what is not an error but may be a mistake: classes without images, and a
/// number of images that differs from that of the official data set.
fn remarks(data: &dyn Dataset, format: Format, split: Split) -> Vec<String> {
    let mut remarks = Vec::new();
    let shown: BTreeSet<usize> = (0..data.len()).map(|index| data.label(index)).collect();
    let names = data.classes().iter().enumerate();
    let missing: Vec<&str> =
        names.filter(|(label, _)| !shown.contains(label)).map(|(_, name)| name.as_str()).collect();
    if !missing.is_empty() {
        let first: Vec<String> = missing.iter().take(5).map(printable).collect();
        let first = first.join(", ");
        let more = if missing.len() > 5 { ", ..." } else { "" };
        let classes = plural(missing.len(), "class has", "classes have");
        remarks.push(format!("{classes} no images here: {first}{more}"));
    }
    let official = split.images();
    if matches!(format, Format::Cifar10 | Format::Cifar100) && data.len() != official {
        remarks.push(format!("this part of the official data set has {official} images"));
    }
    remarks
}

/// A data set that can be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Downloadable {
    /// CIFAR-10, in the binary version
    Cifar10,
    /// CIFAR-100, in the binary version
    Cifar100,
    /// MNIST: handwritten digits
    Mnist,
    /// Fashion-MNIST: photographs of clothes, in MNIST's format
    FashionMnist,
    /// KMNIST: cursive Japanese characters, in MNIST's format
    Kmnist,
}

/// Downloads a data set to `folder`: CIFAR's archive, which is unpacked there, or files in MNIST's
/// format. `url` replaces the official address: the archive's own for CIFAR, the folder of the
/// files for the others. Returns a text that says where the data set is.
///
/// # Errors
/// As [`Archive::fetch`] and [`IdxFiles::fetch`].
pub fn download(
    which: Downloadable,
    folder: &Path,
    url: Option<String>,
) -> Result<String, Box<dyn Error>> {
    let mut reported = 0;
    let progress = |have: u64, total: u64| {
        // The count starts again with each file.
        if have < reported {
            reported = 0;
        }
        if have >= reported + (8 << 20) || have == total {
            reported = have;
            output::tell(&format!("{} of {} MiB", have >> 20, total >> 20));
        }
    };
    let archive = |kind| {
        let archive = Archive::cifar(kind);
        Archive { url: url.clone().unwrap_or(archive.url.clone()), ..archive }
    };
    let files =
        |files: IdxFiles| IdxFiles { url: url.clone().unwrap_or(files.url.clone()), ..files };
    let data = match which {
        Downloadable::Cifar10 => archive(CifarKind::Cifar10).fetch(folder, progress),
        Downloadable::Cifar100 => archive(CifarKind::Cifar100).fetch(folder, progress),
        Downloadable::Mnist => files(IdxFiles::mnist()).fetch(folder, progress),
        Downloadable::FashionMnist => files(IdxFiles::fashion_mnist()).fetch(folder, progress),
        Downloadable::Kmnist => files(IdxFiles::kmnist()).fetch(folder, progress),
    };
    Ok(format!("the data set is in {}", printable(data?)))
}

/// Packs the images in `<from>/train` and `<from>/val` into tar files of about `mebibytes` MiB each
/// below `to`. Returns a text with the number of files.
///
/// # Errors
/// As [`ImageFolder::open`], [`ImageFolder::like`] and [`write_shards`].
pub fn shard(from: &Path, to: &Path, mebibytes: u64) -> Result<String, Box<dyn Error>> {
    let train = ImageFolder::open(&from.join("train"))?;
    let val = ImageFolder::open(&from.join("val"))?.like(&train)?;
    let mut text = String::new();
    for (name, images) in [("train", train), ("val", val)] {
        let folder: PathBuf = to.join(name);
        let files = images.files();
        let count = write_shards(&files, images.classes(), &folder, mebibytes << 20, 1)?;
        let (images, folder) = (plural(files.len(), "image", "images"), printable(folder));
        let count = plural(count, "file", "files");
        writeln!(text, "{name}: {images} in {count} in {folder}")?;
    }
    Ok(text)
}
