//! Files that are read only where they are regular ones of a bounded length, and that appear
//! complete or not at all.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::Read,
    path::Path,
};

use tempfile::NamedTempFile;

use crate::error::DataError;

/// Bytes of an image file, or of another file that is read as a whole, at most: a picture of the
/// most pixels that are decoded, with six bytes each and no compression.
pub(crate) const MOST_BYTES: u64 = 1 << 30;

/// Bytes of a list of names at most.
pub(crate) const MOST_TEXT_BYTES: u64 = 64 << 20;

/// Opens a regular file, or a link to one, and tells its length. Others are refused without
/// waiting: a named pipe has its bytes from a writer who may never come, and a device may have no
/// end.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::NotAFile`].
pub(crate) fn open(path: &Path) -> Result<(File, u64), DataError> {
    // Before it is opened: to open a device may already do something.
    check_kind(path, fs::metadata(path).map_err(DataError::io(path))?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        // For a pipe that has taken the file's place meanwhile.
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path).map_err(DataError::io(path))?;
    let metadata = file.metadata().map_err(DataError::io(path))?;
    check_kind(path, metadata.file_type())?;
    Ok((file, metadata.len()))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// Those of [`open`]; [`DataError::TooLong`].
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let (file, length) = open(path)?;
    if length > most {
        return Err(DataError::TooLong { path: path.to_owned(), bytes: length, most });
    }
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(length as usize).map_err(std::io::Error::other);
    // No more than it had when it was opened, if it grows.
    let read = reserved.and_then(|()| file.take(length).read_to_end(&mut bytes));
    read.map_err(DataError::io(path))?;
    Ok(bytes)
}

/// Reads a regular file of text.
///
/// # Errors
/// Those of [`read`]; [`DataError::Io`] for bytes that are not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let text = String::from_utf8(read(path, MOST_TEXT_BYTES)?);
    text.map_err(|error| DataError::io(path)(std::io::Error::other(error.utf8_error())))
}

fn check_kind(path: &Path, kind: FileType) -> Result<(), DataError> {
    match kind.is_file() {
        true => Ok(()),
        false => Err(DataError::NotAFile { path: path.to_owned(), kind: name(kind) }),
    }
}

/// What a file is that is no regular one.
fn name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "a special file" }
}

/// Flushes a temporary file to disk and moves it to `path`, with the permissions of ordinary files.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), DataError> {
    file.as_file().sync_all().map_err(DataError::io(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(DataError::io(path))?;
    }
    file.persist(path).map_err(|error| DataError::io(path)(error.error))?;
    Ok(())
}
