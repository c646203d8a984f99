//! Images in one folder per class: the layout of ImageNet, and that of Tiny ImageNet.

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
    names, parallel,
};

/// A data set in the layout `<root>/<class>/<image>.jpg`, or with another of the extensions in
/// [`EXTENSIONS`](crate::image::EXTENSIONS). Classes are in order of their names. Files beside the
/// class folders and hidden files are ignored.
///
/// Images may be in subfolders of a class folder, at any depth, and links are followed. The images
/// of a class are in order of their folders' paths, then of their names, as in torchvision's
/// `ImageFolder`.
///
/// A root with a file `val_annotations.txt` and `images` as its only folder is the validation part
/// of Tiny ImageNet. Each line of the file holds, separated by tabs, the name of an image, the name
/// of its class, and numbers that are not used. The classes are then those named in the file.
///
/// ```
/// use quant_data::{Dataset, ImageFolder, RgbImage};
///
/// let root = tempfile::tempdir()?;
/// for class in ["cat", "dog"] {
///     let folder = root.path().join(class);
///     std::fs::create_dir(&folder)?;
///     std::fs::write(folder.join("first.jpg"), RgbImage::new(8, 6).to_jpeg(90)?)?;
/// }
/// let images = ImageFolder::open(root.path())?;
/// assert_eq!((images.len(), images.classes()), (2, &["cat".to_owned(), "dog".to_owned()][..]));
/// assert_eq!((images.label(1), images.image(1)?.width), (1, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    /// Paths, relative to the root, of the folders that hold the images.
    folders: Vec<Name>,
    images: Vec<ImageFile>,
    truncated: Truncated,
    /// Where the images come from, which distinguishes them from others with the same names.
    origin: String,
}

/// The largest number of files whose sizes are part of a [fingerprint](Dataset::fingerprint).
pub const MOST_SIZES: usize = 100_000;

/// An image file.
#[derive(Debug, Clone)]
struct ImageFile {
    /// Index of the folder that the image is in.
    folder: u32,
    label: u32,
    /// Path relative to that folder, with slashes.
    name: Name,
}

impl ImageFolder {
    /// Lists the images of a folder, reading several classes at the same time.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::NoClasses`], [`DataError::EmptyClass`],
    /// [`DataError::Annotations`].
    pub fn open(root: &Path) -> Result<Self, DataError> {
        Self::list(root, &Listing::new()).map(|(folder, _)| folder)
    }

    /// Lists the images like [`open`](Self::open), and keeps the list in the folder `cache`.
    /// Folders that have not changed since the list was written are not read again. An outdated
    /// list is replaced; a failure to write the list is ignored.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_cached(root: &Path, cache: &Path) -> Result<Self, DataError> {
        let root = fs::canonicalize(root).map_err(DataError::io(root))?;
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        let path = cache.join(format!("images-{:016x}.json", hasher.finish()));
        let known = listing::recall(&path, &root);
        let (folder, listing) = Self::list(&root, &known)?;
        if listing != known {
            // A failure only costs time at the next start.
            let _ = listing::remember(&path, root, listing);
        }
        Ok(folder)
    }

    /// Lists the images of a folder, with what is already known about it. Also returns the list to
    /// be remembered.
    fn list(root: &Path, known: &Listing) -> Result<(Self, Listing), DataError> {
        let folders = listing::class_folders(root)?;
        if folders.is_empty() {
            return Err(DataError::NoClasses { path: root.to_owned() });
        }
        let listing = listing::list(root, &folders, known)?;
        let annotations = root.join(annotations::FILE);
        let single = folders.iter().map(Name::as_ref).eq([annotations::FOLDER]);
        let folder = if single && annotations.is_file() {
            Self::annotated(root, folders, &listing, &annotations)?
        } else {
            Self::by_folder(root, folders, &listing)?
        };
        Ok((folder, listing))
    }

    /// Creates the data set with the folders' names as classes.
    fn by_folder(root: &Path, folders: Vec<Name>, listing: &Listing) -> Result<Self, DataError> {
        let (mut images, mut empty) = (Vec::new(), Vec::new());
        // The listing is in order of the names, as `folders` is.
        for (label, (name, tree)) in (0..).zip(listing) {
            let before = images.len();
            images.extend(tree.images().map(|name| ImageFile { folder: label, label, name }));
            if images.len() == before {
                empty.push(names::text(&name.0));
            }
        }
        if !empty.is_empty() {
            return Err(DataError::EmptyClass { path: root.to_owned(), classes: empty });
        }
        let classes = folders.iter().map(|name| names::text(&name.0)).collect();
        Ok(Self::new(root, folders, classes, images))
    }

    /// Creates the data set with the classes that the annotations file gives to the images.
    fn annotated(
        root: &Path,
        folders: Vec<Name>,
        listing: &Listing,
        annotations: &Path,
    ) -> Result<Self, DataError> {
        let names: Vec<Name> = listing.values().flat_map(listing::Tree::images).collect();
        if names.is_empty() {
            let classes = vec![annotations::FOLDER.to_owned()];
            return Err(DataError::EmptyClass { path: root.to_owned(), classes });
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

    /// Lists the images of a folder whose classes must be among those of `training`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`DataError::Classes`].
    pub fn open_like(root: &Path, training: &ImageFolder) -> Result<Self, DataError> {
        Self::open(root)?.like(training)
    }

    /// Returns this data set with the classes of `training`, and with labels matched by the
    /// classes' names. Some classes may have no images here.
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

    /// Sets what to do with image files that are cut short.
    #[must_use]
    pub fn with_truncated(mut self, truncated: Truncated) -> Self {
        self.truncated = truncated;
        self
    }

    /// Sets a text that says where the images come from. It becomes part of the
    /// [fingerprint](Dataset::fingerprint), and distinguishes the images from others whose files
    /// have the same names.
    #[must_use]
    pub fn with_origin(mut self, origin: String) -> Self {
        self.origin = origin;
        self
    }

    /// Returns the path and the label of every image.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        (0..self.images.len()).map(|index| (self.path(index), self.label(index))).collect()
    }

    /// Returns the sizes in bytes of the files that are part of the fingerprint. A file that cannot
    /// be found has the largest number as its size.
    fn sizes(&self) -> Vec<u64> {
        let (images, asked) = (self.images.len(), self.images.len().min(MOST_SIZES));
        let indices: Vec<usize> = (0..asked).map(|place| place * images / asked).collect();
        let size = |index: &usize| fs::metadata(self.path(*index)).map_or(u64::MAX, |it| it.len());
        let parts: Vec<&[usize]> = indices.chunks(1024).collect();
        parallel::map(&parts, |part| part.iter().map(size).collect::<Vec<_>>()).concat()
    }

    /// Returns the path of image `index`.
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

    /// Hashes the images' paths relative to the root, their labels, and the sizes of the files: of
    /// every file up to [`MOST_SIZES`] images, and of that many, evenly spread, in larger sets.
    /// Asking for the sizes of more than a million files would take minutes on a network's storage.
    /// Dates are not part of the hash, because copies have other dates.
    fn fingerprint(&self) -> Fingerprint {
        let found = Fingerprint::new(self, |hash| {
            hash.text(self.origin.as_bytes());
            for image in &self.images {
                hash.text(self.folders[image.folder as usize].0.as_encoded_bytes());
                hash.text(image.name.0.as_encoded_bytes());
                hash.number(image.label.into());
            }
        });
        found.with_contents(|hash| self.sizes().into_iter().for_each(|size| hash.number(size)))
    }
}
