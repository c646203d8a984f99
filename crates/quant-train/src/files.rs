//! Files that appear complete or not at all.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use crate::error::TrainError;

/// Writes beside `path`, flushes to disk, and renames.
///
/// # Errors
/// [`TrainError::Io`]; what was at `path` before is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
    let mut file = builder(0o666).tempfile_in(folder).map_err(TrainError::io(path))?;
    file.as_file_mut().write_all(bytes).map_err(TrainError::io(path))?;
    file.as_file().sync_all().map_err(TrainError::io(path))?;
    file.persist(path).map_err(|error| TrainError::io(path)(error.error))?;
    Ok(())
}

/// Writes the files named beside each other into a new folder that appears at `path` at once.
///
/// # Errors
/// [`TrainError::Io`]; nothing is left behind.
pub fn write_folder(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), TrainError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(TrainError::io(parent))?;
    let partial = builder(0o777).tempdir_in(parent).map_err(TrainError::io(parent))?;
    for (name, bytes) in files {
        // The folder is not there yet, but its name is what says something.
        let shown = path.join(name);
        let mut file = File::create(partial.path().join(name)).map_err(TrainError::io(&shown))?;
        file.write_all(bytes).map_err(TrainError::io(&shown))?;
        file.sync_all().map_err(TrainError::io(&shown))?;
    }
    if path.exists() {
        fs::remove_dir_all(path).map_err(TrainError::io(path))?;
    }
    fs::rename(partial.path(), path).map_err(TrainError::io(path))?;
    let _moved_away = partial.keep();
    Ok(())
}

/// Temporary names, with the permissions that ordinary files and folders get (less the umask).
fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}
