//! The lock that allows one process to write in a run's folder.

use std::{
    env,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use crate::error::TrainError;

/// The file in a run's folder that the writing process holds locked.
pub(crate) const FILE: &str = "lock";

/// The right to write in a run's folder. The operating system releases the lock when the process
/// ends, for whatever reason. The file stays.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: File,
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
        Ok(Self { _held: file })
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
