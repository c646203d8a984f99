//! Files that appear complete or not at all, and JSON with a checksum by which damage is found.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::TrainError;

/// The names of files and folders that are not complete yet begin with this.
const PARTIAL: &str = ".partial-";

/// Writes a file beside `path`, flushes it to disk, and renames it to `path`. If `path` is a link
/// to a file, that file is written. Its folder has to exist: no folder is made for a mistyped name,
/// and the folder of a run that was deleted while the run writes into it is not made again.
///
/// # Errors
/// [`TrainError::Io`], also if there is something else than a file at `path`, such as a device,
/// which a rename would replace. What was at `path` before is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let target = target(path).map_err(TrainError::io(path))?;
    let path = target.as_path();
    let folder = folder_of(path);
    if !folder.is_dir() {
        let reason = "there is no such folder to write the file into; make it first";
        return Err(TrainError::io(folder)(io::Error::new(io::ErrorKind::NotFound, reason)));
    }
    let temporary = builder(0o666).tempfile_in(folder);
    let mut file = temporary.map_err(plain).map_err(TrainError::io(path))?;
    file.as_file_mut().write_all(bytes).map_err(TrainError::io(path))?;
    file.as_file().sync_all().map_err(TrainError::io(path))?;
    file.persist(path).map_err(|error| TrainError::io(path)(error.error))?;
    sync_folder(folder).map_err(TrainError::io(folder))
}

/// Returns the path of the file that is written where `path` is asked for: what a link leads to, or
/// `path` itself.
///
/// # Errors
/// If there is something that is not a file, or a link that leads to nothing.
fn target(path: &Path) -> io::Result<PathBuf> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(path.to_owned()) };
    let target = if found.is_symlink() {
        let nothing = |error: io::Error| {
            let reason = format!("it is a link that leads to no file ({error}); remove it");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        };
        fs::canonicalize(path).map_err(nothing)?
    } else {
        path.to_owned()
    };
    if target.is_dir() {
        let reason = "it is a folder, and a file is to be written here; remove or rename it";
        return Err(io::Error::new(io::ErrorKind::IsADirectory, reason));
    }
    check_regular(&target)?;
    Ok(target)
}

/// Returns the error of the operating system without the path that `tempfile` adds: the name of a
/// temporary file means nothing to a reader.
fn plain(error: io::Error) -> io::Error {
    // The error of the system is inside the one that has the path.
    let code = error.get_ref().and_then(|inner| inner.source()?.downcast_ref::<io::Error>());
    match code.and_then(io::Error::raw_os_error).or(error.raw_os_error()) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

/// Writes `files`, each with its name and content, into a new folder that appears complete at
/// `path`. The folder around it has to exist.
///
/// # Errors
/// [`TrainError::Io`]. No incomplete folder is then left.
pub fn write_folder(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), TrainError> {
    let parent = folder_of(path);
    let partial = partial_folder(parent).map_err(TrainError::io(path))?;
    for (name, bytes) in files {
        // Errors name the final path, because the name of the temporary folder means nothing.
        let shown = path.join(name);
        let mut file = File::create(partial.path().join(name)).map_err(TrainError::io(&shown))?;
        file.write_all(bytes).map_err(TrainError::io(&shown))?;
        file.sync_all().map_err(TrainError::io(&shown))?;
    }
    sync_folder(partial.path()).map_err(TrainError::io(path))?;
    if fs::symlink_metadata(path).is_ok() {
        remove(path)?;
    }
    fs::rename(partial.path(), path).map_err(TrainError::io(path))?;
    let _moved_away = partial.keep();
    sync_folder(parent).map_err(TrainError::io(parent))
}

/// Removes a file, or a folder with all that is in it. A folder first gets a name that marks it as
/// incomplete, so that a process that is killed meanwhile does not leave half of it.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn remove(path: &Path) -> Result<(), TrainError> {
    let failed = TrainError::io(path);
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return fs::remove_file(path).map_err(failed);
    }
    let parent = folder_of(path);
    let grave = partial_folder(parent).and_then(|grave| {
        fs::rename(path, grave.path().join("removed"))?;
        Ok(grave)
    });
    match grave {
        // Dropping it would hide an error.
        Ok(grave) => grave.close().map_err(failed),
        // There may be no place for another folder on a full disk.
        Err(_) => fs::remove_dir_all(path).map_err(failed),
    }
}

