//! State dictionaries as files: read from PyTorch's checkpoints and from safetensors files, written
//! to the latter.

use std::{collections::HashMap, fs, io::Read, path::Path};

use super::{
    description::Description,
    dict::{DESCRIPTION, StateDict},
    pytorch, safetensors,
};
use crate::error::NetworkError;

impl StateDict {
    /// The state as the bytes of a safetensors file, with a checksum of its contents in the
    /// metadata. Equal states are equal bytes.
    ///
    /// # Errors
    /// [`NetworkError::Format`] where the format refuses the entries.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NetworkError> {
        safetensors::write(&self.entries, &self.metadata)
    }

    /// Reads a safetensors file or a PyTorch checkpoint, told apart by their first bytes. Entries
    /// have the names of the file; those of nested dictionaries follow their key and a dot. A whole
    /// module that was saved is read as its state. Floats of 16, 32 and 64 bits, integers and truth
    /// values become floats. Nothing in a file is executed.
    ///
    /// # Errors
    /// [`NetworkError::Io`], [`NetworkError::Format`], [`NetworkError::Pytorch`],
    /// [`NetworkError::Type`], [`NetworkError::TooLarge`] and [`NetworkError::Description`];
    /// [`NetworkError::Checksum`] for a file that carries a checksum and other contents. All with
    /// the path.
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        let io = |source| NetworkError::Io { path: path.to_owned(), source };
        let mut start = Vec::new();
        fs::File::open(path).and_then(|file| file.take(9).read_to_end(&mut start)).map_err(io)?;
        // The length of a JSON header, and its brace.
        let (entries, metadata) = if start.get(8) == Some(&b'{') || start.is_empty() {
            let contents = safetensors::read(&fs::read(path).map_err(io)?, path)?;
            (contents.entries, contents.metadata)
        } else {
            (pytorch::read(path)?, HashMap::new())
        };
        let description = match metadata.get(DESCRIPTION) {
            None => None,
            Some(text) => Description::parse(text)
                .map_err(|source| NetworkError::Description { path: path.to_owned(), source })?,
        };
        let mut state = Self { metadata, description, ..Self::default() };
        for (name, stored, entry) in entries {
            state.types.insert(name.clone(), stored);
            state.entries.insert(name, entry);
        }
        Ok(state)
    }
}
