//! Data sets: images with labels, read one at a time from any thread.

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

/// Labelled images.
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
    /// How many images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes; a label is an index into them.
    fn classes(&self) -> &[String];

    /// Label of image `index`.
    fn label(&self, index: usize) -> usize;

    /// What image `index` is called in messages: where it is stored, if that is known.
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    /// Image `index`.
    ///
    /// # Errors
    /// Where it cannot be read or decoded.
    fn image(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Ranges of images that are stored together, if reading them in order is faster: random orders
    /// then shuffle the blocks, and the images within several neighbouring ones.
    fn blocks(&self) -> &[Range<usize>] {
        &[]
    }

    /// What tells the data set from another, wherever it lies: by default its classes and its
    /// labels. It reads no image, and is quick for millions of them.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self, |hash| hash.labels(self))
    }
}

impl Fingerprint {
    /// Of a data set, whose images `list` hashes.
    pub(crate) fn new(dataset: &(impl Dataset + ?Sized), list: impl FnOnce(&mut Hash)) -> Self {
        let mut hash = Hash::default();
        list(&mut hash);
        Self { classes: dataset.classes().to_vec(), images: dataset.len(), hash: hash.finish() }
    }
}

impl Hash {
    /// The labels of all images of a data set.
    pub(crate) fn labels(&mut self, dataset: &(impl Dataset + ?Sized)) {
        (0..dataset.len()).for_each(|index| self.number(dataset.label(index) as u64));
    }
}

/// For every class of the part of a data set at `path` its number among the classes of the
/// training set, by name. The part may lack classes: a validation set need not show all of them.
///
/// # Errors
/// [`DataError::Classes`] for classes that the training set does not have,
/// [`DataError::SameName`] where two classes of one name are in a different order.
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
