//! The errors of this crate.

use std::path::PathBuf;

use crate::{
    image::EXTENSIONS,
    names::{plural, printable},
};

/// An unusable data set, image or loader configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", printable(.path))]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A path leads to something that is not a regular file.
    #[error(
        "{}: {kind}, not a file: only regular files and links to them are read",
        printable(.path)
    )]
    NotAFile {
        /// The path of the file or folder.
        path: PathBuf,
        /// What is at the path, such as "a named pipe".
        kind: &'static str,
    },
    /// A file is longer than the limit for its kind.
    #[error("{}: {bytes} bytes, more than the limit of {most}", printable(.path))]
    TooLong {
        /// Path of the file, or of the archive and the place in it.
        path: PathBuf,
        /// Length of the file, in bytes.
        bytes: u64,
        /// The largest length that is read, in bytes.
        most: u64,
    },
    /// An image cannot be decoded.
    #[error("{}: not a usable image: {}", printable(.path), printable(.reason))]
    Image {
        /// Path of the file, or of the archive and the place in it.
        path: String,
        /// Why the image cannot be decoded.
        reason: String,
    },
    /// The folder of the data does not exist.
    #[error("{}: there is no such folder of data", printable(.path))]
    NoFolder {
        /// The path at which the folder should be.
        path: PathBuf,
    },
    /// A folder has no subfolder for its training or its validation data.
    #[error(
        "{}: no folder {missing} inside; expected the folders train and val",
        printable(.path)
    )]
    NoPart {
        /// Path of the folder.
        path: PathBuf,
        /// Name of the missing subfolder.
        missing: &'static str,
    },
    /// A folder that should hold one folder per class holds none.
    #[error(
        "{}: no class folders (expected <class>/<image>.jpg inside)",
        printable(.path)
    )]
    NoClasses {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A folder that should hold tar files holds none.
    #[error("{}: no .tar files inside", printable(.path))]
    NoShards {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A tar file of images, or its list of classes, is not usable.
    #[error("{}: not a usable shard: {}", printable(.path), printable(.reason))]
    Shard {
        /// Path of the file.
        path: PathBuf,
        /// Why it is not usable.
        reason: String,
    },
    /// A file in MNIST's format, IDX, is missing or not usable.
    #[error("{}: not usable as IDX data: {}", printable(.path), printable(.reason))]
    Idx {
        /// Path of the file, or of the folder that does not have it.
        path: PathBuf,
        /// Why it is not usable.
        reason: String,
    },
    /// A download failed.
    #[error("{url}: {reason}")]
    Download {
        /// Address of the file.
        url: String,
        /// Why the download failed, and how much of the file is kept.
        reason: String,
    },
    /// Class folders have no images.
    #[error(
        "{}: class {} without images (looked for the extensions {}): {}; remove what is no class, \
         or add images",
        printable(.path),
        if .classes.len() == 1 { "folder" } else { "folders" },
        EXTENSIONS.join(", "),
        listed(.classes)
    )]
    EmptyClass {
        /// Path of the folder with the class folders.
        path: PathBuf,
        /// Names of all class folders without images.
        classes: Vec<String>,
    },
    /// A part of a data set has classes that the training set does not have.
    #[error(
        "{}: the training set has no classes named {}{}; rename or remove them",
        printable(.path),
        listed(.unknown),
        hint(.missing)
    )]
    Classes {
        /// Path of the folder.
        path: PathBuf,
        /// Classes that only the training set has, at most five.
        missing: Vec<String>,
        /// Classes that only this folder has, at most five.
        unknown: Vec<String>,
    },
    /// Two classes have the same name, but labels have to be matched by name.
    #[error(
        "{}: two classes are named {name:?}, and the training set lists its classes in another \
         order: labels cannot be matched by name; list the classes in the same order",
        printable(.path)
    )]
    SameName {
        /// Path of the folder.
        path: PathBuf,
        /// Name of the two classes.
        name: String,
    },
    /// The file that lists the class of every image is not usable.
    #[error("{}: not a usable list of classes: {}", printable(.path), printable(.reason))]
    Annotations {
        /// Path of the file.
        path: PathBuf,
        /// Why it is not usable.
        reason: String,
    },
    /// CIFAR's files are missing or not usable.
    #[error("{}: {}", printable(.path), printable(.reason))]
    Cifar {
        /// Path of the file, or of the folder that does not have it.
        path: PathBuf,
        /// What is wrong, and what would help.
        reason: String,
    },
    /// A label is out of range.
    #[error(
        "{}: image {index} has label {label}: expected 0 to {highest}",
        printable(.path)
    )]
    Label {
        /// Path of the file.
        path: PathBuf,
        /// Index of the image, from 0.
        index: usize,
        /// Label of the image.
        label: usize,
        /// Largest label that is allowed.
        highest: usize,
    },
    /// A data set gives an image a label without a class.
    #[error(
        "{}: label {label}, but the data set has {}, numbered from 0",
        printable(.image),
        plural(*.classes, "class", "classes")
    )]
    UnknownLabel {
        /// Name of the image.
        image: String,
        /// Label of the image.
        label: usize,
        /// Number of classes of the data set.
        classes: usize,
    },
    /// A number in the configuration of a loader or its pipeline is out of range.
    #[error("{field} = {value}: expected {accepted}")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// Value of the setting.
        value: String,
        /// Values that are accepted.
        accepted: String,
    },
    /// The steps that prepare images do not produce squares of one size.
    #[error(
        "the steps that prepare images do not fix the size, but all images of a batch need the \
         same size; end the steps with random-resized-crop, center-crop or padded-crop"
    )]
    NoOutputSize,
    /// More images are unusable than the configuration accepts.
    #[error(
        "{broken} of {total} images are unusable, more than the {accepted} that \
         data.max_broken = {max_broken} accepts: {}; `quant data check` names them all: repair or \
         remove them, or set data.max_broken higher",
        first_of(.first, *.broken)
    )]
    TooManyBroken {
        /// Number of unusable images so far.
        broken: usize,
        /// Number of images that this process reads: all images of the data set, or its share of
        /// them where several processes share the epoch.
        total: usize,
        /// Number of images that may be unusable.
        accepted: usize,
        /// Share of the images that may be unusable, 0 to 1.
        max_broken: f64,
        /// The first unusable images, with the reasons.
        first: Vec<String>,
    },
    /// No thread could be started to load images.
    #[error(
        "no thread could be started to load images: {source}; the user or the system may have \
         reached its limit of threads or of memory"
    )]
    NoThread {
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// No image of an epoch is usable.
    #[error(
        "none of the {images} images is usable{}; repair or replace them",
        if .first.is_empty() { String::new() } else { format!(": {}", first_of(.first, *.images)) }
    )]
    NoneUsable {
        /// Number of images of the epoch.
        images: usize,
        /// The first unusable images, with the reasons, as far as this process knows them.
        first: Vec<String>,
    },
    /// The data set is too small for the loader's batch size.
    #[error(
        "{images} images do not fill one batch of {batch_size}{}",
        too_small(*.batch_size, *.processes)
    )]
    TooSmall {
        /// Number of images of the data set.
        images: usize,
        /// Number of images per batch.
        batch_size: usize,
        /// Number of processes or devices, each of which takes a batch at a time.
        processes: usize,
    },
}