/// Makes the folder `below` in `parent` with the folders between them, as far as they are missing.
///
/// # Errors
/// [`TrainError::Io`], also where `parent` does not exist.
pub(crate) fn make_folders(parent: &Path, below: impl AsRef<Path>) -> Result<PathBuf, TrainError> {
    let mut folder = parent.to_owned();
    for name in below.as_ref() {
        folder.push(name);
        match fs::create_dir(&folder) {
            Err(error) if !folder.is_dir() => return Err(TrainError::io(&folder)(error)),
            _ => {}
        }
    }
    Ok(folder)
}

/// Makes a folder below `parent` whose name marks it as incomplete. It is removed when the returned
/// value is dropped.
pub(crate) fn partial_folder(parent: &Path) -> io::Result<tempfile::TempDir> {
    builder(0o777).tempdir_in(parent).map_err(plain)
}

/// Returns whether the name of a file or folder marks it as incomplete. The process that writes it
/// may have ended, or it may still be writing.
pub(crate) fn is_partial(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PARTIAL.as_bytes())
}

/// Removes the incomplete files and folders that killed processes have left in a folder and below
/// it. No other process may be writing there.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn remove_partial(folder: &Path) -> Result<(), TrainError> {
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let entry = entry.map_err(TrainError::io(folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(TrainError::io(folder))?);
        match (is_partial(&entry.file_name()), kind.is_dir()) {
            (true, true) => fs::remove_dir_all(&path).map_err(TrainError::io(&path))?,
            (true, false) => fs::remove_file(&path).map_err(TrainError::io(&path))?,
            (false, true) => remove_partial(&path)?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// Flushes a folder to disk, so that renames in it persist if the machine stops. File systems that
/// cannot flush folders are not an error.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Err(error) = File::open(folder)?.sync_all()
        && !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
    {
        return Err(error);
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Returns the checksum of `bytes` as it is written in files. It is CRC-32C, which detects every
/// change within 32 neighbouring bits, and all but one in 2^32 of the other changes.
pub fn checksum(bytes: &[u8]) -> String {
    format!("crc32c:{:08x}", crc32c::crc32c(bytes))
}

const SEAL: &str = "\"checksum\": \"crc32c:";
const DIGITS: usize = 8;

/// Returns the JSON text of a value that is a JSON object, with one more field at its end: the
/// checksum of the whole text, which is computed with zeros as the digits of the checksum.
///
/// # Errors
/// The error of a value that JSON cannot express, such as a path that is not UTF-8.
pub fn sealed(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value)?;
    // The field goes before the end of the object.
    let end = text.strip_suffix("\n}").map_or(0, str::len);
    text.truncate(end);
    text.push_str(&format!(",\n  {SEAL}{:0DIGITS$}\"\n}}\n", 0));
    let mut bytes = text.into_bytes();
    if let Some(place) = seal(&bytes) {
        let sum = format!("{:08x}", crc32c::crc32c(&bytes));
        bytes[place..place + DIGITS].copy_from_slice(sum.as_bytes());
    }
    Ok(bytes)
}

/// Writes a value as [`sealed`] JSON, as [`write`](fn@write) does.
///
/// # Errors
/// [`TrainError::Io`], also with the error of [`sealed`].
pub(crate) fn write_sealed(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let bytes = sealed(value).map_err(|error| TrainError::io(path)(error.into()))?;
    write(path, &bytes)
}

/// Reads a regular file, or a link to one. Other files are refused without waiting: the bytes of a
/// named pipe come from a writer that may never appear.
///
/// # Errors
/// The error of the file system, or a text that says what the path is.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    check_regular(path)?;
    fs::read(path)
}

/// Checks that a path is a regular file, or a link to one.
///
/// # Errors
/// As [`read`].
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() { "it is a folder" } else { "it is a pipe, a socket or a device" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}, and a file is expected")))
}

