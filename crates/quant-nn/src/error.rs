//! The errors of configuring, building and loading networks.

use quant_core::QuantizerError;

/// A configuration that is invalid, or a state that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A quantizer's configuration is invalid.
    #[error(transparent)]
    Quantizer(#[from] QuantizerError),
    /// A field of the network's configuration is out of range.
    #[error("network: {field} = {value}: expected {accepted}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        value: String,
        /// The values that would work.
        accepted: &'static str,
    },
    /// Parts of a structure do not fit together.
    #[error("{at}: {reason}")]
    Structure {
        /// The layer or block.
        at: String,
        /// Why it cannot be built.
        reason: String,
    },
    /// A keyword or option of another program has no counterpart.
    #[error("keyword {word:?}: {reason}")]
    Keyword {
        /// The word, as it was given.
        word: String,
        /// The reason why it cannot be used.
        reason: String,
    },
    /// Bytes are not a usable safetensors file.
    #[error("not a usable safetensors file: {0}")]
    Format(#[source] safetensors::SafeTensorError),
    /// Tensors cannot be written as a safetensors file.
    #[error("these tensors cannot be written as a safetensors file: {0}")]
    Unwritable(#[source] safetensors::SafeTensorError),
    /// A line of a renaming file is not a rule, or the rules do not fit the entries.
    #[error("{}{text:?}: {reason}", line.map_or(String::new(), |line| format!("line {line}: ")))]
    Renaming {
        /// The line number, from 1, if the error is about a single line.
        line: Option<usize>,
        /// The text of the line, or the name of the entry.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry of a state file has a type that networks do not use.
    #[error(
        "entry {name} has type {dtype}; expected floats of 16, 32 or 64 bits, integers or truth \
         values"
    )]
    Type {
        /// The name of the entry.
        name: String,
        /// The type of the entry.
        dtype: String,
    },
    /// No entry has a name that begins with a key.
    #[error("no entries below the key {key:?}; the keys are {}", .keys.join(", "))]
    Key {
        /// The key that was asked for.
        key: String,
        /// The first parts of the names of the entries.
        keys: Vec<String>,
    },
    /// A state file describes its network in a way that cannot be read.
    #[error("its description of the network cannot be read: {0}")]
    Description(#[source] serde_json::Error),
    /// The contents of a file do not match its checksum.
    #[error(
        "its checksum is {found}, but its contents have {computed}: the file is damaged, or \
         another program has changed it without removing {key:?} from its metadata"
    )]
    Checksum {
        /// The checksum in the file.
        found: String,
        /// The checksum of the contents.
        computed: String,
        /// Name of the checksum in the metadata.
        key: &'static str,
    },
    /// A state does not fit the network.
    #[error("the state is not one of this network: {report}")]
    State {
        /// The entries that are missing, unused, or of another shape.
        report: String,
    },
}
