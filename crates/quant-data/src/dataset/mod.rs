//! Data sets: images with labels, which can be read one at a time from any thread.

pub mod cifar;
pub mod fake;
mod fingerprint;
pub mod idx;
pub mod image_folder;
pub mod shapes;
pub mod shards;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use crate::{error::DataError, image::RgbImage};
pub use fingerprint::Fingerprint;
use fingerprint::Hash;

/// A set of labelled images.
///
/// Implement it for data in a format of your own. Only the four methods of this example are
/// required:
///
/// ```
/// use quant_data::{DataError, Dataset, RgbImage};
///
/// /// Black images.
/// struct Black {
///     classes: Vec<String>,
/// }
///
/// impl Dataset for Black {
///     fn len(&self) -> usize {
///         100
///     }
///
///     fn classes(&self) -> &[String] {
///         &self.classes
///     }
///
///     fn label(&self, index: usize) -> usize {
///         index % self.classes.len()
///     }
///
///     fn image(&self, _index: usize) -> Result<RgbImage, DataError> {
///         Ok(RgbImage::new(32, 32))
///     }
/// }
///
/// let images = Black { classes: vec!["night".into(), "cellar".into()] };
/// assert_eq!(images.label(3), 1);
/// assert_eq!(images.image(3)?.pixels.len(), 32 * 32 * 3);
/// # Ok::<(), DataError>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Returns the number of images.
    fn len(&self) -> usize;

    /// Returns whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the names of the classes. A label is an index into this list.
    fn classes(&self) -> &[String];

    /// Returns the label of image `index`.
    fn label(&self, index: usize) -> usize;

    /// Returns the name of image `index` for messages: where it is stored, if that is known.
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    /// Reads image `index`.
    ///
    /// # Errors
    /// If the image cannot be read or decoded.
    fn image(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Returns ranges of images that are stored together, if reading them in order is faster.
    /// Training then shuffles the order of the blocks, and then the images among a few neighbouring
    /// blocks.
    fn blocks(&self) -> &[Range<usize>] {
        &[]
    }

    /// Returns what distinguishes this data set from others, wherever it is stored: by default its
    /// classes and its labels. No file of an image is read, so this is fast even for millions of
    /// images.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self, |hash| hash.labels(self))
    }
}

impl Fingerprint {
    /// Creates the fingerprint of a data set; `list` hashes its list of images.
    pub(crate) fn new(dataset: &(impl Dataset + ?Sized), list: impl FnOnce(&mut Hash)) -> Self {
        let mut hash = Hash::default();
        list(&mut hash);
        let (classes, images) = (dataset.classes().to_vec(), dataset.len());
        Self { classes, images, hash: hash.finish(), contents: None }
    }

    /// Adds a hash of the contents of the images.
    pub(crate) fn with_contents(self, contents: impl FnOnce(&mut Hash)) -> Self {
        let mut hash = Hash::default();
        contents(&mut hash);
        Self { contents: Some(hash.finish()), ..self }
    }
}

impl Hash {
    /// Adds the labels of all images of a data set.
    pub(crate) fn labels(&mut self, dataset: &(impl Dataset + ?Sized)) {
        (0..dataset.len()).for_each(|index| self.number(dataset.label(index) as u64));
    }
}

/// Returns, for every class of a part of a data set, the number of the class with the same name in
/// the training set. `path` is the part's path for errors. The part may lack classes, because a
/// validation set need not have images of all of them.
///
/// # Errors
/// [`DataError::Classes`] for classes that the training set does not have; [`DataError::SameName`]
/// if two classes have the same name and the order of the classes differs.
fn numbers_by_name(
    path: &Path,
    own: &[String],
    training: &[String],
) -> Result<Vec<u32>, DataError> {
    if training.starts_with(own) {
        return Ok((0..own.len() as u32).collect());
    }
    let known: BTreeMap<&String, u32> = training.iter().zip(0..).collect();
    let given: BTreeSet<&String> = own.iter().collect();
    let unknown = own.iter().filter(|name| !known.contains_key(name)).take(5).cloned();
    let unknown: Vec<String> = unknown.collect();
    if !unknown.is_empty() {
        let missing = training.iter().filter(|name| !given.contains(name)).take(5).cloned();
        let missing = missing.collect();
        return Err(DataError::Classes { path: path.to_owned(), missing, unknown });
    }
    let repeated = |names: &[String]| {
        let mut seen = BTreeSet::new();
        names.iter().find(|name| !seen.insert(*name)).cloned()
    };
    if let Some(name) = repeated(own).or_else(|| repeated(training)) {
        return Err(DataError::SameName { path: path.to_owned(), name });
    }
    Ok(own.iter().map(|name| known[name]).collect())
}
