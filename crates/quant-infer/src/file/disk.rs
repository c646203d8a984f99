//! Files on disk.

use std::{
    ffi::OsString,
    format, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    vec::Vec,
};

use crate::{Error, model::Model};

impl Model {
    /// Writes the file of this model, see [`Model::to_bytes`]. It is written beside the path,
    /// synchronised with the disk and renamed, so that no reader sees a part of it. Then the folder
    /// is synchronised, so that the file persists if the machine stops.
    ///
    /// # Errors
    /// If the file cannot be written, or if there is something else than a file at the path, such
    /// as a device, which the renaming would replace.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let beside = beside(path);
        let written = check_replaceable(path)
            .and_then(|()| write(&beside, &self.to_bytes()))
            .and_then(|()| fs::rename(&beside, path))
            .and_then(|()| sync_folder(folder_of(path)));
        written.map_err(|error| {
            // What is left of it is of no use; the first error is the one to tell.
            let _ = fs::remove_file(&beside);
            Error::File(format!("{} cannot be written: {error}", path.display()))
        })
    }

    /// Reads a file, see [`Model::from_bytes`].
    ///
    /// # Errors
    /// If the file cannot be read, or see [`Model::from_bytes`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = read(path)
            .map_err(|error| Error::File(format!("{} cannot be read: {error}", path.display())))?;
        Self::from_bytes(&bytes).map_err(|error| match error {
            Error::File(problem) => Error::File(format!("{} {problem}", path.display())),
            other => other,
        })
    }
}

/// Reads a regular file, or a link to one. The bytes of a pipe or a device may never come or never
/// end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    check_file(&fs::metadata(path)?)?;
    fs::read(path)
}

/// Checks that there is a file at a path, or nothing.
fn check_replaceable(path: &Path) -> io::Result<()> {
    fs::metadata(path).map_or(Ok(()), |found| check_file(&found))
}

fn check_file(found: &fs::Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file, but a folder, pipe or device"))
}

/// A name in the same folder that nobody else writes to, neither another process nor thread.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{count}.partial", process::id()));
    path.with_file_name(name)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Flushes a folder to disk, so that renames in it persist if the machine stops. File systems that
/// cannot flush folders are not an error.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Err(error) = fs::File::open(folder)?.sync_all()
        && !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
    {
        return Err(error);
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_folder_in_its_path_is_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("net.qnet")), Path::new("."));
        assert_eq!(folder_of(Path::new("nets/net.qnet")), Path::new("nets"));
        assert_eq!(folder_of(Path::new("/net.qnet")), Path::new("/"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused() {
        for path in ["/dev/zero", "/"] {
            let error = format!("{}", Model::load(path).unwrap_err());
            assert!(error.contains(path) && error.contains("it is no file"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_exists_is_synchronised_and_a_missing_one_is_an_error() {
        assert!(sync_folder(folder_of(Path::new("net.qnet"))).is_ok());
        let missing = std::env::temp_dir().join("quant-infer-no-such-folder");
        assert_eq!(sync_folder(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
