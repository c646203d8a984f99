//! Reads files only if they are regular files of a bounded length, and writes files so that they
//! appear complete or not at all.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::Read,
    path::Path,
};

use tempfile::NamedTempFile;

use crate::error::DataError;

/// The largest length in bytes of an image file, or of another file that is read as a whole. It is
/// enough for a picture with the largest number of pixels at six bytes each without compression.
pub(crate) const MOST_BYTES: u64 = 1 << 30;

/// The largest length in bytes of a list of names.
pub(crate) const MOST_TEXT_BYTES: u64 = 64 << 20;

/// Opens a regular file, or a link to one, and returns it with its length in bytes. Other files are
/// refused without waiting: the bytes of a named pipe come from a writer that may never appear, and
/// a device may have no end.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::NotAFile`].
pub(crate) fn open(path: &Path) -> Result<(File, u64), DataError> {
    // The kind is checked before opening, because opening a device may already have an effect.
    check_kind(path, fs::metadata(path).map_err(DataError::io(path))?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        // The flag is for a pipe that has replaced the file after the check.
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
/// As [`open`]; [`DataError::TooLong`].
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let (file, length) = open(path)?;
    if length > most {
        return Err(DataError::TooLong { path: path.to_owned(), bytes: length, most });
    }
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(length as usize).map_err(std::io::Error::other);
    // If the file grows, no more than its length at opening is read.
    let read = reserved.and_then(|()| file.take(length).read_to_end(&mut bytes));
    read.map_err(DataError::io(path))?;
    Ok(bytes)
}

/// Reads a regular file of text.
///
/// # Errors
/// As [`read`]; [`DataError::Io`] if the bytes are not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let text = String::from_utf8(read(path, MOST_TEXT_BYTES)?);
    text.map_err(|error| DataError::io(path)(std::io::Error::other(error.utf8_error())))
}

/// Reads the lines of a file that are not empty, without the white space around them. There may be
/// `most` of them.
///
/// # Errors
/// As [`read_text`]; [`DataError::Io`] if there are more lines.
pub(crate) fn read_lines(path: &Path, most: usize) -> Result<Vec<String>, DataError> {
    let text = read_text(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.take(most + 1).map(str::to_owned).collect();
    if lines.len() > most {
        let reason = format!("it has more than {most} lines");
        return Err(DataError::io(path)(std::io::Error::other(reason)));
    }
    Ok(lines)
}

fn check_kind(path: &Path, kind: FileType) -> Result<(), DataError> {
    if kind.is_file() {
        Ok(())
    } else {
        Err(DataError::NotAFile { path: path.to_owned(), kind: name(kind) })
    }
}

/// Returns the name of a kind of file that is not a regular file.
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

/// Flushes a temporary file to disk and moves it to `path`, with the usual permissions of a file.
///
/// # Errors
/// [`DataError::NotAFile`] if something else than a file is there, such as a device, which would be
/// replaced; [`DataError::Io`].
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), DataError> {
    if let Ok(found) = fs::metadata(path) {
        check_kind(path, found.file_type())?;
    }
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
