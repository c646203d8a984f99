//! The images in folders and the folders below them, and what is remembered of them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::{error::DataError, files, parallel};

/// The folders directly below a root, by name.
pub(super) type Listing = BTreeMap<Name, Tree>;

/// A folder and all folders below it, by their path from it, with slashes; its own is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree(BTreeMap<Name, Folder>);

/// What lies directly in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Folder {
    /// When it last changed; none where that was so lately that another change might not show.
    changed: Option<SystemTime>,
    images: Vec<Name>,
    folders: Vec<Name>,
}

/// Clocks of file systems tick up to every two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Names of the folders directly below `root`, in order.
pub(super) fn class_folders(root: &Path) -> Result<Vec<Name>, DataError> {
    let mut names = entries(root)?;
    names.retain(|name| root.join(&name.0).is_dir());
    Ok(names)
}

/// Lists the folders `names` below `root`, several at a time, given what is known of them.
pub(super) fn list(root: &Path, names: &[Name], known: &Listing) -> Result<Listing, DataError> {
    parallel::map(names, |name| Ok((name.clone(), Tree::list(root, name, known.get(name))?)))
        .into_iter()
        .collect()
}

impl Tree {
    fn list(root: &Path, name: &Name, known: Option<&Tree>) -> Result<Self, DataError> {
        let top = root.join(&name.0);
        let mut tree = BTreeMap::new();
        let mut open = vec![Name::default()];
        while let Some(relative) = open.pop() {
            let path = if relative.is_empty() { top.clone() } else { top.join(&relative.0) };
            let known = known.and_then(|known| known.0.get(&relative));
            let folder = Folder::list(root, &path, known)?;
            open.extend(folder.folders.iter().map(|name| relative.join(name)));
            tree.insert(relative, folder);
        }
        Ok(Self(tree))
    }

    /// Paths of all images from the tree's top, with slashes: folder by folder in order of the
    /// folders' paths, and in order of the names within each, as torchvision's `make_dataset` has
    /// them.
    pub(super) fn images(&self) -> impl Iterator<Item = Name> {
        let of_folder = |(relative, folder): (&'_ Name, &'_ Folder)| -> Vec<Name> {
            folder.images.iter().map(|name| relative.join(name)).collect()
        };
        self.0.iter().flat_map(of_folder)
    }
}

impl Folder {
    fn list(root: &Path, path: &Path, known: Option<&Folder>) -> Result<Self, DataError> {
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
        let changed = changed.map_err(DataError::io(path))?;
        if let Some(known) = known
            && known.changed == Some(changed)
        {
            return Ok(known.clone());
        }
        let (mut images, mut folders) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(path).map_err(DataError::io(path))? {
            let entry = entry.map_err(DataError::io(path))?;
            let name = Name(entry.file_name());
            if name.is_hidden() {
                continue;
            }
            let kind = entry.file_type().map_err(DataError::io(entry.path()))?;
            // A link to nothing that is called an image is one: reading it says what is wrong.
            let leads_to_folder = || fs::metadata(entry.path()).is_ok_and(|target| target.is_dir());
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_symlink() && leads_to_folder() {
                if !leads_back(root, path, &entry.path()) {
                    folders.push(name);
                }
            } else if name.is_image() {
                images.push(name);
            }
        }
        images.sort_unstable();
        folders.sort_unstable();
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        Ok(Self { changed: (age > SETTLED).then_some(changed), images, folders })
    }
}

/// Whether a link in `folder` leads to a folder that it lies in, which would be walked for ever.
fn leads_back(root: &Path, folder: &Path, link: &Path) -> bool {
    let Ok(target) = fs::canonicalize(link) else {
        return true;
    };
    let mut above = folder.ancestors().take_while(|above| above.starts_with(root));
    above.any(|above| fs::canonicalize(above).is_ok_and(|above| above == target))
}

/// Names in a folder, hidden ones left out, in order.
fn entries(folder: &Path) -> Result<Vec<Name>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = Name(entry.file_name());
        if !name.is_hidden() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Longer lists are not believed: that of ImageNet has 40 MB.
const MOST_REMEMBERED: u64 = 4 << 30;

/// What is remembered of a root.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    root: Name,
    folders: Listing,
}

/// What the file at `path` remembers of `root`; nothing where it is damaged, or of another root.
pub(super) fn recall(path: &Path, root: &Path) -> Listing {
    let remembered = files::read(path, MOST_REMEMBERED)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let remembered =
        remembered.filter(|remembered: &Remembered| Path::new(&remembered.root) == root);
    remembered.map(|remembered| remembered.folders).unwrap_or_default()
}

/// Writes down what [`recall`] reads.
pub(super) fn remember(path: &Path, root: PathBuf, folders: Listing) -> Result<(), DataError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(path))?;
    let root = Name(root.into_os_string());
    let bytes = serde_json::to_vec(&Remembered { root, folders }).unwrap_or_default();
    file.write_all(&bytes).map_err(DataError::io(path))?;
    crate::files::persist(file, path)
}
