//! Downloads one file from a server, with retries, resuming and a check of its checksum.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
    thread,
    time::Duration,
};

use md5::{Digest, Md5};

use super::Limits;
use crate::error::DataError;

/// A file on a server.
pub(super) struct Remote<'a> {
    /// Address of the file.
    pub(super) url: &'a str,
    /// MD5 checksum of the file, in hexadecimal.
    pub(super) md5: &'a str,
    /// Number of attempts before giving up, at least 1.
    pub(super) attempts: usize,
    /// Pause before the second attempt; it doubles before every further one.
    pub(super) pause: Duration,
    /// Limits on the time that the server may take and on the bytes that it may send.
    pub(super) limits: Limits,
}

impl Remote<'_> {
    /// Downloads the file to `partial`, which may already hold a part of it. `progress` is called
    /// with the bytes so far and the total, which is 0 if the server does not send it.
    ///
    /// # Errors
    /// [`DataError::Download`] after the last attempt has failed: the bytes received so far are
    /// kept.
    pub(super) fn fetch(
        &self,
        partial: &Path,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<(), DataError> {
        let mut pause = self.pause;
        let mut failures = Vec::new();
        for attempt in 0..self.attempts.max(1) {
            if attempt > 0 {
                thread::sleep(pause);
                pause = pause.saturating_mul(2);
            }
            match self.attempt(partial, progress) {
                Ok(()) => return Ok(()),
                Err(reason) => failures.push(reason),
            }
        }
        let (count, last) = (failures.len(), failures.pop().unwrap_or_default());
        let kept = fs::metadata(partial).map_or(0, |metadata| metadata.len());
        let reason =
            format!("{count} attempts failed, the last one with: {last}; {kept} bytes are kept");
        Err(DataError::Download { url: self.url.to_owned(), reason })
    }

    /// Downloads the missing part, and checks the whole file.
    fn attempt(&self, partial: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let mut have = fs::metadata(partial).map_or(0, |metadata| metadata.len());
        // The file may already be complete.
        if have > 0 && self.is_whole(partial).map_err(text)? {
            return Ok(());
        }
        if have > self.limits.most_bytes {
            fs::remove_file(partial).map_err(text)?;
            have = 0;
        }
        let agent = self.agent();
        let mut request = agent.get(self.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => have = 0,
            206 => {}
            // The partial file is longer than the server's file, so it must be a different file.
            416 => {
                fs::remove_file(partial).map_err(text)?;
                return Err("the server's file is shorter than the part that is here, \
                            which is discarded"
                    .into());
            }
            status => return Err(format!("the server answers with status {status}")),
        }
        let length = response.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let total = length.map_or(Ok(0), |length| self.total(have, length))?;
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
            have += count as u64;
            if have > self.limits.most_bytes {
                fs::remove_file(partial).map_err(text)?;
                let most = self.limits.most_bytes;
                return Err(format!(
                    "the server sends more than the {most} bytes that the file may have; \
                     they are discarded"
                ));
            }
            file.write_all(&buffer[..count]).map_err(text)?;
            progress(have, total);
        }
        file.sync_all().map_err(text)?;
        if have < total {
            return Err(format!("the connection was cut off after {have} of {total} bytes"));
        }
        if !self.is_whole(partial).map_err(text)? {
            fs::remove_file(partial).map_err(text)?;
            let reason = format!("the MD5 of the {have} bytes is not {}", self.md5);
            return Err(format!("{reason}; they are discarded"));
        }
        Ok(())
    }

    /// Returns the HTTP client with the time limits set.
    fn agent(&self) -> ureq::Agent {
        let Limits { connect, stall, whole, .. } = self.limits;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            .timeout_recv_body(Some(whole));
        config.build().into()
    }

    /// Returns the length of the whole file in bytes, when `have` bytes are here and the server
    /// announces `announced` more.
    fn total(&self, have: u64, announced: u64) -> Result<u64, String> {
        let most = self.limits.most_bytes;
        let total = have.checked_add(announced).filter(|total| *total <= most);
        total.ok_or_else(|| {
            format!("the server announces {announced} bytes: the file may have {most} in all")
        })
    }

    /// Returns whether a file has the right checksum.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn is_whole(&self, path: &Path) -> std::io::Result<bool> {
        let (mut file, mut hasher) = (File::open(path)?, Md5::new());
        std::io::copy(&mut file, &mut hasher)?;
        let digest = hasher.finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(hex.eq_ignore_ascii_case(self.md5))
    }
}