/// Returns the position of the checksum's digits.
fn seal(bytes: &[u8]) -> Option<usize> {
    let mut places = bytes.windows(SEAL.len());
    let place = places.rposition(|window| window == SEAL.as_bytes())? + SEAL.len();
    (place + DIGITS <= bytes.len()).then_some(place)
}

/// Returns whether there is a checksum. Older versions of the program wrote none.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    seal(bytes).is_some()
}

/// Reads the value from the text that [`sealed`] returned.
///
/// # Errors
/// The reason: the text has no checksum, its checksum is wrong, or it is not such a value.
pub(crate) fn unsealed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let place = seal(bytes).ok_or("it has no checksum: the file was cut off or damaged")?;
    let mut zeroed = bytes.to_vec();
    zeroed[place..place + DIGITS].fill(b'0');
    let sum = format!("{:08x}", crc32c::crc32c(&zeroed));
    if bytes[place..place + DIGITS] != *sum.as_bytes() {
        return Err("its checksum is wrong: the file is damaged".into());
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Returns a builder of temporary files and folders, with the permissions of ordinary ones (less
/// the umask).
fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Numbers {
        name: String,
        values: Vec<f64>,
        last: Last,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Last {
        count: usize,
    }

    #[test]
    fn any_single_damage_to_sealed_json_is_found() {
        let numbers = Numbers {
            name: "a \"checksum\": b".into(),
            values: vec![0.1, 1e-300, 7.0],
            last: Last { count: 3 },
        };
        let bytes = sealed(&numbers).unwrap();
        assert_eq!(unsealed::<Numbers>(&bytes).unwrap(), numbers);
        let text: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert!(text["checksum"].as_str().unwrap().starts_with("crc32c:"));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(unsealed::<Numbers>(&damaged).is_err(), "byte {at}, bit {bit}");
            }
            assert!(unsealed::<Numbers>(&bytes[..at]).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn a_file_that_a_user_names_is_written_into_a_folder_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("absent/a.qnet"), b"x").unwrap_err();
        assert!(error.to_string().contains("absent: there is no such folder"), "{error}");
        assert!(!folder.path().join("absent").exists());
        write(&folder.path().join("a.qnet"), b"x").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let error = write(&folder.path().join("b"), b"x").unwrap_err().to_string();
        assert!(error.contains("it is a folder"), "{error}");
    }

    #[test]
    fn folders_are_made_below_one_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let made = make_folders(folder.path(), "phase/checkpoints").unwrap();
            assert_eq!(made, folder.path().join("phase/checkpoints"));
            assert!(made.is_dir());
        }
        let absent = folder.path().join("absent");
        make_folders(&absent, "phase").unwrap_err();
        assert!(!absent.exists());
        write_folder(&absent.join("phase"), &[("a", Vec::new())]).unwrap_err();
        assert!(!absent.exists());
        write(&folder.path().join("a"), b"x").unwrap();
        make_folders(folder.path(), "a/phase").unwrap_err();
    }

    #[test]
    fn what_was_left_incomplete_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("phase/checkpoints");
        fs::create_dir_all(inner.join(".partial-1")).unwrap();
        fs::write(inner.join(".partial-1/network.bpk"), "half").unwrap();
        fs::write(folder.path().join(".partial-2"), "half").unwrap();
        fs::write(folder.path().join("phase/best.partial-3"), "a user's").unwrap();
        remove_partial(folder.path()).unwrap();
        assert!(fs::read_dir(&inner).unwrap().next().is_none());
        assert!(!folder.path().join(".partial-2").exists());
        assert!(folder.path().join("phase/best.partial-3").is_file());
    }
}
