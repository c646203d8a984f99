//! Files that appear complete or not at all.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::DataError;

/// Flushes a temporary file to disk and moves it to `path`, with the permissions of ordinary files.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), DataError> {
    file.as_file().sync_all().map_err(DataError::io(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(DataError::io(path))?;
    }
    file.persist(path).map_err(|error| DataError::io(path)(error.error))?;
    Ok(())
}
