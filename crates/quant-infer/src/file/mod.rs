//! The file of a packed network, `.qnet`. `docs/qnet.md` describes it byte by byte.
//!
//! A file has a header of 64 bytes, a description of the network, and the weights, whose codes are
//! packed at their true width. [`Model::from_bytes`] reads it; [`File`] reads it and leaves the
//! weights where they are.
//!
//! Files may come from anybody. A reader compares every length with the bytes that are there before
//! it allocates, and refuses what it does not know.

mod decode;
#[cfg(feature = "std")]
mod disk;
mod encode;
mod integers;
mod layout;
mod pack;
mod reader;
mod rows;
mod tag;
mod view;
mod weights;
mod writer;

pub use layout::{ALIGNMENT, MAGIC, MINOR_VERSION, VERSION, WEIGHT_ALIGNMENT};
pub use pack::Packing;
pub use view::File;
pub use weights::{Elements, NodeBytes};

use alloc::vec::Vec;

use self::{
    layout::{CHECKSUM, HEADER, LENGTH, VERSION_WITHOUT_FORMULAS, checksum},
    writer::Writer,
};
use crate::{Error, model::Model};

impl Model {
    /// The file of this model, which [`Model::check`] must accept: the reader refuses others.
    ///
    /// The file has version 1, unless version 2 saves at least a fiftieth of it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let without = encode::model(self, false);
        let with = encode::model(self, true);
        let [old, new] = [&without, &with].map(|parts| self::length(parts).1);
        if new + new / 50 < old {
            bytes(with, VERSION)
        } else {
            bytes(without, VERSION_WITHOUT_FORMULAS)
        }
    }

    /// Reads a file that [`Model::to_bytes`] wrote, and checks the model.
    ///
    /// # Errors
    /// If the bytes are no file of this format, or are damaged, or have a newer version, or if the
    /// model is not valid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let model = File::parse(bytes)?.into_model()?;
        model.check()?;
        Ok(model)
    }
}

/// Where the weights begin, and the length of the file.
fn length(parts: &Writer) -> (usize, usize) {
    let weights_at = (HEADER + parts.description.len()).next_multiple_of(ALIGNMENT);
    (weights_at, weights_at + parts.weights.len())
}

fn bytes(parts: Writer, version: u16) -> Vec<u8> {
    let (weights_at, length) = length(&parts);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(MAGIC);
    bytes.extend(version.to_le_bytes());
    bytes.extend(MINOR_VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    let numbers = [length, HEADER, parts.description.len(), weights_at, parts.weights.len(), 0];
    bytes.extend(numbers.iter().flat_map(|&number| (number as u64).to_le_bytes()));
    bytes.extend(parts.description);
    bytes.resize(weights_at, 0);
    bytes.extend(parts.weights);
    let checksum = checksum(&bytes);
    bytes[CHECKSUM..LENGTH].copy_from_slice(&checksum.to_le_bytes());
    bytes
}
