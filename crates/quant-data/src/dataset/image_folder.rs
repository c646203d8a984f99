//! Images in folders, one per class: ImageNet's layout, and Tiny ImageNet's.

mod annotations;
mod listing;
mod name;

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use self::{listing::Listing, name::Name};
use super::{Dataset, Fingerprint, numbers_by_name};
use crate::{
    error::DataError,
    image::{RgbImage, Truncated},
    names,
};

/// `<root>/<class>/<image>.jpg`, or another of [`EXTENSIONS`](crate::image::EXTENSIONS). Classes are
/// in order of their names; what lies beside the class folders, and what is hidden, is passed over.
///
/// Images may lie in folders below that of their class, to any depth, and links are followed. The
/// images of a class are in order of their folders' paths, then of their names: the order of
/// torchvision's `ImageFolder`.
///
/// A root with a file `val_annotations.txt` and a single folder, `images`, is the validation part
/// of Tiny ImageNet: each line of the file holds, separated by tabs, the name of an image, the name
/// of its class, and numbers that are not used. The classes are then those that the file names.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    /// Folders that hold the images, from the root.
    folders: Vec<Name>,
    images: Vec<ImageFile>,
    truncated: Truncated,
    /// What tells the images from others of the same names.
    origin: String,
}

/// An image.
#[derive(Debug, Clone)]
struct ImageFile {
    /// Which of the folders it lies in.
    folder: u32,
    label: u32,
    /// Path from the folder, with slashes.
    name: Name,
}

impl ImageFolder {
    /// Lists the folder, several classes at a time.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::NoClasses`], [`DataError::EmptyClass`],
    /// [`DataError::Annotations`].
    pub fn open(root: &Path) -> Result<Self, DataError> {
        Self::list(root, &Listing::new()).map(|(folder, _)| folder)
    }

    /// The same with a list in `cache`, a folder: folders that have not changed since the list was
    /// written are not read again. The list is written anew where it was out of date; that it cannot
    /// be is no error.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_cached(root: &Path, cache: &Path) -> Result<Self, DataError> {
        let root = fs::canonicalize(root).map_err(DataError::io(root))?;
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        let path = cache.join(format!("images-{:016x}.json", hasher.finish()));
        let known = listing::recall(&path, &root);
        let (folder, listing) = Self::list(&root, &known)?;
        if listing != known {
            // Only a faster start is at stake.
            let _ = listing::remember(&path, root, listing);
        }
        Ok(folder)
    }

    /// Lists the folder, given what is known of it; and what is to be remembered.
    fn list(root: &Path, known: &Listing) -> Result<(Self, Listing), DataError> {
        let folders = listing::class_folders(root)?;
        if folders.is_empty() {
            return Err(DataError::NoClasses { path: root.to_owned() });
        }
        let listing = listing::list(root, &folders, known)?;
        let annotations = root.join(annotations::FILE);
        let single = folders.iter().map(Name::as_ref).eq([annotations::FOLDER]);
        let folder = match single && annotations.is_file() {
            true => Self::annotated(root, folders, &listing, &annotations)?,
            false => Self::by_folder(root, folders, &listing)?,
        };
        Ok((folder, listing))
    }

    /// The folders' names are the classes.
    fn by_folder(root: &Path, folders: Vec<Name>, listing: &Listing) -> Result<Self, DataError> {
        let mut images = Vec::new();
        // In order of the names, as `folders`.
        for (label, (name, tree)) in (0..).zip(listing) {
            let before = images.len();
            images.extend(tree.images().map(|name| ImageFile { folder: label, label, name }));
            if images.len() == before {
                return Err(DataError::EmptyClass { path: root.join(&name.0) });
            }
        }
        let classes = folders.iter().map(|name| names::text(&name.0)).collect();
        Ok(Self::new(root, folders, classes, images))
    }

    /// A file says which class each image shows.
    fn annotated(
        root: &Path,
        folders: Vec<Name>,
        listing: &Listing,
        annotations: &Path,
    ) -> Result<Self, DataError> {
        let names: Vec<Name> = listing.values().flat_map(listing::Tree::images).collect();
        if names.is_empty() {
            return Err(DataError::EmptyClass { path: root.join(annotations::FOLDER) });
        }
        let texts: Vec<String> = names.iter().map(|name| names::text(&name.0)).collect();
        let shown = annotations::read(annotations, &texts)?;
        let mut classes = shown.clone();
        classes.sort_unstable();
        classes.dedup();
        let images = names.into_iter().zip(&shown).map(|(name, class)| {
            let label = classes.partition_point(|other| other < class) as u32;
            ImageFile { folder: 0, label, name }
        });
        let images = images.collect();
        Ok(Self::new(root, folders, classes, images))
    }

    fn new(root: &Path, folders: Vec<Name>, classes: Vec<String>, images: Vec<ImageFile>) -> Self {
        let (root, truncated) = (root.to_owned(), Truncated::default());
        Self { root, folders, classes, images, truncated, origin: String::new() }
    }

    /// Lists the folder, whose classes must be among those of `training`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`DataError::Classes`].
    pub fn open_like(root: &Path, training: &ImageFolder) -> Result<Self, DataError> {
        Self::open(root)?.like(training)
    }

    /// The folder with the classes of `training`, and labels by the classes' names. It may lack
    /// images of some classes.
    ///
    /// # Errors
    /// [`DataError::Classes`] for classes that `training` does not have.
    pub fn like(mut self, training: &ImageFolder) -> Result<Self, DataError> {
        let labels = numbers_by_name(&self.root, &self.classes, &training.classes)?;
        for image in &mut self.images {
            image.label = labels[image.label as usize];
        }
        self.classes.clone_from(&training.classes);
        Ok(self)
    }

    /// The same, with what becomes of image files that are cut short.
    #[must_use]
    pub fn with_truncated(mut self, truncated: Truncated) -> Self {
        self.truncated = truncated;
        self
    }

    /// The same images, of which `origin` says where they come from: it becomes part of the
    /// [fingerprint](Dataset::fingerprint), and tells them from others whose files are named alike.
    #[must_use]
    pub fn with_origin(mut self, origin: String) -> Self {
        self.origin = origin;
        self
    }

    /// Paths and classes of all images.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        (0..self.images.len()).map(|index| (self.path(index), self.label(index))).collect()
    }

    /// Path of image `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        let image = &self.images[index];
        self.root.join(&self.folders[image.folder as usize].0).join(&image.name.0)
    }
}

impl Dataset for ImageFolder {
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
        names::printable(self.path(index))
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        RgbImage::read(&self.path(index), self.truncated)
    }

    /// Of the images' paths below the root, and their labels. The lengths and dates of the files
    /// are no part of it: to ask for those of a million files would take minutes.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self, |hash| {
            hash.text(self.origin.as_bytes());
            for image in &self.images {
                hash.text(self.folders[image.folder as usize].0.as_encoded_bytes());
                hash.text(image.name.0.as_encoded_bytes());
                hash.number(image.label.into());
            }
        })
    }
}
