//! The lists of images in folders and their subfolders, and the file that remembers the lists.

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

/// A folder and all folders below it, by their path relative to it, with slashes. The path of the
/// folder itself is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree(BTreeMap<Name, Folder>);

/// The images and subfolders that are directly in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Folder {
    /// When the folder last changed; `None` if the date is too recent to trust: another change may
    /// still get the same date.
    changed: Option<SystemTime>,
    images: Vec<Name>,
    folders: Vec<Name>,
}

/// The age from which the date of a folder is reliable. File systems may update dates only every
/// two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Returns the names of the folders directly below `root`, in order.
pub(super) fn class_folders(root: &Path) -> Result<Vec<Name>, DataError> {
    let mut names = entries(root)?;
    names.retain(|name| root.join(&name.0).is_dir());
    Ok(names)
}

/// Lists the folders `names` below `root`, several at the same time, with what is already known
/// about them.
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

    /// Returns the paths of all images relative to the top folder, with slashes. Folders are in
    /// order of their paths, and images in order of their names within each, as in torchvision's
    /// `make_dataset`.
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
            // A broken link with the extension of an image counts as an image: reading it gives the
            // error.
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

/// Returns whether a link in `folder` leads to a folder that contains it. Following such a link
/// would never end.
fn leads_back(root: &Path, folder: &Path, link: &Path) -> bool {
    let Ok(target) = fs::canonicalize(link) else {
        return true;
    };
    let mut above = folder.ancestors().take_while(|above| above.starts_with(root));
    above.any(|above| fs::canonicalize(above).is_ok_and(|above| above == target))
}

/// Returns the names in a folder, in order, without hidden ones.
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

/// The largest length in bytes of a remembered list; longer ones are ignored. ImageNet's has 40 MB.
const MOST_REMEMBERED: u64 = 4 << 30;

/// The content of the file that remembers the lists of a root.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    root: Name,
    folders: Listing,
}

/// Returns the lists of `root` that the file at `path` remembers. The result is empty if the file
/// is damaged or for another root.
pub(super) fn recall(path: &Path, root: &Path) -> Listing {
    let remembered = files::read(path, MOST_REMEMBERED)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let remembered =
        remembered.filter(|remembered: &Remembered| Path::new(&remembered.root) == root);
    remembered.map(|remembered| remembered.folders).unwrap_or_default()
}

/// Writes the file that [`recall`] reads.
pub(super) fn remember(path: &Path, root: PathBuf, folders: Listing) -> Result<(), DataError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(path))?;
    let root = Name(root.into_os_string());
    let bytes = serde_json::to_vec(&Remembered { root, folders }).unwrap_or_default();
    file.write_all(&bytes).map_err(DataError::io(path))?;
    crate::files::persist(file, path)
}
