//! What can go wrong when a network is configured, built or loaded.

use std::path::PathBuf;

use quant_core::QuantizerError;

/// An invalid configuration or an unusable state file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A quantizer's configuration is invalid.
    #[error(transparent)]
    Quantizer(#[from] QuantizerError),
    /// A field of the network's configuration is out of range.
    #[error("network: {field} = {value}: expected {accepted}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would work.
        accepted: &'static str,
    },
    /// Parts of a structure do not fit together.
    #[error("{at}: {reason}")]
    Structure {
        /// Where: a layer or block.
        at: String,
        /// Why not.
        reason: String,
    },
    /// A keyword or option of another program has no counterpart.
    #[error("keyword {word:?}: {reason}")]
    Keyword {
        /// The word.
        word: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error that caused it.
        source: std::io::Error,
    },
    /// A file is not a usable safetensors file.
    #[error("{path}: not a usable safetensors file: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The error that caused it.
        source: safetensors::SafeTensorError,
    },
    /// A file is not a usable PyTorch checkpoint.
    #[error("{path}: not a usable PyTorch checkpoint, or one that is cut short: {source}")]
    Pytorch {
        /// The file.
        path: PathBuf,
        /// The error that caused it.
        source: pytorch_reader::PytorchError,
    },
    /// A line of a renaming file is no rule, or its rules do not fit the entries.
    #[error("{}{text:?}: {reason}", line.map_or(String::new(), |line| format!("line {line}: ")))]
    Renaming {
        /// Number of the line, from 1, where it is about one.
        line: Option<usize>,
        /// The line, or the name.
        text: String,
        /// Why not.
        reason: String,
    },
    /// An entry of a state file has a type that networks do not use.
    #[error(
        "{path}: entry {name} has type {dtype}; expected floats of 16, 32 or 64 bits, integers or truth values"
    )]
    Type {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// No entries lie below a key.
    #[error("no entries below the key {key:?}; the keys are {}", .keys.join(", "))]
    Key {
        /// The key that was asked for.
        key: String,
        /// The first parts of the entries' names.
        keys: Vec<String>,
    },
    /// What a state file says of its network cannot be read.
    #[error("{path}: what it says of its network cannot be read: {source}")]
    Description {
        /// The file.
        path: PathBuf,
        /// The error that caused it.
        source: serde_json::Error,
    },
    /// A file claims more numbers than it can hold.
    #[error(
        "{path}: its tensors claim {claimed} numbers; {bound} are accepted of a file of {length} bytes"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What its tensors come to.
        claimed: u128,
        /// What is accepted.
        bound: u64,
        /// The length of the file.
        length: u64,
    },
    /// A file's contents are not what was written.
    #[error(
        "{path}: its checksum is {found}, but its contents have {computed}: the file is damaged, or \
         another program has changed it without removing {key:?} from its metadata"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum that it carries.
        found: String,
        /// That of its contents.
        computed: String,
        /// Name of the checksum in the metadata.
        key: &'static str,
    },
    /// A state does not fit the network.
    #[error("the state is not one of this network: {report}")]
    State {
        /// What was missing, unused, or of another shape.
        report: String,
    },
}
