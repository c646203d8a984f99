//! Images in folders, one per class: ImageNet's layout.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::{
    error::DataError,
    image::{RgbImage, Truncated},
};

/// `<root>/<class>/<image>.jpg`, or another of [`EXTENSIONS`](crate::image::EXTENSIONS). Classes and images are in order of their
/// names.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    /// File name and class of every image.
    images: Vec<(String, u32)>,
    truncated: Truncated,
}

impl ImageFolder {
    /// Lists the folder, several classes at a time.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::NoClasses`], [`DataError::EmptyClass`].
    pub fn open(root: &Path) -> Result<Self, DataError> {
        Self::list(root, BTreeMap::new()).map(|(folder, _)| folder)
    }

    /// The same with a list in `cache`, a folder: class folders that have not changed since the list was
    /// written are not read again. The list is written anew where it was out of date; that it cannot be is
    /// no error.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_cached(root: &Path, cache: &Path) -> Result<Self, DataError> {
        let root = fs::canonicalize(root).map_err(DataError::io(root))?;
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        let path = cache.join(format!("images-{:016x}.json", hasher.finish()));
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let known = known.filter(|list: &List| list.root == root);
        let classes = known.map(|list| list.classes).unwrap_or_default();
        let (folder, classes) = Self::list(&root, classes)?;
        if let Some(classes) = classes {
            // Only a faster start is at stake.
            let _ = write_list(&path, &List { root, classes });
        }
        Ok(folder)
    }

    /// Lists the folder, given what is known; and what is to be remembered, where that is new.
    fn list(
        root: &Path,
        known: BTreeMap<String, Class>,
    ) -> Result<(Self, Option<BTreeMap<String, Class>>), DataError> {
        let mut classes = Vec::new();
        for entry in sorted_entries(root)? {
            if root.join(&entry).is_dir() {
                classes.push(entry);
            }
        }
        if classes.is_empty() {
            return Err(DataError::NoClasses { path: root.to_owned() });
        }
        let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(classes.len()) {
                scope.spawn(|| {
                    while let Some(class) = classes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let listed = Class::list(&root.join(class), known.get(class));
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.insert(class.clone(), listed);
                    }
                });
            }
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut images, mut listed) = (Vec::new(), BTreeMap::new());
        // In order of the names, as `classes`.
        for (label, (name, class)) in found.into_iter().enumerate() {
            let class = class?;
            if class.images.is_empty() {
                return Err(DataError::EmptyClass { path: root.join(name) });
            }
            images.extend(class.images.iter().map(|image| (image.clone(), label as u32)));
            listed.insert(name, class);
        }
        let changed = (listed != known).then_some(listed);
        let root = root.to_owned();
        Ok((Self { root, classes, images, truncated: Truncated::default() }, changed))
    }

    /// Lists the folder, whose classes must be those of `training`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`DataError::Classes`].
    pub fn open_like(root: &Path, training: &ImageFolder) -> Result<Self, DataError> {
        Self::open(root)?.like(training)
    }

    /// The folder itself, if its classes are those of `training`.
    ///
    /// # Errors
    /// [`DataError::Classes`].
    pub fn like(self, training: &ImageFolder) -> Result<Self, DataError> {
        let (folder, root) = (&self, &self.root);
        let without = |a: &[String], b: &[String]| {
            a.iter().filter(|class| !b.contains(class)).take(5).cloned().collect::<Vec<_>>()
        };
        let missing = without(&training.classes, &folder.classes);
        let unknown = without(&folder.classes, &training.classes);
        match missing.is_empty() && unknown.is_empty() {
            false => Err(DataError::Classes { path: root.clone(), missing, unknown }),
            true => Ok(self),
        }
    }

    /// The same, with what becomes of image files that are cut short.
    #[must_use]
    pub fn with_truncated(mut self, truncated: Truncated) -> Self {
        self.truncated = truncated;
        self
    }

    /// Paths and classes of all images.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        (0..self.images.len()).map(|index| (self.path(index), self.label(index))).collect()
    }

    /// Path of image `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        let (name, label) = &self.images[index];
        self.root.join(&self.classes[*label as usize]).join(name)
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
        self.images[index].1 as usize
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        RgbImage::read(&self.path(index), self.truncated)
    }
}

/// What is remembered of a folder.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    root: PathBuf,
    classes: BTreeMap<String, Class>,
}

/// The images of a class, and when its folder had last changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Class {
    /// None where it had changed so lately that another change might not show.
    changed: Option<SystemTime>,
    images: Vec<String>,
}

impl Class {
    fn list(folder: &Path, known: Option<&Class>) -> Result<Self, DataError> {
        let changed = fs::metadata(folder).and_then(|metadata| metadata.modified());
        let changed = changed.map_err(DataError::io(folder))?;
        if let Some(known) = known
            && known.changed == Some(changed)
        {
            return Ok(known.clone());
        }
        let images = sorted_entries(folder)?.into_iter().filter(|name| is_image(name)).collect();
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        Ok(Self { changed: (age > SETTLED).then_some(changed), images })
    }
}

/// Clocks of file systems tick up to every two seconds.
const SETTLED: Duration = Duration::from_secs(3);

fn write_list(path: &Path, list: &List) -> Result<(), DataError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(path))?;
    let bytes = serde_json::to_vec(list).unwrap_or_default();
    file.write_all(&bytes).map_err(DataError::io(path))?;
    crate::files::persist(file, path)
}

/// Names in a folder, hidden ones left out, in order.
fn sorted_entries(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn is_image(name: &str) -> bool {
    crate::image::has_image_extension(name)
}
