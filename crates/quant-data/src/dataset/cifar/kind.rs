//! The two CIFAR sets, their parts, and the files that they come in.

/// Side of the images, in pixels.
pub const SIDE: usize = 32;

/// Number of bytes of an image.
pub(super) const IMAGE: usize = 3 * SIDE * SIDE;

/// One of the two data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CifarKind {
    /// CIFAR-10, with ten classes, in `data_batch_1.bin` to `data_batch_5.bin` and
    /// `test_batch.bin`.
    Cifar10,
    /// CIFAR-100, with a hundred fine classes, in `train.bin` and `test.bin`.
    Cifar100,
}

impl CifarKind {
    /// Returns the number of classes.
    pub(super) fn classes(self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
        }
    }

    /// Returns the name of the data set, and its name as an argument of `quant data download`.
    pub(super) fn names(self) -> [&'static str; 2] {
        match self {
            Self::Cifar10 => ["CIFAR-10", "cifar10"],
            Self::Cifar100 => ["CIFAR-100", "cifar100"],
        }
    }
}

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The training part: 50,000 images in the official data set.
    Train,
    /// The test part: 10,000 images in the official data set.
    Test,
}

impl Split {
    /// Returns the number of images in the official data set.
    pub fn images(self) -> usize {
        match self {
            Self::Train => 50_000,
            Self::Test => 10_000,
        }
    }
}

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Binary,
    Python,
}

impl Version {
    /// Returns the name of the folder in the official archive.
    pub(super) fn archive(self, kind: CifarKind) -> &'static str {
        match (self, kind) {
            (Self::Binary, CifarKind::Cifar10) => "cifar-10-batches-bin",
            (Self::Binary, CifarKind::Cifar100) => "cifar-100-binary",
            (Self::Python, CifarKind::Cifar10) => "cifar-10-batches-py",
            (Self::Python, CifarKind::Cifar100) => "cifar-100-python",
        }
    }

    /// Returns the names of the files of a part.
    pub(super) fn files(self, kind: CifarKind, split: Split) -> Vec<String> {
        let names: &[&str] = match (kind, split) {
            (CifarKind::Cifar10, Split::Train) => {
                &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
            }
            (CifarKind::Cifar10, Split::Test) => &["test_batch"],
            (CifarKind::Cifar100, Split::Train) => &["train"],
            (CifarKind::Cifar100, Split::Test) => &["test"],
        };
        let ending = if self == Self::Binary { ".bin" } else { "" };
        names.iter().map(|name| format!("{name}{ending}")).collect()
    }
}