/// Returns what can be done about batches that are not filled.
fn too_small(batch_size: usize, processes: usize) -> String {
    match processes {
        1 => "; lower the batch size".into(),
        processes => format!(
            " for each of {processes} devices or processes, which take {} images together; take \
             fewer devices, or lower the batch size",
            batch_size.saturating_mul(processes)
        ),
    }
}

impl DataError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| DataError::Io { path, source }
    }

    /// Returns whether a file could not be read because the process or the system lacks something,
    /// such as memory or open files. Then nothing is known about the file.
    pub(crate) fn is_of_system(&self) -> bool {
        use std::io::ErrorKind::{OutOfMemory, StaleNetworkFileHandle};
        let DataError::Io { source, .. } = self else { return false };
        // These numbers are the same on all Unix systems; their kinds have no stable names.
        const TOO_MANY_FILES: [i32; 2] = [23, 24]; // ENFILE, EMFILE
        let too_many = source.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code));
        cfg!(unix) && too_many || matches!(source.kind(), OutOfMemory | StaleNetworkFileHandle)
    }
}

/// Lists names, and how many there are beside the first twenty.
fn listed(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(20).map(printable).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Joins the first unusable images, with an ellipsis if there are more than these.
fn first_of(first: &[String], count: usize) -> String {
    first.join(", ") + if count > first.len() { ", ..." } else { "" }
}

/// Returns a hint with the classes that a misspelt name may be meant for.
fn hint(missing: &[String]) -> String {
    match missing {
        [] => String::new(),
        missing => format!(" (its classes {} have no images here)", listed(missing)),
    }
}
