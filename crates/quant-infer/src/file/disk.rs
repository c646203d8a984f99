//! Files on disk.

use std::{
    ffi::OsString,
    format, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, model::Model};

impl Model {
    /// Writes the file of this model, see [`Model::to_bytes`]. It is written beside the path,
    /// synchronised with the disk and renamed, so that no reader sees a part of it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let beside = beside(path);
        let written = write(&beside, &self.to_bytes()).and_then(|()| fs::rename(&beside, path));
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
        let bytes = fs::read(path)
            .map_err(|error| Error::File(format!("{} cannot be read: {error}", path.display())))?;
        Self::from_bytes(&bytes).map_err(|error| match error {
            Error::File(problem) => Error::File(format!("{} {problem}", path.display())),
            other => other,
        })
    }
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
