//! State dictionaries as the bytes of safetensors files.

use super::{
    description::Description,
    dict::{DESCRIPTION, StateDict},
    safetensors,
};
use crate::error::NetworkError;

impl StateDict {
    /// Returns the state as the bytes of a safetensors file, with a checksum of its contents in the
    /// metadata. Equal states give equal bytes.
    ///
    /// # Errors
    /// [`NetworkError::Unwritable`] if the format does not accept the entries.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NetworkError> {
        safetensors::write(&self.entries, &self.metadata)
    }

    /// Reads the bytes of a safetensors file. Floats of 16, 32 and 64 bits, integers and truth
    /// values become 32-bit floats.
    ///
    /// # Errors
    /// [`NetworkError::Format`] if the bytes are not those of such a file; [`NetworkError::Type`]
    /// if an entry has another type; [`NetworkError::Checksum`] if the file has a checksum and its
    /// contents do not match it; [`NetworkError::Description`] if its description of a network
    /// cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NetworkError> {
        let contents = safetensors::read(bytes)?;
        let description = match contents.metadata.get(DESCRIPTION) {
            None => None,
            Some(text) => Description::parse(text).map_err(NetworkError::Description)?,
        };
        let state = Self::from_typed_entries(contents.entries);
        Ok(Self { metadata: contents.metadata, description, ..state })
    }
}
