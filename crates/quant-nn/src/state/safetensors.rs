//! The safetensors format. All types of numbers of 8 bits and more are read, apart from 8-bit
//! floats and complex numbers. All tensors are written as 32-bit floats.
//!
//! A file that is written here has a CRC-32C of its contents in its metadata, and the fields of its
//! header are in alphabetical order. Files of other programs need neither.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{Bytes, DType, TensorData};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::error::NetworkError;

/// The contents of a file.
pub(super) struct Contents {
    /// The name of each tensor, the type that it has in the file, and its numbers.
    pub(super) entries: Vec<(String, String, Entry)>,
    /// The texts in the header.
    pub(super) metadata: HashMap<String, String>,
}

/// The name of the checksum in the metadata.
const CHECKSUM: &str = "quant_nn_checksum";

/// The header of a file.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

/// The type of a tensor, its shape, and the range of its bytes in the data.
#[derive(Serialize, Deserialize)]
struct TensorInfo {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Header {
    /// Splits a file into its header and its data. Returns `None` if the file is shorter than its
    /// first eight bytes say.
    fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
    }

    /// Returns the checksum of the header, which must not have a checksum yet, and of the data.
    fn checksum(&self, data: &[u8]) -> Result<String, serde_json::Error> {
        let header = crc32c::crc32c(&serde_json::to_vec(self)?);
        Ok(format!("crc32c:{:08x}", crc32c::crc32c_append(header, data)))
    }

    /// Returns the bytes of a file with this header and these data.
    fn file(&self, data: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut header = serde_json::to_vec(self)?;
        // The format wants the data to begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
    }
}

/// Compares `found`, the checksum in a file, with the checksum of its contents.
fn verify(bytes: &[u8], found: &str) -> Result<(), NetworkError> {
    let computed = Header::split(bytes).and_then(|(header, data)| {
        let mut header: Header = serde_json::from_slice(header).ok()?;
        header.metadata.remove(CHECKSUM);
        header.checksum(data).ok()
    });
    let computed = computed.unwrap_or_else(|| "none".into());
    if computed == found {
        return Ok(());
    }
    Err(NetworkError::Checksum { found: found.to_owned(), computed, key: CHECKSUM })
}

/// Reads the bytes of a file.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, NetworkError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(NetworkError::Format)?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    if let Some(found) = metadata.remove(CHECKSUM) {
        verify(bytes, &found)?;
    }
    let file = SafeTensors::deserialize(bytes).map_err(NetworkError::Format)?;
    let mut entries = Vec::new();
    for (name, view) in file.iter() {
        let stored = format!("{:?}", view.dtype());
        let Some(dtype) = burn_type(view.dtype()) else {
            return Err(NetworkError::Type { name: name.to_owned(), dtype: stored });
        };
        let shape = view.shape().to_vec();
        let bytes = Bytes::from_bytes_vec(view.data().to_vec());
        let values = TensorData::from_bytes(bytes, shape.clone(), dtype);
        let values = values.convert::<f32>().iter().collect();
        entries.push((name.to_owned(), stored, Entry { shape, values }));
    }
    Ok(Contents { entries, metadata })
}

/// Returns the bytes of a file with these entries and these texts.
pub(super) fn write(
    entries: &BTreeMap<String, Entry>,
    metadata: &HashMap<String, String>,
) -> Result<Vec<u8>, NetworkError> {
    let bytes: Vec<(&String, &Entry, Vec<u8>)> = entries
        .iter()
        .map(|(name, entry)| {
            let bytes = entry.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, entry, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, entry, bytes)| {
            let view = TensorView::new(Dtype::F32, entry.shape.clone(), bytes);
            view.map(|view| (name.as_str(), view)).map_err(NetworkError::Unwritable)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let file = safetensors::serialize(views, Some(metadata.clone()));
    let file = file.map_err(NetworkError::Unwritable)?;
    // The library writes the texts in no fixed order, and equal states should give equal files.
    let split = Header::split(&file).ok_or(SafeTensorError::InvalidHeaderLength);
    let (header, data) = split.map_err(NetworkError::Unwritable)?;
    let json =
        |source| NetworkError::Unwritable(SafeTensorError::InvalidHeaderDeserialization(source));
    let mut header: Header = serde_json::from_slice(header).map_err(json)?;
    let checksum = header.checksum(data).map_err(json)?;
    header.metadata.insert(CHECKSUM.to_owned(), checksum);
    header.file(data).map_err(json)
}

/// Returns Burn's name of a type. Truth values are stored as bytes of 0 and 1. It is `None` for
/// floats of 8 bits and fewer and for complex numbers, which are not read.
fn burn_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I64 => Some(DType::I64),
        Dtype::I32 => Some(DType::I32),
        Dtype::I16 => Some(DType::I16),
        Dtype::I8 => Some(DType::I8),
        Dtype::U64 => Some(DType::U64),
        Dtype::U32 => Some(DType::U32),
        Dtype::U16 => Some(DType::U16),
        Dtype::U8 | Dtype::BOOL => Some(DType::U8),
        _ => None,
    }
}
