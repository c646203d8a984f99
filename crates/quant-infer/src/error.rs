//! What can go wrong.

use alloc::string::String;
use core::fmt;

/// An error of this crate. Messages are one sentence that says what, where and what would work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or is damaged. The text says what is wrong.
    File(String),
    /// A file has a version of the format that this program does not know.
    Version {
        /// The version of the file.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// A model is not valid.
    Model {
        /// The layer, or the part of the model.
        layer: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An image does not fit the network. The text says what is wrong.
    Image(String),
}

impl Error {
    /// Returns the error of a layer.
    pub(crate) fn model(layer: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Model { layer: layer.into(), problem: problem.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(problem) => write!(f, "the file {problem}"),
            Self::Version { found, known } => write!(
                f,
                "the file has version {found} of the format, and this program knows versions up \
                 to {known}; use a newer version of this program"
            ),
            Self::Model { layer, problem } => {
                write!(f, "the model is not valid: {layer} {problem}")
            }
            Self::Image(problem) => write!(f, "the image {problem}"),
        }
    }
}

impl core::error::Error for Error {}
