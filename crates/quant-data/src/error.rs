//! What can go wrong with data.

use std::path::PathBuf;

use crate::{image::EXTENSIONS, names::printable};

/// An unusable data set, image or loader configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", printable(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// What should be a file with bytes of its own is something else.
    #[error(
        "{}: {kind}, not a file: only regular files and links to them are read",
        printable(.path)
    )]
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What stands there instead of a file, such as a FIFO.
        kind: &'static str,
    },
    /// A file is longer than files of its kind are read.
    #[error("{}: {bytes} bytes, more than the {most} that are read", printable(.path))]
    TooLong {
        /// The file, or the place in it.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The longest that is read.
        most: u64,
    },
    /// An image does not decode.
    #[error("{}: not a usable image: {}", printable(.path), printable(.reason))]
    Image {
        /// The file, or the place in it.
        path: String,
        /// Why.
        reason: String,
    },
    /// A folder lacks that of its training or validation data.
    #[error(
        "{}: no folder {missing} inside; expected train and val, each with the data of its part",
        printable(.path)
    )]
    NoPart {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// A folder that should hold one folder per class holds none.
    #[error(
        "{}: no class folders (expected <class>/<image>.jpg inside)",
        printable(.path)
    )]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that should hold tar files holds none.
    #[error("{}: no .tar files inside", printable(.path))]
    NoShards {
        /// The folder.
        path: PathBuf,
    },
    /// A tar file of images, or its list of classes, is not usable.
    #[error("{}: not a usable shard: {}", printable(.path), printable(.reason))]
    Shard {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of the IDX format, MNIST's, is missing or not usable.
    #[error("{}: not usable as IDX data: {}", printable(.path), printable(.reason))]
    Idx {
        /// The file, or the folder that lacks it.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A download failed.
    #[error("{url}: {reason}")]
    Download {
        /// The address.
        url: String,
        /// Why, and what is kept.
        reason: String,
    },
    /// A class folder holds no image.
    #[error(
        "{}: class folder without images (looked for the extensions {})",
        printable(.path),
        EXTENSIONS.join(", ")
    )]
    EmptyClass {
        /// The folder.
        path: PathBuf,
    },
    /// A part of a data set has classes that the training set does not have.
    #[error(
        "{}: the training set has no classes named {unknown:?}{}; rename or remove them",
        printable(.path),
        hint(.missing)
    )]
    Classes {
        /// The folder.
        path: PathBuf,
        /// Classes only the training set has, at most five.
        missing: Vec<String>,
        /// Classes only this folder has, at most five.
        unknown: Vec<String>,
    },
    /// Two classes have one name, and labels are to be matched by name.
    #[error(
        "{}: two classes are named {name:?}, and the training set lists its classes in another \
         order: labels cannot be matched by name; list the classes in the same order",
        printable(.path)
    )]
    SameName {
        /// The folder.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The file that gives the class of every image is not usable.
    #[error("{}: not a usable list of classes: {}", printable(.path), printable(.reason))]
    Annotations {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Files of CIFAR's are missing or not usable.
    #[error("{}: {}", printable(.path), printable(.reason))]
    Cifar {
        /// The file, or the folder that it is missing from.
        path: PathBuf,
        /// Why, and what would help.
        reason: String,
    },
    /// A label is out of range.
    #[error(
        "{}: image {index} has label {label}: expected 0 to {highest}",
        printable(.path)
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// Which image.
        index: usize,
        /// Its label.
        label: usize,
        /// Largest label allowed.
        highest: usize,
    },
    /// A data set gives an image a label that none of its classes has.
    #[error(
        "{}: label {label}, but the data set has {classes} classes, numbered from 0",
        printable(.image)
    )]
    UnknownLabel {
        /// The image.
        image: String,
        /// Its label.
        label: usize,
        /// Classes of the data set.
        classes: usize,
    },
    /// A number that a loader or its pipeline is given is out of its range.
    #[error("{field} = {value}: expected {accepted}")]
    Setting {
        /// What the number is for.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would work.
        accepted: String,
    },
    /// The steps that prepare images do not make squares of one size.
    #[error(
        "the steps that prepare images leave their size open, and a batch needs images of one \
         size; end them with random-resized-crop, center-crop or padded-crop"
    )]
    NoOutputSize,
    /// More images are unusable than are accepted.
    #[error(
        "{broken} of {total} images are unusable, more than the {accepted} that \
         data.max_broken = {max_broken} accepts: {}; `quant data check` names them all: repair or \
         remove them, or set data.max_broken higher",
        first_of(.first, *.broken)
    )]
    TooManyBroken {
        /// Unusable images so far.
        broken: usize,
        /// Images of the data set; of several processes, those that each of them reads.
        total: usize,
        /// How many of them may be unusable.
        accepted: usize,
        /// The share of them that may be unusable.
        max_broken: f64,
        /// The first ones, and why.
        first: Vec<String>,
    },
    /// An epoch has no usable image at all.
    #[error(
        "none of the {images} images is usable: {}; repair or replace them",
        first_of(.first, *.images)
    )]
    NoneUsable {
        /// Images of the epoch.
        images: usize,
        /// The first ones, and why.
        first: Vec<String>,
    },
    /// A data set is too small for the loader's configuration.
    #[error("{images} images do not fill one batch of {batch_size}; lower the batch size")]
    TooSmall {
        /// Images of the data set.
        images: usize,
        /// Batch size.
        batch_size: usize,
    },
}

impl DataError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| DataError::Io { path, source }
    }
}

/// The first of so many unusable images.
fn first_of(first: &[String], count: usize) -> String {
    first.join(", ") + if count > first.len() { ", ..." } else { "" }
}

/// The classes that a misspelt one might stand for.
fn hint(missing: &[String]) -> String {
    match missing {
        [] => String::new(),
        missing => format!(" (its classes {missing:?} have no images here)"),
    }
}
