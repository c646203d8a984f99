//! CIFAR's official archives: fetched with retries, resumed where they were cut off, checked, and
//! unpacked at once or not at all. What is there and whole is not fetched again.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use md5::{Digest, Md5};

use crate::{dataset::cifar::CifarKind, error::DataError};

/// An archive to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its address.
    pub url: String,
    /// MD5 of the file, in hexadecimal.
    pub md5: String,
    /// The folder it unpacks to.
    pub folder: String,
    /// Files that the folder must hold, and their lengths in bytes.
    pub files: Vec<(String, u64)>,
    /// Attempts before giving up, at least 1.
    pub attempts: usize,
    /// Pause before the second attempt; it doubles with every further one.
    pub pause: Duration,
}

impl Archive {
    /// CIFAR's binary archive, as its page names it: <https://www.cs.toronto.edu/~kriz/cifar.html>.
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
        }
    }

    /// Downloads and unpacks below `folder`, unless all files are there; the unpacked folder. A folder
    /// that lacks files, or holds some of another length, is repaired: those files are replaced, and
    /// what else lies there stays. An archive of this name in `folder` is used, and kept, if its
    /// checksum is right. `progress` is told bytes so far and in all, 0 where the server does not say.
    ///
    /// # Errors
    /// [`DataError::Download`] once every attempt has failed: what has arrived stays and is resumed by
    /// the next call. [`DataError::Io`].
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
        if given.is_file() && self.is_whole(&given).map_err(DataError::io(&given))? {
            self.unpack(&given, folder)?;
            return Ok(unpacked);
        }
        let partial = folder.join(format!("{name}.partial"));
        let mut pause = self.pause;
        let mut failures = Vec::new();
        for attempt in 0..self.attempts.max(1) {
            if attempt > 0 {
                thread::sleep(pause);
                pause *= 2;
            }
            match self.attempt(&partial, &mut progress) {
                Ok(()) => {
                    self.unpack(&partial, folder)?;
                    fs::remove_file(&partial).map_err(DataError::io(&partial))?;
                    return Ok(unpacked);
                }
                Err(reason) => failures.push(reason),
            }
        }
        let (count, last) = (failures.len(), failures.pop().unwrap_or_default());
        let kept = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
        let reason = format!("{count} attempts failed, the last: {last}; {kept} bytes are kept");
        Err(DataError::Download { url: self.url.clone(), reason })
    }

    /// Fetches what is missing, and checks the whole.
    fn attempt(&self, partial: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let mut have = fs::metadata(partial).map_or(0, |metadata| metadata.len());
        // It may have been complete already.
        if have > 0 && self.is_whole(partial).map_err(text)? {
            return Ok(());
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .build()
            .into();
        let mut request = agent.get(&self.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => have = 0,
            206 => {}
            // Nothing beyond what is here, which is not what was meant.
            416 => {
                fs::remove_file(partial).map_err(text)?;
                return Err("the server has fewer bytes than are here; starting anew".into());
            }
            status => return Err(format!("the server answers with status {status}")),
        }
        let length = response.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let total = length.map_or(0, |length| have + length);
        let mut file = OpenOptions::new()
            .create(true)
            .append(have > 0)
            .write(true)
            .truncate(have == 0)
            .open(partial)
            .map_err(text)?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).map_err(text)?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(text)?;
            have += count as u64;
            progress(have, total);
        }
        file.sync_all().map_err(text)?;
        if have < total {
            return Err(format!("cut off after {have} of {total} bytes"));
        }
        if !self.is_whole(partial).map_err(text)? {
            fs::remove_file(partial).map_err(text)?;
            return Err(format!("{have} bytes whose MD5 is not {}: discarded", self.md5));
        }
        Ok(())
    }

    fn is_whole(&self, path: &Path) -> std::io::Result<bool> {
        let (mut file, mut hasher) = (File::open(path)?, Md5::new());
        std::io::copy(&mut file, &mut hasher)?;
        let digest = hasher.finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(hex.eq_ignore_ascii_case(&self.md5))
    }

    /// The files that a folder lacks, or holds with another length.
    fn missing_from(&self, folder: &Path) -> Vec<&str> {
        let is_missing = |(name, length): &&(String, u64)| {
            let file = fs::metadata(folder.join(name));
            !file.is_ok_and(|file| file.is_file() && file.len() == *length)
        };
        self.files.iter().filter(is_missing).map(|(name, _)| name.as_str()).collect()
    }

    /// Unpacks beside, and renames the folder or, where it is there, the files that it lacks.
    fn unpack(&self, path: &Path, folder: &Path) -> Result<(), DataError> {
        let fail = |reason: String| DataError::Download { url: self.url.clone(), reason };
        let file = File::open(path).map_err(DataError::io(path))?;
        let beside = tempfile::tempdir_in(folder).map_err(DataError::io(folder))?;
        // `unpack` writes nothing outside of its target.
        tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(file)))
            .unpack(beside.path())
            .map_err(|error| fail(format!("does not unpack: {error}")))?;
        let (from, to) = (beside.path().join(&self.folder), folder.join(&self.folder));
        if !from.is_dir() {
            return Err(fail(format!("holds no folder {}", self.folder)));
        }
        let missing = self.missing_from(&from);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(fail(format!("holds no such files, or of other lengths: {missing}")));
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
