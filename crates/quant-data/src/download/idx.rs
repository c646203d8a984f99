//! Downloads MNIST and sets in the same format: four gzipped files each, which are read without
//! unpacking them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Limits, remote::Remote};
use crate::error::DataError;

/// The files of a set in MNIST's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxFiles {
    /// The address to which the files' names are appended.
    pub url: String,
    /// Name of each file, with its MD5 checksum in hexadecimal.
    pub files: Vec<(String, String)>,
    /// Names of the classes; empty if the classes are numbers.
    pub classes: Vec<String>,
    /// Number of attempts for each file before giving up, at least 1.
    pub attempts: usize,
    /// Pause before the second attempt; it doubles before every further one.
    pub pause: Duration,
    /// Limits on the time that the server may take for each file, and on the bytes that it may
    /// send.
    pub limits: Limits,
}

/// The names of the files, which are the same in every set.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

impl IdxFiles {
    fn new(url: &str, md5: [&str; 4], classes: &[&str]) -> Self {
        let owned = |text: &str| text.to_owned();
        Self {
            url: owned(url),
            files: FILES.iter().zip(md5).map(|(name, md5)| (owned(name), owned(md5))).collect(),
            classes: classes.iter().map(|name| owned(name)).collect(),
            attempts: 5,
            pause: Duration::from_secs(2),
            // The largest of the files has 26 million bytes.
            limits: Limits::new(64 << 20),
        }
    }

    /// Returns MNIST, handwritten digits (LeCun, Cortes and Burges), from the mirror that
    /// torchvision uses.
    pub fn mnist() -> Self {
        let md5 = [
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ];
        Self::new("https://ossci-datasets.s3.amazonaws.com/mnist/", md5, &[])
    }

    /// Returns Fashion-MNIST, photographs of clothes:
    /// <https://github.com/zalandoresearch/fashion-mnist>.
    pub fn fashion_mnist() -> Self {
        let md5 = [
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ];
        let classes = [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ];
        let url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/";
        Self::new(url, md5, &classes)
    }

    /// Returns KMNIST, cursive Japanese characters: <https://github.com/rois-codh/kmnist>.
    pub fn kmnist() -> Self {
        let md5 = [
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ];
        let classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];
        Self::new("http://codh.rois.ac.jp/kmnist/dataset/kmnist/", md5, &classes)
    }

    /// Downloads the files to `folder`, writes the classes' names to `classes.txt`, and returns the
    /// folder. Files that are already there with the right checksum are not downloaded again.
    /// `progress` is called with the bytes of a file so far and in total, which is 0 if the server
    /// does not send it.
    ///
    /// # Errors
    /// [`DataError::Download`] after the last attempt for a file has failed: the bytes received so
    /// far are kept, and the next call resumes from them. [`DataError::Io`].
    pub fn fetch(
        &self,
        folder: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<PathBuf, DataError> {
        fs::create_dir_all(folder).map_err(DataError::io(folder))?;
        for (name, md5) in &self.files {
            let url = format!("{}/{name}", self.url.trim_end_matches('/'));
            let Self { attempts, pause, limits, .. } = *self;
            let remote = Remote { url: &url, md5, attempts, pause, limits };
            let path = folder.join(name);
            if path.is_file() && remote.is_whole(&path).map_err(DataError::io(&path))? {
                continue;
            }
            let partial = folder.join(format!("{name}.partial"));
            remote.fetch(&partial, &mut progress)?;
            fs::rename(&partial, &path).map_err(DataError::io(&path))?;
        }
        if !self.classes.is_empty() {
            let path = folder.join("classes.txt");
            let mut file =
                tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder))?;
            let names = self.classes.iter().map(|class| format!("{class}\n")).collect::<String>();
            file.write_all(names.as_bytes()).map_err(DataError::io(&path))?;
            crate::files::persist(file, &path)?;
        }
        Ok(folder.to_owned())
    }
}
