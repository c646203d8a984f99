//! The lock that allows one process to write in a run's folder.

use std::{
    env,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::error::TrainError;

/// The file in a run's folder that the writing process holds locked.
pub(crate) const FILE: &str = "lock";

/// The right to write in a run's folder. The operating system releases the lock when the process
/// ends, for whatever reason. The file stays.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: PathBuf,
    held: File,
}

/// Notices when the folder of a run is no longer the one whose lock was taken, because it was
/// deleted, moved or replaced.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    folder: PathBuf,
    lock: Option<FileId>,
}

/// What identifies a file of a file system, however it is named.
type FileId = (u64, u64);

#[cfg(unix)]
fn file_id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &Metadata) -> Option<FileId> {
    None
}

impl Guard {
    /// Checks that the folder is still the one whose lock was taken.
    ///
    /// # Errors
    /// [`TrainError::Gone`].
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let found = fs::metadata(self.folder.join(FILE));
        match found {
            Ok(found) if self.lock.is_none() || file_id(&found) == self.lock => Ok(()),
            _ => Err(TrainError::Gone { path: self.folder.clone() }),
        }
    }
}

impl Lock {
    /// Takes the lock of a folder, and writes into it which process holds it.
    ///
    /// # Errors
    /// [`TrainError::InUse`] where another process holds the lock; [`TrainError::Io`].
    pub(crate) fn take(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(FILE);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(TrainError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // On some systems a locked file cannot be read. The message then does not name its
                // holder.
                let _ = file.take(1000).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    holder => holder.to_owned(),
                };
                return Err(TrainError::InUse { path: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(TrainError::io(path)(error)),
        }
        let text = format!("process {} ({})\n", std::process::id(), command());
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| file.write_all(text.as_bytes())).map_err(TrainError::io(path))?;
        Ok(Self { folder: folder.to_owned(), held: file })
    }
}

impl Lock {
    /// Returns the guard of the folder.
    pub(crate) fn guard(&self) -> Guard {
        let lock = self.held.metadata().ok().and_then(|metadata| file_id(&metadata));
        Guard { folder: self.folder.clone(), lock }
    }
}

/// Returns the command line of this program, cut to 200 characters.
fn command() -> String {
    let words: Vec<String> =
        env::args_os().map(|word| word.to_string_lossy().escape_debug().to_string()).collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        Lock::take(folder.path()).unwrap();
    }
}
