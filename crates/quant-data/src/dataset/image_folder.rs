//! Images in folders, one per class: ImageNet's layout.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Dataset;
use crate::{error::DataError, image::RgbImage};

/// `<root>/<class>/<image>.jpg` (or `.jpeg`, `.png`). Classes and images are in order of their
/// names.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    /// File name and class of every image.
    images: Vec<(String, u32)>,
}

impl ImageFolder {
    /// Lists the folder.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::NoClasses`], [`DataError::EmptyClass`].
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let mut classes = Vec::new();
        for entry in sorted_entries(root)? {
            if root.join(&entry).is_dir() {
                classes.push(entry);
            }
        }
        if classes.is_empty() {
            return Err(DataError::NoClasses { path: root.to_owned() });
        }
        let mut images = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let before = images.len();
            let names = sorted_entries(&root.join(class))?;
            let names = names.into_iter().filter(|name| is_image(name));
            images.extend(names.map(|name| (name, label as u32)));
            if images.len() == before {
                return Err(DataError::EmptyClass { path: root.join(class) });
            }
        }
        Ok(Self { root: root.to_owned(), classes, images })
    }

    /// Lists the folder, whose classes must be those of `training`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`DataError::Classes`].
    pub fn open_like(root: &Path, training: &ImageFolder) -> Result<Self, DataError> {
        let folder = Self::open(root)?;
        let without = |a: &[String], b: &[String]| {
            a.iter().filter(|class| !b.contains(class)).take(5).cloned().collect::<Vec<_>>()
        };
        let missing = without(&training.classes, &folder.classes);
        let unknown = without(&folder.classes, &training.classes);
        match missing.is_empty() && unknown.is_empty() {
            true => Ok(folder),
            false => Err(DataError::Classes { path: root.to_owned(), missing, unknown }),
        }
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
        RgbImage::read(&self.path(index))
    }
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

fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}
