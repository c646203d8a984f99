//! What the `quant` program does with data. Texts, for the program to print.

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
    output,
};

use crate::machine;

/// A format of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One folder a class below train and below val, or Tiny ImageNet's val
    ImageFolder,
    /// train/*.tar and val/*.tar
    Shards,
    /// CIFAR-10's files, binary or of the Python version
    Cifar10,
    /// CIFAR-100's files, binary or of the Python version
    Cifar100,
    /// MNIST's, Fashion-MNIST's and their kin's IDX files
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

/// What becomes of image files that are cut short or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CutShort {
    /// They are unusable
    Refuse,
    /// They are read as far as they go
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

/// What `quant data check` has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Every part, with its unusable images and what is unusual.
    pub report: String,
    /// Images that cannot be used.
    pub unusable: usize,
}

impl Checked {
    /// # Errors
    /// Where an image is unusable.
    pub fn verdict(&self) -> Result<(), Box<dyn Error>> {
        match self.unusable {
            0 => Ok(()),
            1 => Err("1 image is unusable".into()),
            count => Err(format!("{count} images are unusable").into()),
        }
    }
}

/// Decodes every image, names those that cannot be, and says what is unusual.
///
/// # Errors
/// Where the data cannot be opened.
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
        writeln!(report, "{name}: {images} images, {classes} classes, {} unusable", bad.len())?;
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

/// Why images cannot be used, in their order.
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

/// What is no error, and may still be a mistake.
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
        remarks.push(format!("{} classes have no images here: {first}{more}", missing.len()));
    }
    let official = split.images();
    if matches!(format, Format::Cifar10 | Format::Cifar100) && data.len() != official {
        remarks.push(format!("the official set has {official} images here"));
    }
    remarks
}

/// Which data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Downloadable {
    /// CIFAR-10, binary
    Cifar10,
    /// CIFAR-100, binary
    Cifar100,
    /// Handwritten digits
    Mnist,
    /// Photographs of clothes, in MNIST's format
    FashionMnist,
    /// Cursive Japanese characters, in MNIST's format
    Kmnist,
}

/// Downloads a data set to `folder`: CIFAR's archive, which is unpacked there, or files in MNIST's
/// format. From `url` if given: the address of the archive, or the one that the files' names
/// follow.
///
/// # Errors
/// Those of [`Archive::fetch`] and [`IdxFiles::fetch`].
pub fn download(
    which: Downloadable,
    folder: &Path,
    url: Option<String>,
) -> Result<String, Box<dyn Error>> {
    let mut told = 0;
    let progress = |have: u64, total: u64| {
        if have < told {
            told = 0;
        }
        if have >= told + (8 << 20) || have == total {
            told = have;
            output::tell(&format!("{} of {} MiB", have >> 20, total >> 20));
        }
    };
    let archive = |kind| {
        let archive = Archive::cifar(kind);
        Archive { url: url.clone().unwrap_or(archive.url.clone()), ..archive }
    };
    let files =
        |files: IdxFiles| IdxFiles { url: url.clone().unwrap_or(files.url.clone()), ..files };
    let place = match which {
        Downloadable::Cifar10 => archive(CifarKind::Cifar10).fetch(folder, progress),
        Downloadable::Cifar100 => archive(CifarKind::Cifar100).fetch(folder, progress),
        Downloadable::Mnist => files(IdxFiles::mnist()).fetch(folder, progress),
        Downloadable::FashionMnist => files(IdxFiles::fashion_mnist()).fetch(folder, progress),
        Downloadable::Kmnist => files(IdxFiles::kmnist()).fetch(folder, progress),
    };
    Ok(format!("in {}", printable(place?)))
}

/// Packs `<from>/train` and `<from>/val` into tar files below `to`.
///
/// # Errors
/// Those of [`write_shards`].
pub fn shard(from: &Path, to: &Path, mebibytes: u64) -> Result<String, Box<dyn Error>> {
    let train = ImageFolder::open(&from.join("train"))?;
    let val = ImageFolder::open(&from.join("val"))?.like(&train)?;
    let mut text = String::new();
    for (name, images) in [("train", train), ("val", val)] {
        let folder: PathBuf = to.join(name);
        let files = images.files();
        let count = write_shards(&files, images.classes(), &folder, mebibytes << 20, 1)?;
        let (images, folder) = (files.len(), printable(folder));
        writeln!(text, "{name}: {images} images in {count} files in {folder}")?;
    }
    Ok(text)
}
