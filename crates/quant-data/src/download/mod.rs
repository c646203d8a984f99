//! Downloads of data sets. A download is retried, resumed where it was cut off, and checked, and
//! its files appear complete or not at all. Files that are already there and complete are not
//! downloaded again.

mod idx;
mod limits;
mod remote;

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{dataset::cifar::CifarKind, error::DataError};
pub use idx::IdxFiles;
pub use limits::Limits;
use remote::Remote;

/// An archive to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Address of the archive.
    pub url: String,
    /// MD5 checksum of the archive, in hexadecimal.
    pub md5: String,
    /// Name of the folder in the archive.
    pub folder: String,
    /// Files that the folder must hold, with their lengths in bytes.
    pub files: Vec<(String, u64)>,
    /// Number of attempts before giving up, at least 1.
    pub attempts: usize,
    /// Pause before the second attempt; it doubles before every further one.
    pub pause: Duration,
    /// Limits on the time that the server may take and on the bytes that it may send.
    pub limits: Limits,
}

impl Archive {
    /// Returns CIFAR's binary archive, as described on
    /// <https://www.cs.toronto.edu/~kriz/cifar.html>.
    pub fn cifar(kind: CifarKind) -> Self {
        let (file, md5, folder) = match kind {
            CifarKind::Cifar10 => (
                "cifar-10-binary.tar.gz",
                "c32a1d4ab5d03f1284b67883e8d87530",
                "cifar-10-batches-bin",
            ),
            CifarKind::Cifar100 => {
                ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary")
            }
        };
        let files: &[(&str, u64)] = match kind {
            CifarKind::Cifar10 => &[
                ("data_batch_1.bin", 10_000 * 3073),
                ("data_batch_2.bin", 10_000 * 3073),
                ("data_batch_3.bin", 10_000 * 3073),
                ("data_batch_4.bin", 10_000 * 3073),
                ("data_batch_5.bin", 10_000 * 3073),
                ("test_batch.bin", 10_000 * 3073),
            ],
            CifarKind::Cifar100 => &[("train.bin", 50_000 * 3074), ("test.bin", 10_000 * 3074)],
        };
        Self {
            files: files.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect(),
            url: format!("https://www.cs.toronto.edu/~kriz/{file}"),
            md5: md5.into(),
            folder: folder.into(),
            attempts: 5,
            pause: Duration::from_secs(2),
            // The two archives have 169 and 170 million bytes.
            limits: Limits::new(256 << 20),
        }
    }

    /// Downloads the archive, unpacks it below `folder`, and returns the unpacked folder. Nothing
    /// is downloaded if all files are already there. If the unpacked folder lacks files or holds
    /// files of the wrong length, those files are replaced, and everything else in it stays. If
    /// `folder` already holds an archive of this name with the right checksum, it is used and kept.
    /// `progress` is called with the bytes so far and the total, which is 0 if the server does not
    /// send it.
    ///
    /// # Errors
    /// [`DataError::Download`] after the last attempt has failed: the bytes received so far are
    /// kept, and the next call resumes from them. [`DataError::Io`].
    pub fn fetch(
        &self,
        folder: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<PathBuf, DataError> {
        let unpacked = folder.join(&self.folder);
        if self.missing_from(&unpacked).is_empty() {
            return Ok(unpacked);
        }
        fs::create_dir_all(folder).map_err(DataError::io(folder))?;
        let name = self.url.rsplit('/').next().filter(|name| !name.is_empty());
        let name = name.unwrap_or("archive");
        let given = folder.join(name);
        if given.is_file() && self.remote().is_whole(&given).map_err(DataError::io(&given))? {
            self.unpack(&given, folder)?;
            return Ok(unpacked);
        }
        let partial = folder.join(format!("{name}.partial"));
        self.remote().fetch(&partial, &mut progress)?;
        self.unpack(&partial, folder)?;
        fs::remove_file(&partial).map_err(DataError::io(&partial))?;
        Ok(unpacked)
    }

    fn remote(&self) -> Remote<'_> {
        let Self { url, md5, attempts, pause, limits, .. } = self;
        Remote { url, md5, attempts: *attempts, pause: *pause, limits: *limits }
    }

    /// Returns the files that a folder lacks, or holds with the wrong length.
    fn missing_from(&self, folder: &Path) -> Vec<&str> {
        let is_missing = |(name, length): &&(String, u64)| {
            let file = fs::metadata(folder.join(name));
            !file.is_ok_and(|file| file.is_file() && file.len() == *length)
        };
        self.files.iter().filter(is_missing).map(|(name, _)| name.as_str()).collect()
    }

    /// Unpacks the archive into a temporary folder beside the target. If the target folder does not
    /// exist, the unpacked one is renamed to it; else only missing and damaged files are moved into
    /// it.
    fn unpack(&self, path: &Path, folder: &Path) -> Result<(), DataError> {
        let fail = |reason: String| DataError::Download { url: self.url.clone(), reason };
        let file = File::open(path).map_err(DataError::io(path))?;
        let beside = tempfile::tempdir_in(folder).map_err(DataError::io(folder))?;
        // `unpack` writes nothing outside its target.
        tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(file)))
            .unpack(beside.path())
            .map_err(|error| fail(format!("the archive cannot be unpacked: {error}")))?;
        let (from, to) = (beside.path().join(&self.folder), folder.join(&self.folder));
        if !from.is_dir() {
            return Err(fail(format!("the archive has no folder {}", self.folder)));
        }
        let missing = self.missing_from(&from);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            let reason = "the archive lacks these files, or they have the wrong length";
            return Err(fail(format!("{reason}: {missing}")));
        }
        if !to.exists() {
            return fs::rename(&from, &to).map_err(DataError::io(&to));
        }
        let damaged = self.missing_from(&to);
        for entry in fs::read_dir(&from).map_err(DataError::io(&from))? {
            let name = entry.map_err(DataError::io(&from))?.file_name();
            let target = to.join(&name);
            let is_damaged = damaged.iter().any(|file| name == *file);
            if is_damaged || !target.exists() {
                fs::rename(from.join(&name), &target).map_err(DataError::io(&target))?;
            }
        }
        Ok(())
    }
}
